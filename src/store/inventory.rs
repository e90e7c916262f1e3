//! Finding certificates among a million. Every listing follows an index: a page costs what it shows,
//! not what there is.
//!
//! A search compares the beginning of subject, e-mail address, device name or serial, in lower case.
//! Beginnings are ranges of an index on both databases; words in the middle would need FTS5 on the one
//! and pg_trgm on the other, which differ in what they find, and which not every server has.

mod place;

use std::collections::HashMap;

use entity::{certificate, device};
use sea_orm::sea_query::{Expr, ExprTrait, SimpleExpr};
use sea_orm::{ColumnTrait, Condition, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, Select};

use super::certificates::{Certificate, Standing, read};
use super::{Store, StoreError};
use crate::domain::{DeviceId, PersonId, UtcTime};
use place::{Order, PARTS, Part};
pub use place::{ParsePlaceError, Place};

/// What a search compares a text by.
pub(in crate::store) fn search_key(text: &str) -> String {
    text.trim().to_lowercase()
}

/// What a listing is sorted by. Equals come by serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The serial.
    Serial,
    /// When it was issued.
    IssuedAt,
    /// When it ends.
    NotAfter,
    /// When it was revoked.
    RevokedAt,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// Greatest first.
    pub descending: bool,
}

impl Sort {
    /// The orders that an index gives for certificates of this standing; the first is the usual one.
    pub const fn of(standing: Option<Standing>) -> &'static [Self] {
        const SERIAL: Sort = Sort { by: SortBy::Serial, descending: false };
        const ISSUED: Sort = Sort { by: SortBy::IssuedAt, descending: false };
        const ENDS: Sort = Sort { by: SortBy::NotAfter, descending: false };
        const REVOKED: Sort = Sort { by: SortBy::RevokedAt, descending: false };
        match standing {
            None => const { &[SERIAL, SERIAL.reversed(), ISSUED, ISSUED.reversed()] },
            Some(Standing::Active) => const { &[ENDS, ENDS.reversed()] },
            Some(Standing::Expired) => const { &[ENDS.reversed(), ENDS] },
            Some(Standing::Revoked) => const { &[REVOKED.reversed(), REVOKED] },
        }
    }

    const fn reversed(self) -> Self {
        Self { by: self.by, descending: !self.descending }
    }
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// Only of this standing, at `now` of the call.
    pub standing: Option<Standing>,
    /// Only of this person.
    pub person: Option<PersonId>,
    /// Only of this device.
    pub device: Option<DeviceId>,
    /// Only what begins like this.
    pub search: Option<String>,
    /// In this order; a search of everyone's comes by what was found, whatever this says.
    pub sort: Sort,
    /// Only what comes after this place.
    pub after: Option<Place>,
}

/// A certificate of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The certificate.
    pub certificate: Certificate,
    /// What its device is called now.
    pub device_name: String,
    /// Where it stands in the listing.
    pub place: Place,
}

impl Inquiry {
    /// A search in one person's or device's certificates filters these few; a search in everyone's
    /// follows the indexes of what is searched.
    fn is_search_of_all(&self) -> bool {
        self.search.is_some() && self.person.is_none() && self.device.is_none()
    }

    /// The certificates of this standing, person and device.
    fn base(&self, now: UtcTime) -> Select<certificate::Entity> {
        use certificate::Column;
        let now = now.as_unix();
        // One bound for the index to seek by: of two, SQLite takes the first.
        let at = self.after.as_ref().filter(|_| self.sort.by == SortBy::NotAfter).and_then(Place::number);
        let at = at.filter(|_| !self.is_search_of_all());
        let mut query = certificate::Entity::find();
        query = match (self.standing, self.sort.descending) {
            (None, _) => query,
            (Some(Standing::Active), descending) => {
                let from = at.filter(|_| !descending).map_or(now, |at| std::cmp::max(at, now));
                query.filter(Column::RevokedAt.is_null()).filter(Column::NotAfter.gte(from))
            }
            (Some(Standing::Revoked), _) => query.filter(Column::RevokedAt.is_not_null()),
            (Some(Standing::Expired), descending) => {
                let below =
                    at.filter(|_| descending).map_or(now, |at| std::cmp::min(now, at.saturating_add(1)));
                query.filter(Column::RevokedAt.is_null()).filter(Column::NotAfter.lt(below))
            }
        };
        if let Some(person) = self.person {
            query = query.filter(Column::PersonId.eq(person.to_string()));
        }
        if let Some(device) = self.device {
            query = query.filter(Column::DeviceId.eq(device.to_string()));
        }
        query
    }
}

/// `column` begins with `prefix` and is not before `from`: a range, in the order of code points.
fn begins(column: impl ColumnTrait, prefix: &str, from: &str) -> SimpleExpr {
    column.gte(std::cmp::max(prefix, from)).and(column.lt(format!("{prefix}{}", char::MAX)))
}

/// The same of serials. No digit comes after `g`, whatever language the column is sorted by.
fn serial_begins(prefix: &str, from: &str) -> SimpleExpr {
    let column = certificate::Column::Serial;
    column.gte(std::cmp::max(prefix, from)).and(column.lt(format!("{prefix}g")))
}

/// What a search compares serials with, if it can be the beginning of one.
fn serial_prefix(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let can_be = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    can_be.then_some(digits)
}

impl Part {
    /// Whether a certificate is found by this part, at or behind `from`; those of [`Part::Device`] need
    /// the device joined.
    fn matches(self, text: &str, from: &str) -> Option<SimpleExpr> {
        use certificate::Column;
        match self {
            Self::Serial => serial_prefix(text).map(|digits| serial_begins(&digits, from)),
            Self::Subject => Some(begins(Column::SubjectKey, text, from)),
            Self::Email => Some(begins(Column::EmailKey, text, from)),
            Self::Device => Some(begins(device::Column::NameKey, text, from)),
        }
    }
}

impl Store {
    /// Certificates that `inquiry` asks for, at most `limit`, in its order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn inventory(
        &self,
        inquiry: &Inquiry,
        limit: u64,
        now: UtcTime,
    ) -> Result<Vec<Listed>, StoreError> {
        let search = inquiry.search.as_deref().map(search_key);
        let found = match &search {
            Some(text) if inquiry.is_search_of_all() => self.found(inquiry, text, limit, now).await?,
            _ => {
                let mut query = inquiry.base(now);
                if let Some(text) = &search {
                    query = join_device(query).filter(any_part(text));
                }
                let rows = sorted(query, inquiry).limit(limit).all(self.reader()).await?;
                rows.into_iter().map(|row| (Order::Sorted(inquiry.sort.by), row)).collect()
            }
        };
        let names = self.device_names(found.iter().map(|(_, row)| row.device_id.clone()).collect()).await?;
        found.into_iter().map(|(order, row)| listed(order, row, &names)).collect()
    }

    /// What is found, part by part, until the page is full.
    async fn found(
        &self,
        inquiry: &Inquiry,
        text: &str,
        limit: u64,
        now: UtcTime,
    ) -> Result<Vec<(Order, certificate::Model)>, StoreError> {
        let mut found: Vec<(Order, certificate::Model)> = Vec::new();
        let from = inquiry.after.as_ref().and_then(|after| match after.order {
            Order::Found(part) => Some((part, after)),
            Order::Sorted(_) => None,
        });
        for part in PARTS {
            let missing = limit.saturating_sub(found.len() as u64);
            if missing == 0 {
                break;
            }
            if from.as_ref().is_some_and(|(first, _)| part < *first) {
                continue;
            }
            let after = from.as_ref().filter(|(first, _)| *first == part).map(|(_, after)| *after);
            let Some(matches) = part.matches(text, &after.map(Place::seek).unwrap_or_default()) else {
                continue;
            };
            let mut query = inquiry.base(now);
            if part == Part::Device {
                query = join_device(query);
            }
            query = query.filter(matches);
            // Nothing is shown twice.
            for earlier in PARTS.iter().filter(|earlier| **earlier < part) {
                if let Some(shown) = earlier.matches(text, "") {
                    query = query.filter(shown.not());
                }
            }
            // The serials alone first: the index has all that this asks for, and most rows are not read.
            let serials = in_part(query, part, after).limit(missing).select_only();
            let serials = serials.column(certificate::Column::Serial).into_tuple().all(self.reader()).await?;
            found.extend(self.rows_of(serials).await?.into_iter().map(|row| (Order::Found(part), row)));
        }
        Ok(found)
    }

    /// The certificates with these serials, in the same order.
    async fn rows_of(&self, serials: Vec<String>) -> Result<Vec<certificate::Model>, StoreError> {
        if serials.is_empty() {
            return Ok(Vec::new());
        }
        let query = certificate::Entity::find().filter(certificate::Column::Serial.is_in(&serials));
        let rows = query.all(self.reader()).await?;
        let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.serial.clone(), row)).collect();
        Ok(serials.iter().filter_map(|serial| rows.remove(serial)).collect())
    }

    /// Name and search key of each device.
    async fn device_names(
        &self,
        mut ids: Vec<String>,
    ) -> Result<HashMap<String, (String, String)>, StoreError> {
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = device::Entity::find().filter(device::Column::Id.is_in(ids)).all(self.reader()).await?;
        Ok(rows.into_iter().map(|row| (row.id, (row.name, row.name_key))).collect())
    }
}

fn join_device(query: Select<certificate::Entity>) -> Select<certificate::Entity> {
    let of = certificate::Entity::belongs_to(device::Entity)
        .from(certificate::Column::DeviceId)
        .to(device::Column::Id)
        .into();
    query.join(JoinType::InnerJoin, of)
}

fn any_part(text: &str) -> Condition {
    PARTS.iter().filter_map(|part| part.matches(text, "")).fold(Condition::any(), Condition::add)
}

/// In the inquiry's order, after its place.
fn sorted(query: Select<certificate::Entity>, inquiry: &Inquiry) -> Select<certificate::Entity> {
    use certificate::Column;
    let descending = inquiry.sort.descending;
    let order = if descending { sea_orm::Order::Desc } else { sea_orm::Order::Asc };
    let behind = |column: Column, value: SimpleExpr| {
        let column = Expr::col((certificate::Entity, column));
        if descending { column.lt(value) } else { column.gt(value) }
    };
    let column = match inquiry.sort.by {
        SortBy::Serial => {
            let after = inquiry.after.as_ref().map(|after| Expr::value(after.serial.to_string()));
            let query = after.into_iter().fold(query, |query, at| query.filter(behind(Column::Serial, at)));
            return query.order_by(Column::Serial, order);
        }
        SortBy::IssuedAt => Column::IssuedAt,
        SortBy::NotAfter => Column::NotAfter,
        SortBy::RevokedAt => Column::RevokedAt,
    };
    let after = inquiry.after.as_ref().and_then(|after| Some((after.number()?, after.serial.to_string())));
    let query = after.into_iter().fold(query, |query, (at, serial)| {
        // What the index seeks by, unless the standing's own bound does.
        let bounded = match inquiry.standing {
            Some(Standing::Active) => !descending,
            Some(Standing::Expired) => descending,
            Some(Standing::Revoked) | None => false,
        };
        let from = (!bounded).then(|| if descending { column.lte(at) } else { column.gte(at) });
        let past = Condition::any()
            .add(behind(column, Expr::value(at)))
            .add(behind(Column::Serial, Expr::value(serial)));
        from.into_iter().fold(query, Select::filter).filter(past)
    });
    query.order_by(column, order.clone()).order_by(Column::Serial, order)
}

/// In the order of the part's index, after `after`.
fn in_part(
    query: Select<certificate::Entity>,
    part: Part,
    after: Option<&Place>,
) -> Select<certificate::Entity> {
    use certificate::Column;
    let column = match part {
        Part::Serial => {
            let query = after
                .into_iter()
                .fold(query, |query, after| query.filter(Column::Serial.gt(after.serial.to_string())));
            return query.order_by_asc(Column::Serial);
        }
        Part::Subject => Column::SubjectKey,
        Part::Email => Column::EmailKey,
        Part::Device => return by_device(query, after),
    };
    let query = after.into_iter().fold(query, |query, after| {
        let past = Condition::any()
            .add(column.gt(after.key.as_str()))
            .add(Column::Serial.gt(after.serial.to_string()));
        query.filter(past)
    });
    query.order_by_asc(column).order_by_asc(Column::Serial)
}

/// By the name of the device, then by device: the key is the device's id and name.
fn by_device(query: Select<certificate::Entity>, after: Option<&Place>) -> Select<certificate::Entity> {
    use certificate::Column;
    use device::Column as Device;
    let query = after.and_then(|after| Some((after.key.split_once(' ')?, after))).into_iter().fold(
        query,
        |query, ((id, name), after)| {
            let same_name = Device::NameKey.eq(name);
            let past = Condition::any()
                .add(Device::NameKey.gt(name))
                .add(same_name.clone().and(Device::Id.gt(id)))
                .add(same_name.and(Device::Id.eq(id)).and(Column::Serial.gt(after.serial.to_string())));
            query.filter(past)
        },
    );
    query.order_by_asc(Device::NameKey).order_by_asc(Device::Id).order_by_asc(Column::Serial)
}

fn listed(
    order: Order,
    row: certificate::Model,
    names: &HashMap<String, (String, String)>,
) -> Result<Listed, StoreError> {
    let (device_name, name_key) = names.get(&row.device_id).cloned().unwrap_or_default();
    let key = match order {
        Order::Sorted(SortBy::Serial) | Order::Found(Part::Serial) => String::new(),
        Order::Sorted(SortBy::IssuedAt) => row.issued_at.to_string(),
        Order::Sorted(SortBy::NotAfter) => row.not_after.to_string(),
        Order::Sorted(SortBy::RevokedAt) => row.revoked_at.unwrap_or_default().to_string(),
        Order::Found(Part::Subject) => row.subject_key.clone(),
        Order::Found(Part::Email) => row.email_key.clone(),
        Order::Found(Part::Device) => format!("{} {name_key}", row.device_id),
    };
    let certificate = read(row)?;
    let place = Place { order, key, serial: certificate.serial };
    Ok(Listed { certificate, device_name, place })
}
