//! How certificates are looked for: the two parameters of their listing that have rules of their own.

use std::ops::RangeInclusive;

use poem_openapi::param::Query;

use crate::admin::error::Outcome;
use crate::admin::page::parameter;
use crate::store::certificates::Standing;
use crate::store::inventory::{Sort, SortBy};

/// How much of a text is searched for.
const SEARCH_CHARACTERS: RangeInclusive<usize> = 2..=254;

/// What is searched for: long enough that an index narrows it down.
pub(super) fn read_search(search: &Query<Option<String>>) -> Outcome<Option<String>> {
    let Some(text) = &search.0 else { return Ok(None) };
    let text = text.trim();
    if !SEARCH_CHARACTERS.contains(&text.chars().count()) {
        let (least, most) = (SEARCH_CHARACTERS.start(), SEARCH_CHARACTERS.end());
        let detail = format!("Must have {least} to {most} characters.");
        return Err(parameter("search", "out_of_range", &detail));
    }
    Ok(Some(text.to_owned()))
}

/// The order, among those that `standing` has.
pub(super) fn read_sort(sort: &Query<Option<String>>, standing: Option<Standing>) -> Outcome<Sort> {
    let possible = Sort::of(standing);
    let found = match &sort.0 {
        None => possible.first(),
        Some(text) => possible.iter().find(|sort| sort_name(**sort) == *text),
    };
    found.copied().ok_or_else(|| {
        let names: Vec<_> = possible.iter().map(|sort| sort_name(*sort)).collect();
        let detail = format!("With this state, must be one of {}.", names.join(", "));
        parameter("sort", "not_one_of", &detail)
    })
}

fn sort_name(sort: Sort) -> String {
    let name = match sort.by {
        SortBy::Serial => "serial",
        SortBy::IssuedAt => "issued_at",
        SortBy::NotAfter => "not_after",
        SortBy::RevokedAt => "revoked_at",
    };
    format!("{}{name}", if sort.descending { "-" } else { "" })
}
