//! People and their devices.

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::{device, person};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};

use super::inventory::search_key;
use super::{Store, StoreError, Transaction, at, json, named, parse, to_json};
use crate::domain::{DeviceId, PersonId, PersonRecord, Role, Slug, UtcTime};

/// A person as rows hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The immutable identity.
    pub id: PersonId,
    /// Lower-cased, unique, changeable; never an identity.
    pub email: String,
    /// The display name.
    pub name: String,
    /// What they may do here.
    pub role: Role,
    /// The groups they are in.
    pub groups: BTreeSet<Slug>,
    /// Whether they are shut out, everywhere and at once.
    pub disabled: bool,
    /// Whether they can sign in with a password.
    pub has_password: bool,
    /// When they came.
    pub created_at: UtcTime,
    /// Counts edits, for `If-Match`.
    pub version: u64,
}

impl Person {
    /// What edges know of this person.
    pub fn record(&self) -> PersonRecord {
        PersonRecord {
            id: self.id,
            email: self.email.clone(),
            name: self.name.clone(),
            groups: self.groups.clone(),
            disabled: self.disabled,
        }
    }
}

/// A device as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The immutable identity.
    pub id: DeviceId,
    /// Whose it is.
    pub person: PersonId,
    /// What they call it.
    pub name: String,
    /// When it came.
    pub created_at: UtcTime,
    /// Counts edits, for `If-Match`.
    pub version: u64,
}

impl Store {
    /// The person with this identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person(&self, id: PersonId) -> Result<Option<Person>, StoreError> {
        person::Entity::find_by_id(id.to_string()).one(self.reader()).await?.map(read_person).transpose()
    }

    /// Those of these people who are on record.
    pub(in crate::store) async fn people_by_id(
        &self,
        ids: HashSet<PersonId>,
    ) -> Result<HashMap<PersonId, Person>, StoreError> {
        let ids = ids.iter().map(ToString::to_string);
        let rows = person::Entity::find().filter(person::Column::Id.is_in(ids)).all(self.reader()).await?;
        rows.into_iter().map(|row| read_person(row).map(|person| (person.id, person))).collect()
    }

    /// The person with this address; it is compared in lower case.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person_by_email(&self, email: &str) -> Result<Option<Person>, StoreError> {
        let query = person::Entity::find().filter(person::Column::Email.eq(email.trim().to_lowercase()));
        query.one(self.reader()).await?.map(read_person).transpose()
    }

    /// People by identity, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn people(&self, after: Option<PersonId>, limit: u64) -> Result<Vec<Person>, StoreError> {
        let mut query = person::Entity::find().order_by_asc(person::Column::Id).limit(limit);
        if let Some(after) = after {
            query = query.filter(person::Column::Id.gt(after.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read_person).collect()
    }

    /// The device with this identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn device(&self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        device::Entity::find_by_id(id.to_string()).one(self.reader()).await?.map(read_device).transpose()
    }

    /// Devices by identity, of one person or of all, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn devices(
        &self,
        person: Option<PersonId>,
        after: Option<DeviceId>,
        limit: u64,
    ) -> Result<Vec<Device>, StoreError> {
        let mut query = device::Entity::find().order_by_asc(device::Column::Id).limit(limit);
        if let Some(person) = person {
            query = query.filter(device::Column::PersonId.eq(person.to_string()));
        }
        if let Some(after) = after {
            query = query.filter(device::Column::Id.gt(after.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read_device).collect()
    }
}

impl Transaction {
    /// Locks a person's row until commit: whoever counts what is theirs does it alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lock_person(&self, id: PersonId) -> Result<(), StoreError> {
        person::Entity::update_many()
            .col_expr(person::Column::Version, Expr::col(person::Column::Version))
            .filter(person::Column::Id.eq(id.to_string()))
            .exec(self.connection())
            .await?;
        Ok(())
    }

    /// Adds a person.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the address is another person's.
    pub async fn insert_person(&self, person: &Person) -> Result<(), StoreError> {
        let row = person::ActiveModel {
            id: Set(person.id.to_string()),
            email: Set(person.email.trim().to_lowercase()),
            name: Set(person.name.clone()),
            role: Set(person.role.name().to_owned()),
            groups: Set(to_json("groups", &person.groups)?),
            disabled: Set(person.disabled),
            password_hash: Set(None),
            created_at: Set(person.created_at.as_unix()),
            version: Set(1),
        };
        let insert = person::Entity::insert(row).exec_without_returning(self.connection()).await;
        insert.map(drop).map_err(|error| StoreError::unique(error, "the e-mail address"))
    }

    /// Changes a person; `person.version` is the version that was read.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer that version, [`StoreError::Taken`] when the
    /// address is another person's.
    pub async fn update_person(&self, person: &Person) -> Result<(), StoreError> {
        let version = i64::try_from(person.version).unwrap_or(i64::MAX);
        let update = person::Entity::update_many()
            .col_expr(person::Column::Email, Expr::value(person.email.trim().to_lowercase()))
            .col_expr(person::Column::Name, Expr::value(person.name.clone()))
            .col_expr(person::Column::Role, Expr::value(person.role.name()))
            .col_expr(person::Column::Groups, Expr::value(to_json("groups", &person.groups)?))
            .col_expr(person::Column::Disabled, Expr::value(person.disabled))
            .col_expr(person::Column::Version, Expr::col(person::Column::Version).add(1))
            .filter(person::Column::Id.eq(person.id.to_string()))
            .filter(person::Column::Version.eq(version));
        let result = update.exec(self.connection()).await;
        let changed = result.map_err(|error| StoreError::unique(error, "the e-mail address"))?.rows_affected;
        if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { what: "the person" }) }
    }

    /// The person with this identity, as this transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person(&self, id: PersonId) -> Result<Option<Person>, StoreError> {
        person::Entity::find_by_id(id.to_string()).one(self.connection()).await?.map(read_person).transpose()
    }

    /// Adds a device.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_device(&self, device: &Device) -> Result<(), StoreError> {
        device::Entity::insert(device_row(device)).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Renames a device; `device.version` is the version that was read.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub async fn update_device(&self, device: &Device) -> Result<(), StoreError> {
        let version = i64::try_from(device.version).unwrap_or(i64::MAX);
        let update = device::Entity::update_many()
            .col_expr(device::Column::Name, Expr::value(device.name.clone()))
            .col_expr(device::Column::NameKey, Expr::value(search_key(&device.name)))
            .col_expr(device::Column::Version, Expr::col(device::Column::Version).add(1))
            .filter(device::Column::Id.eq(device.id.to_string()))
            .filter(device::Column::Version.eq(version));
        let changed = update.exec(self.connection()).await?.rows_affected;
        if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { what: "the device" }) }
    }
}

pub(in crate::store) fn device_row(device: &Device) -> device::ActiveModel {
    device::ActiveModel {
        id: Set(device.id.to_string()),
        person_id: Set(device.person.to_string()),
        name: Set(device.name.clone()),
        created_at: Set(device.created_at.as_unix()),
        version: Set(1),
        name_key: Set(search_key(&device.name)),
    }
}

pub(in crate::store) fn read_person(row: person::Model) -> Result<Person, StoreError> {
    Ok(Person {
        id: parse("a person's id", &row.id)?,
        role: named("a person's role", &row.role, Role::from_name(&row.role))?,
        groups: json("a person's groups", &row.groups)?,
        email: row.email,
        name: row.name,
        disabled: row.disabled,
        has_password: row.password_hash.is_some(),
        created_at: at(row.created_at),
        version: u64::try_from(row.version).unwrap_or(0),
    })
}

fn read_device(row: device::Model) -> Result<Device, StoreError> {
    Ok(Device {
        id: parse("a device's id", &row.id)?,
        person: parse("a device's person", &row.person_id)?,
        name: row.name,
        created_at: at(row.created_at),
        version: u64::try_from(row.version).unwrap_or(0),
    })
}
