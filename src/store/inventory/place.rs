//! Where a page begins: what is inside a cursor.

use std::fmt;
use std::str::FromStr;

use super::{Inquiry, SortBy};
use crate::domain::Serial;

/// A place in a listing: the key of its order, and the serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) order: Order,
    pub(super) key: String,
    pub(super) serial: Serial,
}

/// Which order a place belongs to: one of a sort, or of one part of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Sorted(SortBy),
    Found(Part),
}

/// The parts of a search, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Serial,
    Subject,
    Email,
    Device,
}

pub(super) const PARTS: [Part; 4] = [Part::Serial, Part::Subject, Part::Email, Part::Device];

const ORDERS: [(Order, &str); 8] = [
    (Order::Sorted(SortBy::Serial), "serial"),
    (Order::Sorted(SortBy::IssuedAt), "issued_at"),
    (Order::Sorted(SortBy::NotAfter), "not_after"),
    (Order::Sorted(SortBy::RevokedAt), "revoked_at"),
    (Order::Found(Part::Serial), "found_serial"),
    (Order::Found(Part::Subject), "found_subject"),
    (Order::Found(Part::Email), "found_email"),
    (Order::Found(Part::Device), "found_device"),
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ORDERS.iter().find(|(order, _)| *order == self.order).map_or("", |(_, name)| name);
        // The key last: it may hold anything.
        write!(f, "{name} {} {}", self.serial, self.key)
    }
}

/// The text is no place of a listing.
#[derive(Debug, thiserror::Error)]
#[error("is no place of this listing")]
pub struct ParsePlaceError;

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        let (name, rest) = text.split_once(' ').ok_or(ParsePlaceError)?;
        let (serial, key) = rest.split_once(' ').ok_or(ParsePlaceError)?;
        let (order, _) = ORDERS.iter().find(|(_, known)| *known == name).ok_or(ParsePlaceError)?;
        let place =
            Self { order: *order, key: key.to_owned(), serial: serial.parse().map_err(|_| ParsePlaceError)? };
        match place.order {
            Order::Sorted(SortBy::Serial) => {}
            Order::Sorted(_) => drop(place.number().ok_or(ParsePlaceError)?),
            Order::Found(_) => {}
        }
        Ok(place)
    }
}

impl Place {
    pub(super) fn number(&self) -> Option<i64> {
        self.key.parse().ok()
    }

    /// The beginning of the key by which the index finds this place.
    pub(super) fn seek(&self) -> String {
        match self.order {
            Order::Found(Part::Serial) => self.serial.to_string(),
            Order::Found(Part::Device) => {
                self.key.split_once(' ').map(|(_, name)| name.to_owned()).unwrap_or_default()
            }
            Order::Found(_) | Order::Sorted(_) => self.key.clone(),
        }
    }

    /// Whether a listing by `inquiry` has such places.
    pub fn belongs_to(&self, inquiry: &Inquiry) -> bool {
        match self.order {
            Order::Sorted(by) => !inquiry.is_search_of_all() && by == inquiry.sort.by,
            Order::Found(_) => inquiry.is_search_of_all(),
        }
    }
}
