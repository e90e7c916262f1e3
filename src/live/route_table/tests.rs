use proptest::prelude::*;

use super::super::path::segments;
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
    let prefixes = ["/public/admin", "/public", "/Mixed", "/a%20b", "/%C3%a9", "/twin", "/TWIN", "/a;b", "/"];
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

#[test]
fn who_drops_one_segment_may_keep_another() {
    for path in [
        "/index.php/admin%3fx.php",
        "/index.php/admin;x.php/y",
        "/index.php/admin;.php/x",
        "/(S(x))/admin;.php/y",
        "/INDEX.PHP/ADMIN%3b.php",
        "/index.php;x/admin/(S(x))",
        "/index.php/x.php%20/y",
    ] {
        assert_eq!(unanimous(&["/admin", "/"], |prefix| prefix, path), Err(BadPath::Ambiguous), "{path}");
        assert_eq!(Readings::read(path).err(), Some(BadPath::Ambiguous), "{path}");
        assert_eq!(unanimous(&["/"], |prefix| prefix, path), Ok(Some(&"/")), "{path}");
    }
    for path in ["/wiki/index.php;x/y", "/wiki/index.php/x.php/y", "/wiki/(S(x))/index.php"] {
        assert_eq!(unanimous(&["/wiki", "/"], |prefix| prefix, path), Ok(Some(&"/wiki")), "{path}");
    }
}

#[test]
fn many_prefixes_are_asked_as_one_by_one() {
    let prefixes: Vec<_> = ["/admin", "/admin/keys", "/ADMIN/x", "/b", "/c", "/d"].map(str::to_owned).into();
    let index = RouteIndex::of(prefixes.iter().map(String::as_str));
    for (path, expected) in [
        ("/admin/x", Some(true)),
        ("/Admin/x", None),
        ("/index.php/b", None),
        ("/e/admin", Some(false)),
        ("/b/index.php", Some(true)),
        ("/", Some(false)),
    ] {
        let read = Readings::read(path).unwrap();
        assert_eq!(read.lie_below_any(&prefixes, &index), expected, "{path}");
        assert_eq!(read.lie_below_any(&prefixes[..1], &RouteIndex::of(["/admin"])), read.lie_below("/admin"));
    }
}

#[test]
fn no_more_is_kept_of_a_path_than_a_prefix_can_reach() {
    let long = format!("{}/x.php", "/a".repeat(16_000));
    let read = Readings::read(&long).unwrap();
    assert_eq!(read.segments.len(), MOST_SEGMENTS + MOST_UNPLAIN);
    assert_eq!(read.lie_below(&"/a".repeat(128)), Some(true));
    // What can be read in many ways may not be long, too.
    let encoded = |count| format!("/{}%{}61", "x".repeat(count), "25".repeat(12));
    assert!(Readings::read(&encoded(100)).is_ok());
    assert_eq!(Readings::read(&encoded(8_000)).err(), Some(BadPath::Ambiguous));
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

/// What selection means: whichever reading each segment gets, and whichever of those that some drop are
/// dropped, it is the same one, or the same none. Where one is dropped in some readings only, there must be
/// no other.
fn model<'a>(prefixes: &'a [String], path: &str) -> Result<Option<&'a String>, BadPath> {
    // There is nothing else that it could be taken for.
    if let [only] = prefixes
        && only == "/"
    {
        return Ok(Some(only));
    }
    let cut = |name: &str| name.split(';').next().unwrap().to_owned();
    let decoded = |name: &str| name.replace("%3b", ";");
    let drops = |name: &String| name.to_ascii_lowercase().ends_with(".php") || name == "(S(b))";
    let mut readings = vec![String::new()];
    let (mut dropped, mut is_torn) = (0, false);
    for raw in path.split('/').skip(1) {
        let names = [cut(&decoded(raw)), decoded(&cut(raw)), decoded(raw), raw.to_owned()];
        let is_dropped = names.iter().any(drops);
        dropped += usize::from(is_dropped);
        is_torn |= is_dropped && !names.iter().all(drops);
        let longer = |path: &String| {
            let without = is_dropped.then(|| path.clone());
            let with: Vec<_> = names.iter().map(|name| format!("{path}/{name}")).collect();
            with.into_iter().chain(without)
        };
        readings = readings.iter().flat_map(longer).collect();
        readings.sort();
        readings.dedup();
    }
    if is_torn && dropped > 1 {
        return Err(BadPath::Ambiguous);
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
        path in "(/([abA]([bB]|;b|%3bb|;%3b)?|x\\.PHP|\\(S\\(b\\)\\)|a(;|%3b)\\.php|a\\.php;b)){1,4}/?",
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
