//! Which route a path belongs to: the first octet picks the table, the rest is the path. The chosen route is that of every
//! reader, those of the proof `routing_property`; who looks at candidates finds what who looks at all of them does; and
//! what nobody can read in another way is not refused.

#![no_main]

#[path = "../../tests/it/prove/edge/readers.rs"]
mod readers;

use std::sync::LazyLock;

use http::Uri;
use libfuzzer_sys::fuzz_target;
use wicketgate::domain::route::RouteOptions;
use wicketgate::domain::{AccessPolicy, Hostname, RouteId, RouteIndex};
use wicketgate::live::RouteData;
use wicketgate::live::route_table::{Readings, sort, unanimous};

use readers::READERS;

/// Prefixes that lie close to each other, so many that there are candidates; a few, without a root; a root alone;
/// names that readers take out or cut.
const TABLES: [&[&str]; 4] = [
    &[
        "/",
        "/public",
        "/board",
        "/board/public",
        "/board/public/minutes",
        "/a",
        "/a/b",
        "/a%20b",
        "/Mixed",
        "/~anna",
        "/@team",
        "/.well-known",
    ],
    &["/public", "/board", "/board/public"],
    &["/"],
    &["/", "/a", "/a/a", "/a/a/a", "/a/b", "/b", "/b/a", "/x.php.d", "/(s)"],
];

/// A table in its order, with its index.
struct Table {
    routes: Vec<RouteData>,
    index: RouteIndex,
}

static TABLED: LazyLock<Vec<Table>> = LazyLock::new(|| TABLES.iter().map(|table| tabled(table)).collect());

fn tabled(prefixes: &[&str]) -> Table {
    let mut routes: Vec<_> = prefixes.iter().map(|prefix| route(prefix)).collect();
    sort(&mut routes, prefix);
    let index = RouteIndex::of(routes.iter().map(prefix));
    Table { routes, index }
}

fn prefix(route: &RouteData) -> &str {
    &route.path_prefix
}

fn route(prefix: &str) -> RouteData {
    RouteData {
        id: RouteId::new(),
        host: Hostname::normalize("app.test").unwrap(),
        path_prefix: prefix.to_owned(),
        upstream: "app".parse().unwrap(),
        policy: AccessPolicy::Public,
        plain_header: None,
        audience: None,
        options: RouteOptions::default(),
    }
}

fuzz_target!(|octets: &[u8]| {
    let Some((table, text)) = octets.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Table { routes, index } = &TABLED[usize::from(*table) % TABLED.len()];
    if let Ok(readings) = Readings::read(text) {
        let _ = readings.lie_below("/a/b");
    }
    let chosen = |path: &str| {
        let by_index = unanimous((&routes[..], Some(index)), prefix, path).map(|found| found.map(prefix));
        let by_looking = unanimous((&routes[..], None), prefix, path).map(|found| found.map(prefix));
        assert_eq!(by_index, by_looking, "{path:?}");
        by_index
    };
    let _ = chosen(text);
    // As hyper has it; what it refuses never gets here.
    let Ok(uri) = text.parse::<Uri>() else { return };
    let path = uri.path();
    let read: Vec<_> = READERS
        .iter()
        .filter_map(|reader| Some((reader.name, reader.routes(routes, path)?)))
        .flat_map(|(name, found)| found.into_iter().map(move |found| (name, found.map(prefix))))
        .collect();
    match chosen(path) {
        Ok(chosen) => {
            let other = read.iter().find(|(_, found)| *found != chosen);
            assert!(other.is_none(), "{path:?} is of {chosen:?}, and {other:?} looks elsewhere");
        }
        Err(error) => {
            let has_one_reading = read.windows(2).all(|pair| pair[0].1 == pair[1].1);
            assert!(!is_plain(path) || !has_one_reading, "{path:?} is refused: {error}");
        }
    }
});

/// A path that everybody reads in the same way.
fn is_plain(path: &str) -> bool {
    let own = |segment: &str| segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    path.starts_with('/') && !path.contains("//") && path.split('/').skip(1).all(own)
}
