//! What is measured, of whom. Contestants of one scenario run in alternating rounds, because only what was
//! measured side by side can be compared.

use super::load::{Group, Load, Page};
use super::peers::{Buffers, Kind, Size};

pub(crate) const OURS: &str = "wicketgate";
pub(crate) const OURS_HYBRID: &str = "wicketgate, X25519MLKEM768";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const NGINX_LARGE: &str = "nginx, large buffers";
pub(crate) const HAPROXY: &str = "haproxy";
pub(crate) const HAPROXY_LARGE: &str = "haproxy, large buffers";
pub(crate) const CADDY: &str = "caddy";
/// Answers by itself, with nothing but TLS and HTTP: what hyper could do at most.
pub(crate) const ECHO: &str = "bare hyper echo";
pub(crate) const ROUTES_10: &str = "10 routes";
pub(crate) const ROUTES_10000: &str = "10,000 routes";
pub(crate) const REGISTER_0: &str = "0 certificates";
pub(crate) const REGISTER_1000000: &str = "1,000,000 certificates";

/// An edge of a usual size.
const USUAL: Size = Size { routes: 10, certificates: 10_000 };

/// One comparison.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// For the reader of the results.
    pub(crate) title: &'static str,
    pub(crate) contestants: Vec<Contestant>,
}

/// Who takes part, under which load.
#[derive(Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) load: Load,
}

impl Scenario {
    /// Whether every measurement needs a process that has served nobody yet.
    pub(crate) fn needs_fresh_processes(&self) -> bool {
        self.contestants.iter().any(|contestant| contestant.load == Load::Idle)
    }

    /// Whose highest rate sets the pace of the others, if one is needed.
    pub(crate) fn pacemaker(&self) -> Option<usize> {
        self.contestants
            .iter()
            .position(|contestant| contestant.name == NGINX && contestant.load == Load::Paced)
    }
}

pub(crate) fn all() -> Vec<Scenario> {
    let scenario = |name, title, contestants| Scenario { name, title, contestants };
    let ours = |name, load, size| Contestant { name, kind: Kind::Ours(size), load };
    let small = Load::Kept(Page::Small);
    vec![
        scenario("h1_1k", "HTTP/1.1, 1 KiB, 64 connections", beside_all(small)),
        scenario(
            "h2_1k",
            "HTTP/2, 1 KiB, 16 connections of 32 streams",
            beside_all(Load::Streams(Page::Small)),
        ),
        scenario("h1_100k", "HTTP/1.1, 100 KiB, 64 connections", beside_tuned(Load::Kept(Page::Large))),
        scenario(
            "h2_100k",
            "HTTP/2, 100 KiB, 16 connections of 8 streams",
            beside_tuned(Load::Streams(Page::Large)),
        ),
        scenario(
            "handshakes",
            "full mutual handshakes by X25519, one request each",
            beside_all(Load::Handshakes(Group::X25519)),
        ),
        scenario(
            "handshakes_mlkem",
            "full mutual handshakes, one request each",
            vec![
                ours(OURS, Load::Handshakes(Group::X25519), USUAL),
                ours(OURS_HYBRID, Load::Handshakes(Group::X25519Mlkem768), USUAL),
            ],
        ),
        scenario("idle_rss", "idle connections after one request", beside_all(Load::Idle)),
        scenario(
            "latency_half",
            "HTTP/1.1, 1 KiB, at half of what nginx can do",
            // Caddy cannot do half of what nginx can.
            beside_all(Load::Paced).into_iter().filter(|contestant| contestant.name != CADDY).collect(),
        ),
        scenario(
            "routes",
            "HTTP/1.1, 1 KiB, by the number of routes",
            vec![
                ours(ROUTES_10, small, Size { routes: 10, ..USUAL }),
                ours(ROUTES_10000, small, Size { routes: 10_000, ..USUAL }),
            ],
        ),
        scenario(
            "register",
            "HTTP/1.1, 1 KiB, by the size of the register",
            vec![
                ours(REGISTER_0, small, Size { certificates: 0, ..USUAL }),
                ours(REGISTER_1000000, small, Size { certificates: 1_000_000, ..USUAL }),
            ],
        ),
    ]
}

fn beside_all(load: Load) -> Vec<Contestant> {
    let contestant = |name, kind| Contestant { name, kind, load };
    vec![
        contestant(OURS, Kind::Ours(USUAL)),
        contestant(NGINX, Kind::Nginx(Buffers::Default)),
        contestant(HAPROXY, Kind::Haproxy(Buffers::Default)),
        contestant(CADDY, Kind::Caddy),
        contestant(ECHO, Kind::Echo),
    ]
}

/// Large answers: which buffers suit them best is found out by trying.
fn beside_tuned(load: Load) -> Vec<Contestant> {
    let mut contestants = beside_all(load);
    contestants.push(Contestant { name: NGINX_LARGE, kind: Kind::Nginx(Buffers::Large), load });
    contestants.push(Contestant { name: HAPROXY_LARGE, kind: Kind::Haproxy(Buffers::Large), load });
    contestants
}
