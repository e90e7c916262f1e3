//! However name and path are written, nothing is passed on under a policy that is not the one of the place
//! where a backend would look for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri, Version};
use rustls::ClientConfig;
use wicketgate::domain::{AccessPolicy, AccessRules, RouteId, UtcTime};
use wicketgate::edge::host::named;
use wicketgate::edge::permit::{Freshness, Question, permit};
use wicketgate::live::route_table::select;
use wicketgate::live::{Classified, ConfigurationData, RouteData, Site, SiteKind, classify};

use super::readers::{PLAIN, READERS};
use super::wire::Raw;
use crate::edge::client::tls;
use crate::edge::fixture::{APP, DOOR, Device, OPEN, SIBLING, STRICT, World, known, route};
use crate::prove::Proof;
use crate::prove::seed::Seed;

/// Which sites one handshake may serve.
const CLASSES: [&[&str]; 3] = [&[APP, SIBLING], &[STRICT], &[OPEN]];
/// Prefixes that lie close to each other.
const PREFIXES: [&str; 12] = [
    "/",
    "/public",
    "/board",
    "/board/public",
    "/board/public/minutes",
    "/a",
    "/a/b",
    "/a b",
    "/Mixed",
    "/~anna",
    "/@team",
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
        route(APP, "/~anna", group("team")),
        route(APP, "/@team", AccessPolicy::Public),
        // No route at its root.
        route(SIBLING, "/public", AccessPolicy::Public),
        route(SIBLING, "/board", group("board")),
        route(STRICT, "/", known()),
        route(STRICT, "/board", group("board")),
        route(OPEN, "/", AccessPolicy::Public),
    ];
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
            "/",
            "//",
            "/.",
            "/..",
            "/board",
            "/public",
            "/a",
            "/b",
            "/x",
            ";",
            ";v=1",
            "%3b",
            "%3B",
            "%2f",
            "%2F",
            "%5c",
            "\\",
            "%2e",
            "%2e%2e",
            "/%2e%2e/",
            "/..;/",
            "%00",
            "%0d%0a",
            "%25",
            "%252e",
            "%zz",
            "%c0%ae",
            "%20",
            "+",
            "~",
            ".",
            "%41",
            "%61",
            "minutes",
            "é",
            "%c3%a9",
            "/;/",
            "/;x/..",
            "%3f",
            "%23",
            "%252f",
            "%252e%252e",
            "%2561",
            "/(S(x))",
            "/(S(x))/",
            "./",
            "%20/",
            "...",
            "%7e",
            "/index.php",
            "/%69ndex.php",
            "%253b",
            "::$DATA",
            "%40",
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
        // RFC 9112 §5: spaces around a field's value are no part of it.
        let host = host.trim();
        let name = match host.split_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            Some(_) => return None,
            None => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.routes.get_key_value(&name).map(|(name, _)| &**name)
    }

    /// Why a case that was passed on under `route` should not have been.
    fn fault(&self, sni: &str, host: &str, path: &str, route: RouteId) -> Option<String> {
        let Some(site) = self.site(host) else { return Some("no site is named so".to_owned()) };
        if !CLASSES.iter().any(|class| class.contains(&sni) && class.contains(&site)) {
            return Some(format!("a handshake for {sni}, a request for {site}"));
        }
        READERS.iter().find_map(|reader| {
            let found = reader.routes(&self.routes[site], path)?;
            let agree = found.iter().all(|found| found.is_some_and(|found| found.id == route));
            let prefixes = || found.iter().map(|found| found.map(|found| found.path_prefix.as_str()));
            (!agree).then(|| format!("{} looks at {:?}", reader.name, prefixes().collect::<Vec<_>>()))
        })
    }

    /// The route of the place as it is written, if it lets the visitor in: Anna, who is in the team, or nobody.
    fn allowed(&self, host: &str, path: &str, is_known: bool) -> Option<RouteId> {
        let route = PLAIN.routes(self.routes.get(self.site(host)?)?, path)?.first().copied().flatten()?;
        let lets_in = match &route.policy {
            AccessPolicy::Public => true,
            AccessPolicy::Known(rules) => {
                is_known && (rules.groups.is_empty() || rules.groups.contains(&"team".parse().unwrap()))
            }
        };
        lets_in.then_some(route.id)
    }

    /// Why a case that was refused should not have been: nobody can read it in another way.
    fn loss(&self, sni: &str, host: &str, path: &str, is_known: bool) -> Option<String> {
        let route = self.allowed(host, path, is_known).filter(|_| is_plain(path))?;
        self.fault(sni, host, path, route).is_none().then(|| "it was refused".to_owned())
    }
}

/// A path that everybody reads in the same way.
fn is_plain(path: &str) -> bool {
    let segments = path.split('/').skip(1);
    let own = |segment: &str| segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    path.starts_with('/') && !path.contains("//") && segments.into_iter().all(own)
}

/// The same stations as a request's, in this thread: the route, if it lets the visitor in.
fn passes(site: &Site, path: &str, who: &Arc<Classified>) -> Option<RouteId> {
    let route = select(site, path).ok()??;
    let question = Question {
        method: "GET",
        path,
        source: Ipv4Addr::LOCALHOST.into(),
        now: UtcTime::EPOCH,
        names: &|| None,
    };
    permit(route, who, Freshness::Fresh, &question).ok().map(|_| route.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routing_property() {
    let proof = Proof::of("routing_property");
    let (cases, sent) = (proof.size(20_000, 1_500_000), proof.size(400, 24_000));
    let world = World::with(|_| {}, configure).await;
    let device = world.enrol().await;
    let model = Model::of(&world.data);
    let mut seed = Seed::of(4);
    let table = in_the_table(&world, &model, &device, cases, &mut seed, &proof);
    let sockets = through_sockets(&world, &model, &device, sent, &mut seed, &proof).await;
    let wrong: Vec<_> = table.wrong.iter().chain(&sockets.wrong).collect();
    // Nothing is shown where nothing passes.
    let is_shown = table.passed > cases / 200
        && sockets.passed > sent / 200
        && sockets.crumbled > 0
        && sockets.large > 0
        && table.cases > cases / 2;
    let ok = wrong.is_empty() && is_shown;
    let measured = format!(
        "{} cases in the table, {} passed on; {sent} through sockets ({} in one-octet records, {} with a \
         hello of 16 KiB and a post-quantum share), {} passed on; {} under a policy that does not rule{}",
        table.cases,
        table.passed,
        sockets.crumbled,
        sockets.large,
        sockets.passed,
        wrong.len(),
        wrong.iter().take(3).map(|fault| format!("; {fault}")).collect::<String>(),
    );
    proof.end(table.cases + sent, ok, &measured);
}

#[derive(Default)]
struct Found {
    cases: u64,
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
        let is_known = seed.below(2) == 0;
        let who = if is_known { &known } else { &nobody };
        let class = snapshot.configuration.site(sni).unwrap().handshake_class();
        // As hyper has it; what it refuses never gets here.
        let (Ok(uri), Ok(value)) = (path.parse::<Uri>(), HeaderValue::from_str(host.trim())) else {
            continue;
        };
        let headers = HeaderMap::from_iter([(HOST, value)]);
        let verdict = named(Version::HTTP_11, &uri, &headers).ok().and_then(|named| {
            let site = snapshot.configuration.site(named.host.as_str())?;
            let is_ours = site.handshake_class() == class && site.kind != SiteKind::Door;
            is_ours.then(|| passes(site, uri.path(), who)).flatten()
        });
        found.cases += 1;
        found.passed += u64::from(verdict.is_some());
        let fault = match verdict {
            Some(route) => model.fault(sni, &host, uri.path(), route),
            None => model.loss(sni, &host, uri.path(), is_known),
        };
        found.wrong.extend(fault.map(|fault| format!("{sni} {host:?} {path:?}: {fault}")));
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
                let raw = raw
                    .unwrap_or_else(|error| panic!("{sni}, crumbled {crumbled}, large {is_large}: {error}"));
                assert!(raw.is_post_quantum(), "both sides prefer it");
                raw
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
            let fault = match model.allowed(&host, read, is_known) {
                Some(route) => model.fault(sni, &host, read, route),
                None => Some("nothing there lets this visitor in".to_owned()),
            };
            found.wrong.extend(fault.map(|fault| format!("{sni} {host:?} {path:?}: {fault}")));
        } else {
            let loss = model.loss(sni, &host, &path, is_known);
            let made_up = answer.as_ref().is_ok_and(|answer| answer.status == 200);
            let fault = loss.or(made_up.then(|| "an answer of nobody's".to_owned()));
            found.wrong.extend(fault.map(|fault| format!("{sni} {host:?} {path:?}: {fault}")));
        }
        if answer.is_ok_and(|answer| !answer.is_last) {
            open.insert((sni, is_known), raw);
        }
        proof.progress(number, sent);
    }
    found
}
