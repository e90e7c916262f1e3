//! What was permitted and goes on ends when the permission does, within a second, and nothing else.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use wicketgate::domain::{AccessPolicy, AccessRules, Delta};
use wicketgate::live::ConfigurationData;

use super::client::{Http, Visitor, connect, read, read_all, shake, tls, until};
use super::fixture::{APP, Device, World, known, route};

/// Design, decision 5, with room for a busy machine.
const SOON: Duration = Duration::from_millis(1500);

/// Whom the route of this test is for.
fn only(group: &str) -> AccessPolicy {
    AccessPolicy::Known(AccessRules { groups: [group.parse().unwrap()].into(), ..AccessRules::default() })
}

fn with_team_route(data: &mut ConfigurationData) {
    data.routes.push(route(APP, "/team", only("team")));
}

async fn download(visitor: &mut Visitor, path: &str) -> Incoming {
    let request = visitor.request(Method::GET, APP, path);
    let answer = visitor.send(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let mut body = answer.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    body
}

/// Whether the body breaks off soon.
async fn breaks_off(mut body: Incoming) -> bool {
    let to_the_end = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return true,
                None => return false,
            }
        }
    };
    tokio::time::timeout(SOON, to_the_end).await.unwrap_or(false)
}

/// Two exchanges at the route, one at its neighbour; then the route is lost by `lose`.
async fn loses_the_route(http: Http, lose: impl AsyncFn(&World), code: &str) {
    let world = World::with(|_| {}, with_team_route).await;
    let device = world.enrol().await;
    let mut visitors = visitors(&world, &device, http).await;
    let running = download(&mut visitors[0], "/team/drip").await;
    let mut neighbour = download(&mut visitors[1], "/drip").await;
    let waiting = visitors[2].request(Method::GET, APP, "/team/silent");
    let mut waits = visitors.remove(2);
    let waiting = tokio::spawn(async move { read(waits.send(waiting).await.unwrap()).await });
    until("all are under way", || world.metrics.http.active.value() == 3).await;

    lose(&world).await;
    let began = Instant::now();
    let (breaks, refused) = tokio::join!(breaks_off(running), waiting);
    assert!(breaks, "{http:?}");
    let refused = refused.unwrap();
    assert_eq!((refused.status / 100, refused.code().as_str()), (4, code), "{http:?}");
    assert!(began.elapsed() < SOON);
    // The identity is as good as before: nothing else ends.
    while began.elapsed() < SOON {
        assert!(neighbour.frame().await.unwrap().is_ok(), "{http:?}");
    }
    assert_eq!(visitors[1].get_beside(&world, &device, http).await, 200, "{http:?}");
}

/// Three streams of one connection, or three connections.
async fn visitors(world: &World, device: &Device, http: Http) -> Vec<Visitor> {
    let first = connect(world, APP, Some(device), http).await;
    match first {
        Visitor::Two(sender) => (0..3).map(|_| Visitor::Two(sender.clone())).collect(),
        Visitor::One(_) => {
            let others = [
                connect(world, APP, Some(device), http).await,
                connect(world, APP, Some(device), http).await,
            ];
            std::iter::once(first).chain(others).collect()
        }
    }
}

impl Visitor {
    /// The status of another request: of this connection where it takes several at once.
    async fn get_beside(&mut self, world: &World, device: &Device, http: Http) -> u16 {
        match self {
            Self::Two(_) => self.get(APP, "/").await.status,
            Self::One(_) => connect(world, APP, Some(device), http).await.get(APP, "/").await.status,
        }
    }
}

async fn leave_the_team(world: &World) {
    let mut without = world.anna.clone();
    without.groups.clear();
    world.apply(vec![Delta::Person(without)]).await;
}

#[tokio::test]
async fn a_group_that_is_taken_away() {
    for http in [Http::One, Http::Two] {
        loses_the_route(http, leave_the_team, "access_denied").await;
    }
}

/// HTTP/1.1 that is still sending when it loses its route is told so.
#[tokio::test]
async fn an_upload_under_way() {
    let world = World::with(|_| {}, with_team_route).await;
    let device = world.enrol().await;
    let mut stream = shake(&world, APP, tls(&world, Some(&device), &[b"http/1.1"])).await.unwrap();
    let head =
        "POST /team/silent HTTP/1.1\r\nhost: app.test\r\ncontent-length: 1000000\r\n\r\nthe first part";
    stream.write_all(head.as_bytes()).await.unwrap();
    until("it is under way", || world.metrics.http.active.value() == 1).await;
    leave_the_team(&world).await;
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("access_denied"), "{answer}");
}

#[tokio::test]
async fn a_register_that_nobody_confirms_any_more() {
    for http in [Http::One, Http::Two] {
        let world = World::start().await;
        let device = world.enrol().await;
        let mut visitor = connect(&world, APP, Some(&device), http).await;
        let running = download(&mut visitor, "/drip").await;
        let mut other = connect(&world, APP, Some(&device), http).await;
        let mut public = download(&mut other, "/public/drip").await;
        world.clock.advance(Duration::from_secs(24 * 3600 + 1));
        assert!(breaks_off(running).await, "{http:?}");
        assert!(public.frame().await.unwrap().is_ok(), "{http:?}");
    }
}

#[tokio::test]
async fn a_policy_that_is_narrowed() {
    let narrow = async |world: &World| {
        let mut data = world.data.clone();
        data.routes.iter_mut().filter(|route| route.path_prefix == "/team").for_each(|route| {
            route.policy = only("board");
        });
        world.publish(data).await;
    };
    for http in [Http::One, Http::Two] {
        loses_the_route(http, &narrow, "access_denied").await;
    }
}

#[tokio::test]
async fn a_route_that_is_taken_away() {
    let away = async |world: &World| {
        let mut data = world.data.clone();
        data.routes = vec![route(APP, "/drip", known()), route(APP, "/public", AccessPolicy::Public)];
        world.publish(data).await;
    };
    for http in [Http::One, Http::Two] {
        let world = World::with(|_| {}, with_team_route).await;
        let device = world.enrol().await;
        let mut visitor = connect(&world, APP, Some(&device), http).await;
        let running = download(&mut visitor, "/team/drip").await;
        let mut other = connect(&world, APP, Some(&device), http).await;
        let mut neighbour = download(&mut other, "/drip").await;
        away(&world).await;
        assert!(breaks_off(running).await, "{http:?}");
        assert!(neighbour.frame().await.unwrap().is_ok(), "{http:?}");
    }
}
