//! Listings by cursor: `?limit=1..=200&cursor=…`. A cursor is opaque to callers; inside it is the last
//! key of the page before.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem::http::StatusCode;
use poem_openapi::param::Query;

use super::error::{FieldFault, Outcome, Problem};

/// Entries of a page when the caller names no number.
const DEFAULT: u64 = 50;
/// Entries of a page at most.
const MOST: u64 = 200;

/// Where a page begins and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct Page<K> {
    /// The last key of the page before.
    pub after: Option<K>,
    limit: u64,
}

impl<K: FromStr> Page<K> {
    /// Reads the two parameters.
    ///
    /// # Errors
    /// 400 for a limit out of range or a cursor that we did not make.
    pub fn read(limit: &Query<Option<u32>>, cursor: &Query<Option<String>>) -> Outcome<Self> {
        Self::read_up_to(MOST, limit, cursor)
    }

    /// The same for a listing that is read as a whole, with pages of at most `most` entries.
    ///
    /// # Errors
    /// As [`Page::read`].
    pub fn read_up_to(
        most: u64,
        limit: &Query<Option<u32>>,
        cursor: &Query<Option<String>>,
    ) -> Outcome<Self> {
        let limit = limit.0.map_or(DEFAULT, u64::from);
        if !(1..=most).contains(&limit) {
            let detail = format!("Must be a whole number from 1 to {most}.");
            return Err(parameter("limit", "out_of_range", &detail));
        }
        let after = match &cursor.0 {
            None => None,
            Some(cursor) => Some(
                open(cursor)
                    .ok_or_else(|| parameter("cursor", "invalid", "Is not a cursor of this listing."))?,
            ),
        };
        Ok(Self { after, limit })
    }

    /// One entry more than the page has, to see whether there is another page.
    pub fn fetch(&self) -> u64 {
        self.limit + 1
    }

    /// Cuts what was fetched to the page, and makes the cursor of the next one.
    pub fn cut<T>(&self, mut fetched: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if fetched.len() <= limit {
            return (fetched, None);
        }
        fetched.truncate(limit);
        let next = fetched.last().map(|last| URL_SAFE_NO_PAD.encode(key(last)));
        (fetched, next)
    }

    /// The page of a listing that is in memory as a whole, sorted by `key`.
    pub fn slice<T>(&self, all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T>
    where
        K: Ord,
    {
        let after = self.after.as_ref();
        let fetch = usize::try_from(self.fetch()).unwrap_or(usize::MAX);
        all.into_iter().filter(|item| after.is_none_or(|after| key(item) > *after)).take(fetch).collect()
    }
}

fn open<K: FromStr>(cursor: &str) -> Option<K> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?.parse().ok()
}

/// 400 for a query parameter.
pub fn parameter(name: &str, code: &str, detail: &str) -> Problem {
    Problem::fields(StatusCode::BAD_REQUEST, vec![FieldFault::new(format!("?{name}"), code, detail)])
}

/// An optional query parameter of some type.
///
/// # Errors
/// 400 when it is not of that type.
pub fn filter<T: FromStr>(name: &str, text: &Query<Option<String>>) -> Outcome<Option<T>> {
    let read = |text: &String| text.parse().map_err(|_| parameter(name, "invalid", "Cannot be read."));
    text.0.as_ref().map(read).transpose()
}
