//! What ends a permission ends it for every connection that has it, and for no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::crowd::{Crowd, Gate, Kind, Pass, Visitor};
use crate::edge::fixture::{APP as WORLD_APP, World};
use crate::edge::upstream::Backend;
use crate::prove::{Proof, is_full};
use crate::story::house::{APP, House, Plan};

/// Refused from the answer on, with room for the way there and back.
const REFUSED_WITHIN: Duration = Duration::from_millis(100);
/// Design, decision 5.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// Between two that go.
const PACE: Duration = Duration::from_millis(60);
/// Those who enrol at the same time.
const ENROLLING: usize = 8;

/// How often each visitor speaks.
fn period() -> Duration {
    if is_full() { Duration::from_secs(3) } else { Duration::from_millis(500) }
}

/// How long it took from the end of the permission on.
#[derive(Default)]
struct Times {
    new_handshake: Vec<Duration>,
    next_request: Vec<Duration>,
    closed: Vec<Duration>,
    wrong: Vec<String>,
}

/// What one visitor who has to go saw.
struct Seen {
    new_handshake: Result<Duration, String>,
    next_request: Option<Result<Duration, String>>,
    closed: Result<Duration, String>,
}

/// Looks what becomes of a visitor whose permission ended at `ended`. Who does not ask for anything stays
/// silent on the open connection.
async fn watch(visitor: Arc<Visitor>, ended: Instant, asks: bool) -> Seen {
    let since = |when: Instant| when.saturating_duration_since(ended);
    let new_handshake = async {
        loop {
            match visitor.come_again().await {
                Ok(200) => {}
                Ok(403) => return Ok(since(Instant::now())),
                other => return Err(format!("a new handshake: {other:?}")),
            }
        }
    };
    let next_request = async {
        loop {
            match visitor.exchange().await {
                Ok(200) => {}
                // A connection that is gone already refuses, too.
                Ok(403) | Err(_) => return Ok(since(Instant::now())),
                other => return Err(format!("the next request: {other:?}")),
            }
        }
    };
    let (new_handshake, next_request, closed) =
        tokio::join!(new_handshake, async { if asks { Some(next_request.await) } else { None } }, async {
            visitor.closed().await.map(since)
        },);
    Seen { new_handshake, next_request, closed }
}

/// Those who have to go.
#[derive(Default)]
struct Leavers(JoinSet<(Kind, Seen)>);

impl Leavers {
    /// Every other one with HTTP asks for something.
    fn add(&mut self, visitor: Arc<Visitor>, ended: Instant) {
        let (kind, asks) = (visitor.kind, visitor.kind != Kind::Tunnel && self.0.len().is_multiple_of(2));
        self.0.spawn(async move { (kind, watch(visitor, ended, asks).await) });
    }

    /// Waits until they are gone, and ends the proof.
    async fn end(mut self, proof: Proof, crowd: Crowd) {
        let (mut times, gone) = (Times::default(), self.0.len());
        while let Some(seen) = self.0.join_next().await {
            let (kind, seen) = seen.unwrap();
            times.add(kind, seen);
        }
        times.end(proof, crowd, gone).await;
    }
}

impl Times {
    fn add(&mut self, kind: Kind, seen: Seen) {
        let parts = [
            (&mut self.new_handshake, Some(seen.new_handshake)),
            (&mut self.next_request, seen.next_request),
            (&mut self.closed, Some(seen.closed)),
        ];
        for (times, outcome) in parts {
            match outcome {
                Some(Ok(took)) => times.push(took),
                Some(Err(why)) => self.wrong.push(format!("{kind:?}: {why}")),
                None => {}
            }
        }
    }

    /// Ends the proof.
    async fn end(mut self, proof: Proof, crowd: Crowd, gone: usize) {
        let open = crowd.visitors.len() - gone;
        let (exchanges, failures) = crowd.leave().await;
        let p99 = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
            times.get(at).copied().unwrap_or(Duration::MAX)
        };
        let [handshake, request, closed] =
            [&mut self.new_handshake, &mut self.next_request, &mut self.closed].map(p99);
        // Small runs share the machine with everything else.
        let is_in_time = !is_full()
            || (handshake <= REFUSED_WITHIN && request <= REFUSED_WITHIN && closed <= CLOSED_WITHIN);
        let ok = is_in_time && failures.is_empty() && self.wrong.is_empty() && self.closed.len() == gone;
        let measured = format!(
            "{gone} gone: new handshakes refused after {handshake:.1?}, next requests after {request:.1?}, \
             connections closed after {closed:.0?} (p99); {exchanges} exchanges of {open} others, {} failed{}",
            failures.len(),
            self.wrong.iter().chain(&failures).take(3).map(|why| format!("; {why}")).collect::<String>(),
        );
        proof.end(gone as u64, ok, &measured);
    }
}

/// A device and what the API says of its certificate.
struct Enrolled {
    serial: String,
    pass: Pass,
}

/// `count` devices, of these people in turn.
fn enrol(house: &House, people: &[String], count: usize) -> Vec<Enrolled> {
    let mut all: Vec<(usize, Enrolled)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ENROLLING)
            .map(|first| {
                scope.spawn(move || {
                    let mut wire = house.console();
                    let bearer = format!("Bearer {}", house.token);
                    let mine = (first..count).step_by(ENROLLING);
                    mine.map(|number| {
                        let key = crate::story::device::Key::generate();
                        let person = &people[number % people.len()];
                        let name = format!("device {number}");
                        let body = json!({ "csr": key.csr(), "device_name": name, "person_id": person });
                        let headers = [("authorization", &*bearer)];
                        let answer =
                            wire.send("POST", "/api/v1/certificates", &headers, Some(&body)).unwrap();
                        assert_eq!(answer.status, 201, "{}", answer.text());
                        let certificate = answer.json();
                        let device = key.with(&certificate);
                        let pass = Pass { chain: device.chain(), key: device.key() };
                        (
                            number,
                            Enrolled { serial: certificate["serial"].as_str().unwrap().to_owned(), pass },
                        )
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, one)| one).collect()
}

/// The product's own process with an app behind it.
async fn open() -> (House, Gate) {
    let backend = Backend::start().await;
    let upstream = format!("http://{}", backend.address);
    let house = tokio::task::spawn_blocking(move || {
        House::open(&Plan { database: None, more: "", edge: None }, &upstream)
    });
    let house = house.await.unwrap();
    let gate = Gate { port: house.https, host: APP, root: house.authority.clone() };
    (house, gate)
}

fn people(house: &House, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| house.person(&format!("Person {number}"), &format!("p{number}@example.org")))
        .collect()
}

/// What the API answered, and when; every edge had it by then.
async fn tell(house: &Arc<House>, method: &'static str, path: String, body: Value) -> Instant {
    let house = house.clone();
    let told = tokio::task::spawn_blocking(move || {
        let tag = (method == "PATCH").then(|| house.call("GET", &path, &[], None));
        let tag = tag.as_ref().and_then(|answer| answer.header("etag"));
        let headers: Vec<_> = tag.map(|tag| ("if-match", tag)).into_iter().collect();
        let answer = house.call(method, &path, &headers, Some(&body));
        let when = Instant::now();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.json()["enforced"], json!({ "edges": 1, "acknowledged": 1 }), "{path}");
        when
    });
    told.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation() {
    let proof = Proof::of("revocation");
    let (live, gone) = (proof.size(30, 5_000) as usize, proof.size(6, 100) as usize);
    let (house, gate) = open().await;
    let house = Arc::new(house);
    let enrolled = tokio::task::spawn_blocking({
        let house = house.clone();
        move || enrol(&house, &people(&house, 10), live)
    });
    let (serials, passes): (Vec<_>, Vec<_>) =
        enrolled.await.unwrap().into_iter().map(|one| (one.serial, one.pass)).unzip();
    let crowd = Crowd::gather(&gate, passes, period()).await;
    tokio::time::sleep(period()).await;
    let mut leavers = Leavers::default();
    for (number, victim) in victims(live, gone).enumerate() {
        let visitor = crowd.visitors[victim].clone();
        visitor.is_to_go();
        let path = format!("/certificates/{}/revocation", serials[victim]);
        let ended = tell(&house, "POST", path, json!({ "reason": "keyCompromise" })).await;
        leavers.add(visitor, ended);
        proof.progress(number as u64, gone as u64);
        tokio::time::sleep(PACE).await;
    }
    leavers.end(proof, crowd).await;
}

/// `gone` of `live`, of each kind and far apart.
fn victims(live: usize, gone: usize) -> impl Iterator<Item = usize> {
    (0..gone).map(move |number| number * (live / gone) / 3 * 3 + number % 3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabled_person() {
    let proof = Proof::of("disabled_person");
    let (live, gone) = (proof.size(30, 5_000) as usize, proof.size(3, 100) as usize);
    let (house, gate) = open().await;
    let house = Arc::new(house);
    // Three devices of each who goes, so that every kind of connection is among theirs.
    let everybody = live / 3;
    let enrolled = tokio::task::spawn_blocking({
        let house = house.clone();
        move || {
            let people = people(&house, everybody);
            // In turn: the first of all, then the second, each with connections of another kind.
            let order: Vec<_> = (0..live).map(|number| people[number / 3 % everybody].clone()).collect();
            (enrol(&house, &order, live), people)
        }
    });
    let (enrolled, people) = enrolled.await.unwrap();
    let crowd = Crowd::gather(&gate, enrolled.into_iter().map(|one| one.pass).collect(), period()).await;
    tokio::time::sleep(period()).await;
    let mut leavers = Leavers::default();
    for (number, person) in people.iter().take(gone).enumerate() {
        let theirs: Vec<_> = (0..live)
            .filter(|device| device / 3 % everybody == number)
            .map(|at| crowd.visitors[at].clone())
            .collect();
        theirs.iter().for_each(|visitor| visitor.is_to_go());
        let path = format!("/people/{person}");
        let ended = tell(&house, "PATCH", path, json!({ "disabled": true })).await;
        theirs.into_iter().for_each(|visitor| leavers.add(visitor, ended));
        proof.progress(number as u64, gone as u64);
        tokio::time::sleep(PACE).await;
    }
    leavers.end(proof, crowd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retired_authority() {
    let proof = Proof::of("retired_authority");
    let (live, gone) = (proof.size(30, 5_000) as usize, proof.size(6, 100) as usize);
    let (house, gate) = open().await;
    let house = Arc::new(house);
    let enrolled = tokio::task::spawn_blocking({
        let house = house.clone();
        move || {
            let people = people(&house, 10);
            let mut all = enrol(&house, &people, gone);
            let new = house.add("/authorities", &json!({ "kind": "issuing" }));
            let new = new["name"].as_str().unwrap();
            for step in ["trust", "issuance"] {
                let answer = house.call("POST", &format!("/authorities/{new}/{step}"), &[], None);
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            all.extend(enrol(&house, &people, live - gone));
            all
        }
    });
    let passes = enrolled.await.unwrap().into_iter().map(|one| one.pass).collect();
    let crowd = Crowd::gather(&gate, passes, period()).await;
    tokio::time::sleep(period()).await;
    crowd.visitors[..gone].iter().for_each(|visitor| visitor.is_to_go());
    let path = "/authorities/client-issuing-g1/archival".to_owned();
    let ended = tell(&house, "POST", path, json!({ "acknowledge": gone })).await;
    let mut leavers = Leavers::default();
    crowd.visitors[..gone].iter().cloned().for_each(|visitor| leavers.add(visitor, ended));
    leavers.end(proof, crowd).await;
}

/// In this process: nobody can set the clock of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expires_while_connected() {
    let proof = Proof::of("expires_while_connected");
    let (live, gone) = (proof.size(30, 5_000) as usize, proof.size(6, 100) as usize);
    let world = World::with_settings(|settings| settings.max_connections = 20_000).await;
    let day = Duration::from_secs(86_400);
    let victims: Vec<_> = victims(live, gone).collect();
    let mut passes = Vec::new();
    for number in 0..live {
        let lifetime = match victims.iter().position(|victim| *victim == number) {
            Some(place) => Duration::from_secs(60 + place as u64),
            None => day,
        };
        let device = world.enrol_for(world.anna.id, lifetime).await;
        passes.push(Pass { chain: device.chain.clone(), key: device.key.clone_key() });
    }
    let port = world.edge.https_addresses()[0].port();
    let gate = Gate { port, host: WORLD_APP, root: world.server_ca.clone() };
    let crowd = Crowd::gather(&gate, passes, period()).await;
    world.clock.advance(Duration::from_secs(60));
    tokio::time::sleep(period()).await;
    let mut leavers = Leavers::default();
    for (number, victim) in victims.iter().enumerate() {
        let visitor = crowd.visitors[*victim].clone();
        visitor.is_to_go();
        let ended = Instant::now();
        world.clock.advance(Duration::from_secs(1));
        leavers.add(visitor, ended);
        proof.progress(number as u64, gone as u64);
        tokio::time::sleep(PACE).await;
    }
    leavers.end(proof, crowd).await;
}
