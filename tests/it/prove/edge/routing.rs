//! However name and path are written, nothing is passed on under a policy that is not the one of the place
//! where a backend would look for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri, Version};
use rustls::ClientConfig;
use wicketgate::domain::{AccessPolicy, AccessRules};
use wicketgate::edge::host::named;
use wicketgate::edge::permit::{Freshness, permit};
use wicketgate::edge::route_table::select;
use wicketgate::live::{Classified, ConfigurationData, RouteData, Site, SiteKind, classify};

use super::wire::Raw;
use crate::edge::client::tls;
use crate::edge::fixture::{APP, DOOR, Device, OPEN, SIBLING, STRICT, World, known, route};
use crate::prove::Proof;
use crate::prove::seed::Seed;

/// Which sites one handshake may serve.
const CLASSES: [&[&str]; 3] = [&[APP, SIBLING], &[STRICT], &[OPEN]];
/// Prefixes that lie close to each other.
const PREFIXES: [&str; 11] = [
    "/",
    "/public",
    "/board",
    "/board/public",
    "/board/public/minutes",
    "/a",
    "/a/b",
    "/a b",
    "/Mixed",
    "/grafana",
    "/.well-known",
];

fn configure(data: &mut ConfigurationData) {
    let group = |name: &str| {
        AccessPolicy::Known(AccessRules { groups: [name.parse().unwrap()].into(), ..AccessRules::default() })
    };
    data.routes = vec![
        route(APP, "/", known()),
        route(APP, "/public", AccessPolicy::Public),
        route(APP, "/board", group("board")),
        route(APP, "/board/public", AccessPolicy::Public),
        route(APP, "/board/public/minutes", group("board")),
        route(APP, "/a", group("team")),
        route(APP, "/a/b", AccessPolicy::Public),
        route(APP, "/a%20b", group("board")),
        route(APP, "/Mixed", AccessPolicy::Public),
        route(APP, "/.well-known", AccessPolicy::Public),
        // No route at its root.
        route(SIBLING, "/public", AccessPolicy::Public),
        route(SIBLING, "/board", group("board")),
        route(STRICT, "/", known()),
        route(STRICT, "/board", group("board")),
        route(OPEN, "/", AccessPolicy::Public),
    ];
}

/// How a backend may read the path that it gets.
#[derive(Clone, Copy, Debug)]
struct Reader {
    name: &'static str,
    /// `;x` is no part of a segment, before or after it is decoded.
    cuts: Option<Cut>,
    decodes: bool,
    backslash_is_slash: bool,
    /// Empty segments vanish, `.` and `..` are carried out.
    resolves: bool,
    ignores_case: bool,
    /// The path ends at a zero octet.
    ends_at_zero: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

const PLAIN: Reader = Reader {
    name: "plain",
    cuts: None,
    decodes: true,
    backslash_is_slash: false,
    resolves: false,
    ignores_case: false,
    ends_at_zero: false,
};

const READERS: [Reader; 9] = [
    PLAIN,
    Reader { name: "undecoded", decodes: false, ..PLAIN },
    Reader { name: "nginx", resolves: true, ..PLAIN },
    Reader { name: "express", ignores_case: true, ..PLAIN },
    Reader { name: "servlet", cuts: Some(Cut::Before), resolves: true, ..PLAIN },
    Reader { name: "late cutter", cuts: Some(Cut::After), resolves: true, ..PLAIN },
    Reader { name: "windows", backslash_is_slash: true, resolves: true, ignores_case: true, ..PLAIN },
    Reader { name: "c", ends_at_zero: true, resolves: true, ..PLAIN },
    Reader { name: "undecoded express", decodes: false, ignores_case: true, ..PLAIN },
];

impl Reader {
    /// The segments that it sees; none if it cannot read the path.
    fn read(&self, path: &str) -> Option<Vec<String>> {
        let cut = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
        let mut text = path.to_owned();
        if self.cuts == Some(Cut::Before) {
            text = text.split('/').map(cut).collect::<Vec<_>>().join("/");
        }
        if self.decodes {
            text = decoded(&text)?;
        }
        if self.backslash_is_slash {
            text = text.replace('\\', "/");
        }
        if self.ends_at_zero {
            text.truncate(text.find('\0').unwrap_or(text.len()));
        }
        if self.cuts == Some(Cut::After) {
            text = text.split('/').map(cut).collect::<Vec<_>>().join("/");
        }
        let mut segments: Vec<String> = Vec::new();
        for segment in text.strip_prefix('/')?.split('/') {
            match segment {
                "" | "." if self.resolves => {}
                ".." if self.resolves => drop(segments.pop()),
                other => segments.push(other.to_owned()),
            }
        }
        Some(segments)
    }

    /// The policy of the place where it looks; none where no route is. Some readers take names for the
    /// same that we do not, and what they look for may be ruled by any of them.
    fn policies<'r>(&self, routes: &'r [RouteData], path: &str) -> Option<Vec<Option<&'r AccessPolicy>>> {
        let segments = self.read(path)?;
        let same = |one: &str, other: &str| match self.ignores_case {
            true => one.eq_ignore_ascii_case(other),
            false => one == other,
        };
        let covers = |route: &&RouteData| {
            // Who does not undo escapes looks for what a link says.
            let prefix = &route.path_prefix;
            let prefix = if self.decodes { decoded(prefix).unwrap() } else { prefix.clone() };
            let wanted: Vec<_> = prefix.split('/').skip(1).filter(|part| !part.is_empty()).collect();
            wanted.len() <= segments.len()
                && wanted.iter().zip(&segments).all(|(one, other)| same(one, other))
        };
        let depth = |route: &RouteData| route.path_prefix.split('/').filter(|part| !part.is_empty()).count();
        let covering: Vec<_> = routes.iter().filter(covers).collect();
        let Some(deepest) = covering.iter().map(|route| depth(route)).max() else { return Some(vec![None]) };
        Some(
            covering
                .iter()
                .filter(|route| depth(route) == deepest)
                .map(|route| Some(&route.policy))
                .collect(),
        )
    }
}

/// Percent-decoded; none where that is not text.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let pair = more.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%') {
            Some(octet) => {
                octets.push(octet);
                rest = &more[2..];
            }
            None => {
                octets.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(octets).ok()
}

/// One of the names that a request may bear, in some writing.
fn host(seed: &mut Seed) -> String {
    let name = *seed.one_of(&[APP, APP, APP, SIBLING, STRICT, OPEN, DOOR, "unknown.test", "*.test", "test"]);
    let name: String = match seed.below(3) {
        0 => name.chars().map(|c| if seed.below(2) == 0 { c.to_ascii_uppercase() } else { c }).collect(),
        _ => name.to_owned(),
    };
    match seed.below(16) {
        0 => format!("{name}."),
        1 => format!("{name}:443"),
        2 => format!("{name}.:8443"),
        3 => format!("{name}:"),
        4 => format!("{name}:99999"),
        5 => format!(".{name}"),
        6 => format!("{name}.."),
        7 => format!("user@{name}"),
        8 => "127.0.0.1".to_owned(),
        9 => "[::1]".to_owned(),
        10 => format!("{name} "),
        11 => format!("{name}, {APP}"),
        _ => name,
    }
}

/// A path near the prefixes, with everything that readers disagree about.
fn path(seed: &mut Seed) -> String {
    let mut path = (*seed.one_of(&PREFIXES)).replace(' ', "%20");
    for _ in 0..seed.below(4) {
        let piece = *seed.one_of(&[
            "/", "//", "/.", "/..", "/board", "/public", "/a", "/b", "/x", ";", ";v=1", "%3b", "%3B", "%2f",
            "%2F", "%5c", "\\", "%2e", "%2e%2e", "/%2e%2e/", "/..;/", "%00", "%0d%0a", "%25", "%252e", "%zz",
            "%c0%ae", "%20", "+", "~", ".", "%41", "%61", "minutes", "é", "%c3%a9", "/;/", "/;x/..",
        ]);
        match seed.below(3) {
            0 => path = format!("{}{piece}", path),
            1 => path = format!("{piece}{path}"),
            _ => {
                let at = seed.below(path.chars().count() as u64 + 1) as usize;
                let at = path.char_indices().nth(at).map_or(path.len(), |(at, _)| at);
                path.insert_str(at, piece);
            }
        }
    }
    if seed.below(4) == 0 {
        path = path
            .chars()
            .map(|c| match seed.below(6) {
                0 => c.to_ascii_uppercase(),
                1 => c.to_ascii_lowercase(),
                _ => c,
            })
            .collect();
    }
    if seed.below(6) == 0 {
        let octets: Vec<_> = path.bytes().collect();
        let at = seed.below(octets.len() as u64) as usize;
        if octets[at].is_ascii_alphanumeric() && !path[..at].ends_with('%') {
            path.replace_range(at..=at, &format!("%{:02x}", octets[at]));
        }
    }
    path
}

/// What the model says of a case.
struct Model {
    routes: BTreeMap<String, Vec<RouteData>>,
}

impl Model {
    fn of(data: &ConfigurationData) -> Self {
        let mut routes = BTreeMap::<_, Vec<RouteData>>::new();
        for route in &data.routes {
            routes.entry(route.host.to_string()).or_default().push(route.clone());
        }
        Self { routes }
    }

    /// The site that the text names, as every backend would understand it.
    fn site(&self, host: &str) -> Option<&str> {
        let name = match host.split_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            Some(_) => return None,
            None => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.routes.get_key_value(&name).map(|(name, _)| &**name)
    }

    /// Why a case that was passed on under `policy` should not have been.
    fn fault(&self, sni: &str, host: &str, path: &str, policy: &AccessPolicy) -> Option<String> {
        let Some(site) = self.site(host) else { return Some("no site is named so".to_owned()) };
        if !CLASSES.iter().any(|class| class.contains(&sni) && class.contains(&site)) {
            return Some(format!("a handshake for {sni}, a request for {site}"));
        }
        let routes = &self.routes[site];
        READERS.iter().find_map(|reader| {
            let policies = reader.policies(routes, path)?;
            let agree = policies.iter().all(|found| *found == Some(policy));
            (!agree).then(|| format!("{}: {policy:?} was asked, {policies:?} rules", reader.name))
        })
    }
}

/// A path that everybody reads in the same way.
fn is_plain(path: &str) -> bool {
    let segments = path.split('/').skip(1);
    let own = |segment: &str| segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    path.starts_with('/') && !path.contains("//") && segments.into_iter().all(own)
}

/// The same stations as a request's, in this thread: the policy that was asked, if it lets the visitor in.
fn passes<'s>(site: &'s Site, path: &str, who: &Arc<Classified>) -> Option<&'s AccessPolicy> {
    let route = select(site, path).ok()??;
    permit(route, who, Freshness::Fresh).ok().map(|_| &route.policy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routing_property() {
    let proof = Proof::of("routing_property");
    let (cases, sent) = (proof.size(20_000, 1_200_000), proof.size(400, 24_000));
    let world = World::with(|_| {}, configure).await;
    let device = world.enrol().await;
    let model = Model::of(&world.data);
    let mut seed = Seed::of(4);
    let table = in_the_table(&world, &model, &device, cases, &mut seed, &proof);
    let sockets = through_sockets(&world, &model, &device, sent, &mut seed, &proof).await;
    let wrong: Vec<_> = table.wrong.iter().chain(&sockets.wrong).collect();
    // Nothing is shown where nothing passes.
    let ok = wrong.is_empty() && table.passed > cases / 200 && sockets.passed > sent / 200;
    let measured = format!(
        "{cases} cases in the table, {} passed on; {sent} through sockets ({} in one-octet records, {} with a \
         hello of 16 KiB and a post-quantum share), {} passed on; {} under a policy that does not rule{}",
        table.passed,
        sockets.crumbled,
        sockets.large,
        sockets.passed,
        wrong.len(),
        wrong.iter().take(3).map(|fault| format!("; {fault}")).collect::<String>(),
    );
    proof.end(cases + sent, ok, &measured);
}

#[derive(Default)]
struct Found {
    passed: u64,
    crumbled: u64,
    large: u64,
    wrong: Vec<String>,
}

fn in_the_table(
    world: &World,
    model: &Model,
    device: &Device,
    cases: u64,
    seed: &mut Seed,
    proof: &Proof,
) -> Found {
    use wicketgate::clock::Clock;
    let snapshot = world.holder.snapshot().unwrap();
    let known = Arc::new(classify(&device.chain, world.clock.now(), world.holder.register()));
    assert!(matches!(*known, Classified::Known(_)));
    let nobody = Arc::new(Classified::None);
    let mut found = Found::default();
    for number in 0..cases {
        let (sni, host, path) = (*seed.one_of(&[APP, SIBLING, STRICT, OPEN, DOOR]), host(seed), path(seed));
        let who = if seed.below(2) == 0 { &known } else { &nobody };
        let class = snapshot.configuration.site(sni).unwrap().handshake_class();
        // As hyper has it; what it refuses never gets here.
        let (Ok(uri), Ok(value)) = (path.parse::<Uri>(), HeaderValue::from_str(&host)) else { continue };
        let headers = HeaderMap::from_iter([(HOST, value)]);
        let verdict = named(Version::HTTP_11, &uri, &headers).ok().and_then(|named| {
            let site = snapshot.configuration.site(named.host.as_str())?;
            let is_ours = site.handshake_class() == class && site.kind != SiteKind::Door;
            is_ours.then(|| passes(site, uri.path(), who)).flatten()
        });
        if let Some(policy) = verdict {
            found.passed += 1;
            let fault = model.fault(sni, &host, uri.path(), policy);
            found.wrong.extend(fault.map(|fault| format!("{sni} {host:?} {path:?}: {fault}")));
        } else if is_plain(&path) && model.site(&host) == Some(OPEN) && sni == OPEN {
            found.wrong.push(format!("{host:?} {path:?} is open to all and was refused"));
        }
        proof.progress(number, cases);
    }
    found
}

/// A hello of sixteen KiB: names of protocols that nobody speaks, behind the one that is meant.
fn large(mut tls: ClientConfig) -> ClientConfig {
    tls.alpn_protocols.extend((0..60_u8).map(|number| vec![number.max(1); 255]));
    tls
}

async fn through_sockets(
    world: &World,
    model: &Model,
    device: &Device,
    sent: u64,
    seed: &mut Seed,
    proof: &Proof,
) -> Found {
    let port = world.edge.https_addresses()[0].port();
    let mut found = Found::default();
    let mut open = BTreeMap::<(&str, bool), Raw>::new();
    for number in 0..sent {
        let sni = *seed.one_of(&[APP, APP, SIBLING, STRICT, OPEN]);
        // In mode `require` nobody comes in without.
        let is_known = sni == STRICT || seed.below(2) == 0;
        let (host, path) = (host(seed), path(seed));
        let mut raw = match open.remove(&(sni, is_known)) {
            Some(raw) => raw,
            None => {
                let tls = tls(world, is_known.then_some(device), &[b"http/1.1"]);
                // Not both: records that are mostly heads may be refused beyond 64 KiB.
                let (crumbled, is_large) =
                    [(true, false), (false, true), (false, false), (false, false)][seed.below(4) as usize];
                found.crumbled += u64::from(crumbled);
                found.large += u64::from(is_large);
                let tls = if is_large { large(tls) } else { tls };
                let raw = Raw::connect(port, sni, tls, crumbled).await;
                raw.unwrap_or_else(|error| panic!("{sni}, crumbled {crumbled}, large {is_large}: {error}"))
            }
        };
        let before = world.backend.requests();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nx-case: {number}\r\n\r\n");
        // What is no HTTP at all may end without an answer of length.
        let answer = raw.ask(request.as_bytes()).await;
        let has_passed = world.backend.requests() > before;
        if has_passed {
            found.passed += 1;
            let seen = answer.as_ref().ok().and_then(|answer| answer.seen());
            let target =
                seen.as_ref().and_then(|seen| seen["target"].as_str()).unwrap_or_default().to_owned();
            let read = target.split('?').next().unwrap_or_default();
            let policy = allowed(model, &host, read, is_known);
            let fault = match policy {
                Some(policy) => model.fault(sni, &host, read, policy),
                None => Some("nothing there lets this visitor in".to_owned()),
            };
            found.wrong.extend(fault.map(|fault| format!("{sni} {host:?} {path:?}: {fault}")));
        } else if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            found.wrong.push(format!("{sni} {host:?} {path:?}: an answer of nobody's"));
        }
        if answer.is_ok_and(|answer| !answer.is_last) {
            open.insert((sni, is_known), raw);
        }
        proof.progress(number, sent);
    }
    found
}

/// The policy of the place as it is written, if it lets the visitor in: Anna, who is in the team, or nobody.
fn allowed<'m>(model: &'m Model, host: &str, path: &str, is_known: bool) -> Option<&'m AccessPolicy> {
    let routes = &model.routes[model.site(host)?];
    let policy = PLAIN.policies(routes, path)?.first().copied().flatten()?;
    let lets_in = match policy {
        AccessPolicy::Public => true,
        AccessPolicy::Known(rules) => {
            is_known && (rules.groups.is_empty() || rules.groups.contains(&"team".parse().unwrap()))
        }
    };
    lets_in.then_some(policy)
}
