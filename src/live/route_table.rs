//! Which route a path belongs to, and whether it lies below a prefix. Pure and total; asked by the edge after the
//! host is settled, and by whoever wants to know what the edge would say.
//!
//! Policies hang on path prefixes, which are compared segment by segment: whatever some reader may take a
//! segment for (`path::names`) has to lead to the same route. Where there is one route for all paths, they
//! need not be read at all.

use std::borrow::Cow;
use std::iter;
use std::sync::Arc;

use super::configuration::{Route, Site};
use super::path::{BadPath, MOST_OCTETS, decode, drops, is_plain, names, parts};
use crate::domain::{MOST_FOLDED, RouteIndex};

/// Segments with more than one reading, at most.
const MOST_UNPLAIN: usize = 64;
/// Segments of a prefix, at most: what 1,024 octets can have. What comes behind them decides nothing.
pub(super) const MOST_SEGMENTS: usize = 512;

/// The route with the longest prefix of whole segments, if any.
///
/// # Errors
/// As [`BadPath`] says; nothing is matched then.
pub fn select<'a>(site: &'a Site, path: &str) -> Result<Option<&'a Arc<Route>>, BadPath> {
    unanimous((&site.routes, Some(&site.index)), |route| &route.path_prefix, path)
}

/// Puts routes in the order in which [`unanimous`] needs them: longest prefix first.
pub fn sort<T>(routes: &mut [T], prefix: impl Fn(&T) -> &str) {
    routes.sort_by(|a, b| prefix(b).len().cmp(&prefix(a).len()).then(prefix(a).cmp(prefix(b))));
}

/// The route that every reading of the path selects. The path goes on as it came, so where readings differ,
/// a backend could serve under one route's policy what belongs to another.
///
/// # Errors
/// As [`BadPath`] says.
pub fn unanimous<'a, T>(
    (routes, index): (&'a [T], Option<&RouteIndex>),
    prefix: impl Fn(&T) -> &str,
    path: &str,
) -> Result<Option<&'a T>, BadPath> {
    if let [only] = routes
        && prefix(only) == "/"
    {
        return match parts(path)?.find_map(Result::err) {
            Some(bad) => Err(bad),
            None => Ok(Some(only)),
        };
    }
    Readings::read(path)?.select((routes, index), prefix)
}

/// A path with everything that some reader may take it for, as far as a prefix can reach.
#[derive(Debug)]
pub struct Readings<'p> {
    segments: Vec<Segment<'p>>,
    /// The places of those that nobody drops; nothing if nobody drops any.
    kept: Option<Vec<usize>>,
}

#[derive(Debug)]
struct Segment<'p> {
    plainest: Cow<'p, str>,
    /// What it may be taken for; nothing if it has only one reading.
    others: Vec<String>,
}

impl Segment<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        iter::once(&*self.plainest).chain(self.others.iter().map(String::as_str))
    }
}

impl<'p> Readings<'p> {
    /// Reads a path.
    ///
    /// # Errors
    /// As [`BadPath`] says.
    pub fn read(path: &'p str) -> Result<Self, BadPath> {
        let (mut read, mut kept) = (Vec::new(), Vec::new());
        let (mut unplain, mut dropped, mut left) = (0, 0, MOST_OCTETS);
        let mut is_torn = false;
        for part in parts(path)? {
            let (raw, plainest) = part?;
            let mut segment = Segment { plainest, others: Vec::new() };
            // Nothing else to be read otherwise, but for letter case.
            if !is_plain(raw) {
                unplain += 1;
                if unplain > MOST_UNPLAIN {
                    return Err(BadPath::Ambiguous);
                }
                segment.others = names(raw, &mut left)?;
            }
            let is_dropped = segment.others.iter().any(|name| drops(name));
            if is_dropped {
                dropped += 1;
                is_torn |= !segment.names().all(drops);
            }
            if read.len() < MOST_SEGMENTS + MOST_UNPLAIN {
                if !is_dropped {
                    kept.push(read.len());
                }
                read.push(segment);
            }
        }
        // Some would drop one and keep the other: `/index.php/admin;.php` is `/admin` to who cuts parameters.
        if is_torn && dropped > 1 {
            return Err(BadPath::Ambiguous);
        }
        Ok(Self { segments: read, kept: (dropped > 0).then_some(kept) })
    }

    /// Whether the path lies below `prefix`; nothing if readers do not agree.
    pub fn lie_below(&self, prefix: &str) -> Option<bool> {
        self.select((&[prefix], None), |prefix| prefix).ok().map(|found| found.is_some())
    }

    /// Whether the path lies below any of `prefixes`, whose index `index` is; nothing if readers do not agree.
    pub fn lie_below_any(&self, prefixes: &[String], index: &RouteIndex) -> Option<bool> {
        let mut places = self
            .candidates(index, self.segments.len(), Some)
            .unwrap_or_else(|| (0..prefixes.len()).collect());
        if let Some(kept) = &self.kept {
            places
                .extend(self.candidates(index, kept.len(), |at| kept.get(at).copied()).into_iter().flatten());
            places.sort_unstable();
            places.dedup();
        }
        let mut is_below = Some(false);
        for prefix in places.into_iter().filter_map(|at| prefixes.get(at)) {
            match self.lie_below(prefix) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => is_below = None,
            }
        }
        is_below
    }

    fn candidates(
        &self,
        index: &RouteIndex,
        depth: usize,
        place: impl Fn(usize) -> Option<usize>,
    ) -> Option<Vec<usize>> {
        let segment = |at| place(at).and_then(|at| self.segments.get(at));
        index.candidates(depth, |at| segment(at).into_iter().flat_map(|one| one.names()))
    }

    fn select<'a, T>(
        &self,
        (routes, index): (&'a [T], Option<&RouteIndex>),
        prefix: impl Fn(&T) -> &str,
    ) -> Result<Option<&'a T>, BadPath> {
        let Self { segments, kept } = self;
        let table = Table { routes, index, prefix: &prefix };
        let chosen = table.choose(segments.len(), |at| segments.get(at))?;
        if let Some(kept) = kept {
            let segment = |at: usize| kept.get(at).and_then(|at| segments.get(*at));
            if table.choose(kept.len(), segment)? != chosen {
                return Err(BadPath::Ambiguous);
            }
        }
        Ok(chosen.map(|at| &routes[at]))
    }
}

/// Routes, longest prefix first.
struct Table<'t, T, P> {
    routes: &'t [T],
    index: Option<&'t RouteIndex>,
    prefix: &'t P,
}

impl<T, P: Fn(&T) -> &str> Table<'_, T, P> {
    /// The place of the route that all readings of the segments select; there are `count` of them.
    fn choose<'s>(
        &self,
        count: usize,
        segment: impl Fn(usize) -> Option<&'s Segment<'s>>,
    ) -> Result<Option<usize>, BadPath> {
        let names = |at: usize| segment(at).into_iter().flat_map(|one| one.names());
        // No reading of the path leads to any other.
        let candidates = self.index.and_then(|index| index.candidates(count, names));
        let all = if candidates.is_some() { 0 } else { self.routes.len() };
        let places = || candidates.iter().flatten().copied().chain(0..all);
        let prefixes = || places().map(|at| (at, (self.prefix)(&self.routes[at])));
        let chosen = prefixes().find(|(_, prefix)| {
            covers(prefix, |at, wanted| segment(at).is_some_and(|one| *one.plainest == *wanted))
        });
        let depth = chosen.map_or(0, |(_, prefix)| depth(prefix));
        let certain = chosen.is_none_or(|(_, prefix)| {
            covers(prefix, |at, wanted| {
                segment(at).is_none_or(|one| one.others.iter().all(|name| name == wanted))
            })
        });
        // Whoever is not sure of letter case, or of any segment, must not arrive at a route of this depth.
        let has_rival = prefixes().any(|(at, prefix)| {
            Some(at) != chosen.map(|(at, _)| at)
                && self::depth(prefix) >= depth
                && covers(prefix, |at, wanted| {
                    segment(at).is_some_and(|one| one.names().any(|name| is_alike(name, wanted)))
                })
        });
        if certain && !has_rival { Ok(chosen.map(|(at, _)| at)) } else { Err(BadPath::Ambiguous) }
    }
}

/// Whether a reader who does not tell letter case apart takes one name for the other.
fn is_alike(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (!one.is_ascii()
            && one.len() <= MOST_FOLDED * other.len()
            && (one.to_lowercase() == other.to_lowercase() || one.to_uppercase() == other.to_uppercase()))
}

/// How many segments a prefix has.
fn depth(prefix: &str) -> usize {
    if prefix == "/" { 0 } else { prefix.matches('/').count() }
}

/// Whether every segment of `prefix` (`/` or `/a/b`), decoded, `is` what stands at its place.
fn covers(prefix: &str, is: impl Fn(usize, &str) -> bool) -> bool {
    let Some(rest) = prefix.strip_prefix('/').filter(|rest| !rest.is_empty()) else { return prefix == "/" };
    rest.split('/').enumerate().all(|(at, wanted)| decode(wanted).is_ok_and(|wanted| is(at, &wanted)))
}

#[cfg(test)]
mod tests;
