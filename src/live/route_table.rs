//! Which route a path belongs to, and whether it lies below a prefix. Pure and total; asked by the edge after the
//! host is settled, and by whoever wants to know what the edge would say.
//!
//! Policies hang on path prefixes, which are compared segment by segment: whatever some reader may take a
//! segment for (`path::names`) has to lead to the same route. Where there is one route for all paths, they
//! need not be read at all.

use std::borrow::Cow;
use std::sync::Arc;

use super::configuration::{Route, Site};
use super::path::{BadPath, decode, drops, is_plain, names, segments};
use crate::domain::RouteIndex;

/// Segments with more than one reading, at most.
const MOST_UNPLAIN: usize = 64;

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
    let plainest = segments(path)?;
    if let [only] = routes
        && prefix(only) == "/"
    {
        return Ok(Some(only));
    }
    Readings::of(plainest, path)?.select((routes, index), prefix)
}

/// A path with everything that some reader may take it for.
#[derive(Debug)]
pub struct Readings<'p> {
    plainest: Vec<Cow<'p, str>>,
    /// Of each segment, or none at all if each has only one reading.
    others: Vec<Vec<String>>,
}

impl<'p> Readings<'p> {
    /// Reads a path.
    ///
    /// # Errors
    /// As [`BadPath`] says.
    pub fn read(path: &'p str) -> Result<Self, BadPath> {
        Self::of(segments(path)?, path)
    }

    fn of(plainest: Vec<Cow<'p, str>>, path: &str) -> Result<Self, BadPath> {
        let others = match path.split('/').filter(|raw| !is_plain(raw)).count() {
            // Nothing to be read otherwise, but for letter case.
            0 => Vec::new(),
            1..=MOST_UNPLAIN => path.split('/').skip(1).map(names).collect::<Result<Vec<_>, _>>()?,
            _ => return Err(BadPath::Ambiguous),
        };
        Ok(Self { plainest, others })
    }

    /// Whether the path lies below `prefix`; nothing if readers do not agree.
    pub fn lie_below(&self, prefix: &str) -> Option<bool> {
        self.select((&[prefix], None), |prefix| prefix).ok().map(|found| found.is_some())
    }

    fn select<'a, T>(
        &self,
        (routes, index): (&'a [T], Option<&RouteIndex>),
        prefix: impl Fn(&T) -> &str,
    ) -> Result<Option<&'a T>, BadPath> {
        let Self { plainest, others } = self;
        let table = Table { routes, index, prefix: &prefix };
        let chosen = table.choose(plainest, others)?;
        let is_dropped = |at: &usize| others[*at].iter().any(|name| drops(name));
        let places = 0..others.len();
        if places.clone().any(|at| is_dropped(&at)) {
            let (names, others): (Vec<_>, Vec<_>) = places
                .filter(|at| !is_dropped(at))
                .map(|at| (plainest[at].clone(), others[at].clone()))
                .unzip();
            if table.choose(&names, &others)? != chosen {
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
    /// The place of the route that all readings of the segments select. `readings` are those of each segment,
    /// or none at all if each has only one.
    fn choose(&self, plainest: &[Cow<'_, str>], readings: &[Vec<String>]) -> Result<Option<usize>, BadPath> {
        let names = |at: usize| {
            let others = readings.get(at).into_iter().flatten().map(String::as_str);
            plainest.get(at).map(|name| &**name).into_iter().chain(others)
        };
        // No reading of the path leads to any other.
        let candidates = self.index.and_then(|index| index.candidates(plainest.len(), names));
        let all = if candidates.is_some() { 0 } else { self.routes.len() };
        let places = || candidates.iter().flatten().copied().chain(0..all);
        let prefixes = || places().map(|at| (at, (self.prefix)(&self.routes[at])));
        let chosen = prefixes().find(|(_, prefix)| {
            covers(prefix, |at, wanted| plainest.get(at).is_some_and(|name| name == wanted))
        });
        let depth = chosen.map_or(0, |(_, prefix)| depth(prefix));
        let certain = chosen.is_none_or(|(_, prefix)| {
            covers(prefix, |at, wanted| {
                readings.get(at).is_none_or(|names| names.iter().all(|name| name == wanted))
            })
        });
        // Whoever is not sure of letter case, or of any segment, must not arrive at a route of this depth.
        let has_rival = prefixes().any(|(at, prefix)| {
            Some(at) != chosen.map(|(at, _)| at)
                && self::depth(prefix) >= depth
                && covers(prefix, |at, wanted| {
                    plainest.get(at).is_some_and(|name| is_alike(name, wanted))
                        || readings
                            .get(at)
                            .is_some_and(|names| names.iter().any(|name| is_alike(name, wanted)))
                })
        });
        if certain && !has_rival { Ok(chosen.map(|(at, _)| at)) } else { Err(BadPath::Ambiguous) }
    }
}

/// Whether a reader who does not tell letter case apart takes one name for the other.
fn is_alike(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (!one.is_ascii()
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unanimous<'a, T>(
        routes: &'a [T],
        prefix: impl Fn(&T) -> &str,
        path: &str,
    ) -> Result<Option<&'a T>, BadPath> {
        let index = RouteIndex::of(routes.iter().map(&prefix));
        super::unanimous((routes, Some(&index)), prefix, path)
    }

    fn covers(prefix: &str, path: &str) -> bool {
        let segments = segments(path).unwrap();
        super::covers(prefix, |at, wanted| segments.get(at).is_some_and(|name| name == wanted))
    }

    #[test]
    fn prefixes_match_whole_segments_only() {
        for (prefix, path, expected) in [
            ("/", "/", true),
            ("/", "/anything/below", true),
            ("/app", "/app", true),
            ("/app", "/app/", true),
            ("/app", "/app/x", true),
            ("/app", "/apple", false),
            ("/app/x", "/app", false),
            ("/app", "/%61pp/x", true),
            ("/app", "/app;v=1/x", true),
            ("/App", "/app", false),
            ("/a%20b", "/a b/c", true),
        ] {
            assert_eq!(covers(prefix, path), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn what_is_hidden_twice_is_refused_as_well() {
        for (path, fault) in [
            ("/a/%252e%252e/b", BadPath::DotSegment),
            ("/a/.%25252e/b", BadPath::DotSegment),
            ("/a/..%252fb", BadPath::HiddenSeparator),
            ("/a/%255c..%255cb", BadPath::HiddenSeparator),
            ("/a/..%3fx/b", BadPath::DotSegment),
            ("/%253bx/a", BadPath::EmptySegment),
            ("/::$DATAx/a", BadPath::EmptySegment),
            ("/%3a:$DATA(S(x))/a", BadPath::EmptySegment),
            ("/a/...", BadPath::DotSegment),
            ("/a/.%20/b", BadPath::DotSegment),
            ("/a%2500", BadPath::Control),
            ("/a%252f%25", BadPath::HiddenSeparator),
            ("/a%252f%25ff", BadPath::HiddenSeparator),
        ] {
            assert_eq!(unanimous(&["/a", "/"], |prefix| prefix, path), Err(fault), "{path}");
            // Whatever it leads to, it is ruled by the same.
            assert_eq!(unanimous(&["/"], |prefix| prefix, path), Ok(Some(&"/")), "{path}");
        }
        let deep = format!("/%{}61", "25".repeat(100));
        assert_eq!(unanimous(&["/a", "/"], |prefix| prefix, &deep), Err(BadPath::Ambiguous));
        let many = "/%20x".repeat(65);
        assert_eq!(unanimous(&["/a", "/"], |prefix| prefix, &many), Err(BadPath::Ambiguous));
        for path in [
            "/wiki/What%3f",
            "/wiki/100%25",
            "/wiki/(S(x))",
            "/wiki/(draft)-x",
            "/wiki/index.php/x",
            "/wiki/a.%20b",
            "/wiki/%2561",
        ] {
            assert_eq!(unanimous(&["/wiki", "/"], |prefix| prefix, path), Ok(Some(&"/wiki")), "{path}");
        }
    }

    #[test]
    fn paths_that_other_readers_route_elsewhere_are_refused() {
        let prefixes =
            ["/public/admin", "/public", "/Mixed", "/a%20b", "/%C3%a9", "/twin", "/TWIN", "/a;b", "/"];
        let select = |path| unanimous(&prefixes, |prefix| prefix, path).map(Option::<&&str>::copied);
        for (path, expected) in [
            ("/public/x", Some("/public")),
            ("/public/x;v=1", Some("/public")),
            ("/public/X%3bv=1", Some("/public")),
            ("/Other;x/PUBLIC", Some("/")),
            ("/Mixed/x", Some("/Mixed")),
            ("/public/administration", Some("/public")),
            ("/public/%78%2d", Some("/public")),
            ("/a%20b", Some("/a%20b")),
            ("/%c3%A9/x", Some("/%C3%a9")),
        ] {
            assert_eq!(select(path), Ok(expected), "{path}");
        }
        for path in [
            "/Public/x",
            "/PUBLIC",
            "/mixed",
            "/public/Admin",
            "/twin",
            "/TWIN/x",
            "/public;x/y",
            "/public%3bx/y",
            "/public%3Bx/y",
            "/public/admin;x",
            "/public;x/admin",
            "/a;b/c",
            "/a%3bb;c",
            "/pub%6cic/x",
            "/%61%20b",
            "/public/%61dmin",
            "/%70ub%256cic/x",
            "/pub%256cic/x",
            "/public./x",
            "/public%20/x",
            "/public%3fx",
            "/public%23/x",
            "/public/admin%2e",
            "/(S(x))/public/x",
            "/public/(S(x))/admin",
            "/public/ad/(S(x))min",
            "/index.php/public/x",
            "/%69ndex.PHP/public",
            "/public/index.php/admin",
            "/public:$i30:$INDEX_ALLOCATION/x",
            "/public/admin::$INDEX_ALLOCATION",
            "/tw%C4%B1n",
        ] {
            assert_eq!(select(path), Err(BadPath::Ambiguous), "{path}");
        }
        assert_eq!(unanimous(&["/a"], |prefix| prefix, "/b"), Ok(None));
        assert_eq!(unanimous(&["/a"], |prefix| prefix, "/A"), Err(BadPath::Ambiguous));
    }

    #[test]
    fn a_path_lies_below_a_prefix_if_nobody_reads_it_otherwise() {
        for (prefix, path, expected) in [
            ("/", "/x;y/%2561", Some(true)),
            ("/admin", "/admin", Some(true)),
            ("/admin", "/admin/x;v=1", Some(true)),
            ("/admin", "/administration", Some(false)),
            ("/admin", "/x/admin", Some(false)),
            ("/admin", "/Admin", None),
            ("/admin", "/%61dmin", None),
            ("/admin", "/admin;x/y", None),
            ("/admin", "/index.php/admin", None),
            ("/admin/keys", "/admin/(S(x))/keys", None),
            ("/admin/keys", "/admin/KEYS/1", None),
        ] {
            assert_eq!(Readings::read(path).unwrap().lie_below(prefix), expected, "{prefix} {path}");
        }
    }

    /// The longest prefixes that cover the path, written without regard for cost.
    fn longest<'a>(prefixes: &'a [String], path: &str, folds: bool) -> Vec<&'a String> {
        let fold = |text: &str| if folds { text.to_ascii_lowercase() } else { text.to_owned() };
        let split = |text: &str| -> Vec<String> { fold(text).split('/').map(str::to_owned).collect() };
        let path = split(path);
        let covering = prefixes.iter().filter(|prefix| {
            let prefix = split(prefix);
            prefix == ["", ""] || (path.len() >= prefix.len() && path[..prefix.len()] == prefix[..])
        });
        let most = covering.clone().map(String::len).max();
        covering.filter(|prefix| Some(prefix.len()) == most).collect()
    }

    /// What selection means: whichever reading each segment gets, it is the same one, or the same none.
    fn model<'a>(prefixes: &'a [String], path: &str) -> Result<Option<&'a String>, BadPath> {
        let cut = |name: &str| name.split(';').next().unwrap().to_owned();
        let decoded = |name: &str| name.replace("%3b", ";");
        let mut readings = vec![String::new()];
        for raw in path.split('/').skip(1) {
            let names = [cut(&decoded(raw)), decoded(&cut(raw)), decoded(raw), raw.to_owned()];
            let longer = |path: &String| names.clone().map(|name| format!("{path}/{name}"));
            readings = readings.iter().flat_map(longer).collect();
            readings.sort();
            readings.dedup();
        }
        let answers: Vec<_> = readings
            .iter()
            .flat_map(|reading| [false, true].map(|folds| longest(prefixes, reading, folds)))
            .collect();
        match answers[0][..] {
            _ if answers.iter().any(|answer| *answer != answers[0]) => Err(BadPath::Ambiguous),
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(BadPath::Ambiguous),
        }
    }

    proptest! {
        #[test]
        fn selection_agrees_with_the_plain_model(
            prefixes in proptest::collection::btree_set("(/|(/[abA]([bB]|;b)?){1,3})", 0..12),
            path in "(/[abA]([bB]|;b|%3bb|;%3b)?){1,4}/?",
        ) {
            let mut sorted: Vec<String> = prefixes.into_iter().collect();
            sorted.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
            prop_assert_eq!(unanimous(&sorted, |prefix| prefix, &path), model(&sorted, &path));
        }

        #[test]
        fn no_text_panics(path in any::<String>()) {
            let _ = segments(&path);
            let _ = unanimous(&["/a", "/"], |prefix| prefix, &path);
        }
    }
}
