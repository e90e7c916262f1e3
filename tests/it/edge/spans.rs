//! Spans as a collector gets them.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wicketgate::telemetry::metrics::SpanMetrics;
use wicketgate::telemetry::otlp;

use super::client::{Http, connect};
use super::fixture::{APP, World};
use super::proxy_header::networks;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Keeps what it is sent.
#[derive(Default)]
struct Collector(Mutex<Vec<Value>>);

impl Collector {
    fn take(&self, request: &Bytes) {
        let json: Value = serde_json::from_slice(request).unwrap();
        let spans = json["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        self.0.lock().extend(spans);
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let collector = self.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let collector = collector.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    assert_eq!(request.headers()["content-type"], "application/json");
                    collector.take(&request.into_body().collect().await.unwrap().to_bytes());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    }
}

/// An edge that records this share of the traces that begin at it, and a collector.
struct Scene {
    world: World,
    collector: Arc<Collector>,
    metrics: Arc<SpanMetrics>,
    stop: CancellationToken,
    exporter: JoinHandle<()>,
}

impl Scene {
    /// Behind a proxy that is believed.
    async fn with_ratio(ratio: f64) -> Self {
        Self::of(ratio, &["127.0.0.0/8"]).await
    }

    async fn of(ratio: f64, trusted: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let collector = Arc::new(Collector::default());
        tokio::spawn(collector.clone().serve(listener));
        let metrics = Arc::new(SpanMetrics::default());
        let (spans, exporter) = otlp::exporter(&endpoint, ratio, metrics.clone());
        let world = World::with_settings(|settings| {
            settings.spans = spans;
            settings.trusted_proxies = networks(trusted);
        })
        .await;
        let stop = CancellationToken::new();
        let exporter = tokio::spawn(exporter.run(stop.clone()));
        Self { world, collector, metrics, stop, exporter }
    }

    /// A visit with this `traceparent`; the one that the backend saw.
    async fn visit(&self, path: &str, parent: Option<&str>) -> Vec<String> {
        let mut visitor = connect(&self.world, APP, None, Http::One).await;
        let mut request = visitor.request(Method::GET, APP, path);
        if let Some(parent) = parent {
            request.headers_mut().insert("traceparent", HeaderValue::from_str(parent).unwrap());
        }
        let answer = visitor.ask(request).await;
        if answer.status == 200 { answer.seen("traceparent") } else { Vec::new() }
    }

    /// Everything that the collector got, once the edge has nothing more to say.
    async fn spans(self) -> Vec<Value> {
        self.world.edge.drain().await;
        self.stop.cancel();
        self.exporter.await.unwrap();
        let spans = std::mem::take(&mut *self.collector.0.lock());
        assert_eq!((self.metrics.sent.value(), self.metrics.lost.value()), (spans.len() as u64, 0));
        spans
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let all = span["attributes"].as_array().unwrap();
    let value = &all.iter().find(|attribute| attribute["key"] == key)?["value"];
    value["stringValue"].as_str().or(value["intValue"].as_str())
}

fn of_kind(spans: &[Value], kind: u64) -> &Value {
    spans.iter().find(|span| span["kind"] == kind).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitors_trace_goes_through_our_span_and_the_call_to_the_upstream() {
    let scene = Scene::with_ratio(0.0).await;
    let path = "/public/anna%40example.com/wkt_abcdefghijkl?secret=hunter2";
    let seen = scene.visit(path, Some(&format!("00-{TRACE}-{PARENT}-01"))).await;
    let spans = scene.spans().await;
    assert_eq!(spans.len(), 2);
    let (server, client) = (of_kind(&spans, 2), of_kind(&spans, 3));
    assert_eq!(server["traceId"], TRACE);
    assert_eq!(client["traceId"], TRACE);
    assert_eq!(server["parentSpanId"], PARENT);
    assert_eq!(client["parentSpanId"], server["spanId"]);
    assert_eq!(seen, [format!("00-{TRACE}-{}-01", client["spanId"].as_str().unwrap())]);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("server.address", APP),
        ("network.protocol.version", "1.1"),
    ] {
        assert_eq!(attribute(server, key), Some(value), "{key}");
    }
    assert!(attribute(server, "wicketgate.route").is_some());
    assert_eq!(attribute(client, "wicketgate.upstream"), Some("echo"));
    assert_eq!(attribute(server, "error.type"), None);
    let said = serde_json::to_string(&spans).unwrap();
    for secret in ["anna", "abcdefghijkl", "hunter2"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_recorded_as_its_flag_says_or_by_our_share() {
    let none = Scene::with_ratio(0.0).await;
    none.visit("/public", None).await;
    assert!(none.spans().await.is_empty());
    let all = Scene::with_ratio(1.0).await;
    all.visit("/public", Some(&format!("00-{TRACE}-{PARENT}-00"))).await;
    let seen = all.visit("/public", None).await;
    assert!(seen[0].ends_with("-01"), "the backend is told, too: {seen:?}");
    // Refused, and so no call to an upstream.
    all.visit("/", None).await;
    let spans = all.spans().await;
    let kinds: Vec<_> = spans.iter().map(|span| span["kind"].as_u64().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == 2).count(), 2, "{spans:?}");
    assert_eq!(kinds.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span["traceId"] != TRACE));
    let refused = spans.iter().find(|span| attribute(span, "error.type").is_some()).unwrap();
    assert_eq!(attribute(refused, "error.type"), Some("certificate_required"));
    assert!(refused.get("parentSpanId").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_has_nothing_recorded_that_we_do_not_draw() {
    let none = Scene::of(0.0, &[]).await;
    let seen = none.visit("/public", Some(&format!("00-{TRACE}-{PARENT}-01"))).await;
    assert!(seen[0].starts_with(&format!("00-{TRACE}-")) && seen[0].ends_with("-00"), "{seen:?}");
    assert!(none.spans().await.is_empty());
    let all = Scene::of(1.0, &[]).await;
    all.visit("/public", Some(&format!("00-{TRACE}-{PARENT}-00"))).await;
    assert_eq!(all.spans().await.len(), 2);
}
