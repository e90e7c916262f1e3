//! From where a request comes, by the word of proxies that are believed and of nobody else.

use http::{HeaderName, HeaderValue, Method};

use super::client::{Answer, Http, connect};
use super::fixture::{APP, World};
use super::proxy_header::{behind_a_load_balancer, networks, visit};
use crate::harness::log::Captured;

const FORWARDED: HeaderName = http::header::FORWARDED;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

async fn behind_a_proxy() -> World {
    World::with_settings(|settings| settings.trusted_proxies = networks(&["127.0.0.0/8", "10.0.0.0/8"])).await
}

async fn ask(world: &World, http: Http, lines: &[(HeaderName, &'static str)]) -> Answer {
    let mut visitor = connect(world, APP, None, http).await;
    let mut request = visitor.request(Method::GET, APP, "/public");
    for (name, value) in lines {
        request.headers_mut().append(name, HeaderValue::from_static(value));
    }
    visitor.ask(request).await
}

/// `Forwarded` and `X-Forwarded-For` as the backend saw them, each once.
fn seen(answer: &Answer) -> (String, String) {
    let once = |name| {
        let [line] = <[String; 1]>::try_from(answer.seen(name)).unwrap();
        line
    };
    (once("forwarded"), once("x-forwarded-for"))
}

const OWN: &str = "for=127.0.0.1;host=\"app.test\";proto=https";

#[tokio::test]
async fn a_proxy_that_is_believed_says_from_where_and_is_added_to_the_chain() {
    let world = behind_a_proxy().await;
    for http in [Http::One, Http::Two] {
        for (lines, forwarded, forwarded_for) in [
            (&[(FORWARDED, "for=192.0.2.7;host=evil.test;proto=http")][..], "for=192.0.2.7", "192.0.2.7"),
            (
                &[(X_FORWARDED_FOR, "192.0.2.7, 10.0.0.9")],
                "for=192.0.2.7, for=10.0.0.9",
                "192.0.2.7, 10.0.0.9",
            ),
            // Two lines are one chain, and what the visitor wrote into it ends here.
            (
                &[(FORWARDED, "for=198.51.100.1"), (FORWARDED, "for=\"[2001:db8::7]:4711\"")],
                "for=\"[2001:db8::7]\"",
                "2001:db8::7",
            ),
        ] {
            let answer = ask(&world, http, lines).await;
            let expected = (format!("{forwarded}, {OWN}"), format!("{forwarded_for}, 127.0.0.1"));
            assert_eq!(seen(&answer), expected, "{http:?}");
            assert_eq!(answer.seen("x-forwarded-host"), [APP]);
            assert_eq!(answer.seen("x-forwarded-proto"), ["https"]);
        }
    }
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let world = World::with_settings(|settings| settings.trusted_proxies = networks(&["192.0.2.0/24"])).await;
    for http in [Http::One, Http::Two] {
        for line in [(FORWARDED, "for=192.0.2.7"), (X_FORWARDED_FOR, "192.0.2.7")] {
            let answer = ask(&world, http, &[line]).await;
            assert_eq!(seen(&answer), (OWN.to_owned(), "127.0.0.1".to_owned()), "{http:?}");
        }
    }
    assert_eq!(world.metrics.bad_chains.value(), 0, "it was not even looked at");
}

#[tokio::test]
async fn whoever_hides_behind_a_bad_chain_does_not_pass_for_the_proxy() {
    let world = behind_a_proxy().await;
    let hostile: [&[(HeaderName, &str)]; 5] = [
        &[(FORWARDED, "for=192.0.2.7, for=2001:db8::7")],
        &[(FORWARDED, "for=192.0.2.7;for=198.51.100.1")],
        &[(FORWARDED, "for=192.0.2.7"), (FORWARDED, "")],
        &[(X_FORWARDED_FOR, "192.0.2.7,")],
        // The proxy wrote the one, and passed on the other as the visitor sent it.
        &[(FORWARDED, "for=198.51.100.1"), (X_FORWARDED_FOR, "192.0.2.7")],
    ];
    for lines in hostile {
        let answer = ask(&world, Http::One, lines).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{lines:?}");
    }
    assert_eq!(world.metrics.bad_chains.value(), 5);
}

#[tokio::test]
async fn what_a_visitor_wrote_before_its_proxy_is_not_read() {
    let world = behind_a_proxy().await;
    let answer = ask(&world, Http::One, &[(X_FORWARDED_FOR, "nonsense,, \", 192.0.2.7")]).await;
    assert_eq!(seen(&answer).1, "192.0.2.7, 127.0.0.1");
    assert_eq!(world.metrics.bad_chains.value(), 0);
}

#[tokio::test]
async fn the_log_says_from_where_behind_all_that_is_believed() {
    let log = Captured::start("off,access=info");
    let world = behind_a_proxy().await;
    ask(&world, Http::One, &[(X_FORWARDED_FOR, "198.51.100.1, 192.0.2.7")]).await;
    ask(&world, Http::One, &[]).await;
    super::client::until("both are logged", || log.saying("request").len() == 2).await;
    let sources: Vec<_> = log.saying("request").iter().map(|line| line["source"].clone()).collect();
    assert_eq!(sources, ["192.0.2.7", "127.0.0.1"]);
}

#[tokio::test]
async fn a_network_that_sends_proxy_headers_is_not_one_whose_chains_are_believed() {
    let world = behind_a_load_balancer().await;
    let https = world.edge.https_addresses()[0];
    let header = b"PROXY TCP4 127.0.0.9 10.0.0.1 1 443\r\n";
    let mut visitor = visit(&world, https, &[header], None).await.unwrap();
    let mut request = visitor.request(Method::GET, APP, "/public");
    request.headers_mut().insert(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.7"));
    assert_eq!(seen(&visitor.ask(request).await).1, "127.0.0.9");
}
