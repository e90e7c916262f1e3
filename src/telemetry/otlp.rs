//! Sends finished spans to a collector: OTLP over HTTP in its JSON form, in batches, one request at a time.
//! What the collector does not take is lost and counted; nobody ever waits for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::metrics::SpanMetrics;
use super::redact::redact;
use super::spans::{Span, Spans, Value};

/// Spans in one request.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// For one request, connecting included; and for all that is left when the process ends.
const TAKEN_WITHIN: Duration = Duration::from_secs(3);
/// Of the collector's answer; nobody reads it.
const MAX_ANSWER: usize = 64 * 1024;

/// Takes spans out of the queue and sends them.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<Span>,
    host: String,
    port: u16,
    metrics: Arc<SpanMetrics>,
    /// The last batch was lost; said once.
    is_silent: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it cannot be reached")]
    Connect(#[from] std::io::Error),
    #[error("it did not answer")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[from] http::Error),
    #[error("its answer is too long or broken off")]
    Answer,
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it took too long")]
    Late,
}

/// Where spans are handed over, and what sends them on.
///
/// * `endpoint` — `http://host` or `http://host:port`, as the configuration checks it.
/// * `ratio` — share of the traces that begin here to record, 0 to 1.
pub fn exporter(endpoint: &Url, ratio: f64, metrics: Arc<SpanMetrics>) -> (Spans, Exporter) {
    let (spans, queue) = Spans::queue(ratio, metrics.clone());
    let host = endpoint.host_str().unwrap_or_default().to_owned();
    let port = endpoint.port_or_known_default().unwrap_or(80);
    (spans, Exporter { queue, host, port, metrics, is_silent: false })
}

impl Exporter {
    /// Sends until `stop`, and then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                received = self.queue.recv_many(&mut batch, BATCH) => if received == 0 { break },
            }
            let gather = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if self.queue.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            tokio::select! { _ = timeout(GATHER, gather) => {} () = stop.cancelled() => {} }
            self.send(&batch, TAKEN_WITHIN).await;
            batch.clear();
        }
        self.finish(batch).await;
    }

    /// What is left, for as long as the collector takes it and there is time.
    async fn finish(mut self, mut batch: Vec<Span>) {
        self.queue.close();
        let end = Instant::now() + TAKEN_WITHIN;
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.queue.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send(&batch, end.saturating_duration_since(Instant::now())).await;
            batch.clear();
            let is_over = self.is_silent || Instant::now() >= end;
            while is_over && self.queue.try_recv().is_ok() {
                self.metrics.lost.count();
            }
        }
    }

    async fn send(&mut self, batch: &[Span], within: Duration) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let sent = timeout(within, self.post(body(batch))).await.unwrap_or(Err(Fault::Late));
        match sent {
            Ok(()) => {
                self.metrics.sent.add(count);
                self.is_silent = false;
            }
            Err(fault) => {
                self.metrics.lost.add(count);
                if !std::mem::replace(&mut self.is_silent, true) {
                    tracing::warn!(
                        error = &fault as &dyn std::error::Error,
                        "The collector at {} does not take spans; they are lost until it does",
                        self.host
                    );
                }
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Fault> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, self.port)).await?;
        let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        // When we stop waiting, the connection is gone.
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/traces")
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|_| Fault::Answer)?;
        if status.is_success() { Ok(()) } else { Err(Fault::Status(status)) }
    }
}

/// An ExportTraceServiceRequest (OTLP 1.x, JSON): ids in hexadecimal, numbers of 64 bits as text.
fn body(batch: &[Span]) -> Bytes {
    let resource = [
        ("service.name", Value::Text("wicketgate".into())),
        ("service.version", Value::Text(env!("CARGO_PKG_VERSION").into())),
    ];
    let request = json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&resource) },
        "scopeSpans": [{
            "scope": { "name": "wicketgate" },
            "spans": batch.iter().map(span).collect::<Vec<_>>(),
        }],
    }]});
    Bytes::from(request.to_string())
}

fn span(span: &Span) -> Json {
    let mut json = json!({
        "traceId": span.context.trace_id.to_string(),
        "spanId": span.context.span_id.to_string(),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.began.to_string(),
        "endTimeUnixNano": span.ended.max(span.began).to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = parent.to_string().into();
    }
    if span.failed {
        // STATUS_CODE_ERROR
        json["status"] = json!({ "code": 2 });
    }
    json
}

fn attributes(all: &[(&'static str, Value)]) -> Vec<Json> {
    let value = |value: &Value| match value {
        Value::Text(text) => json!({ "stringValue": redact(text) }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    all.iter().map(|(key, said)| json!({ "key": key, "value": value(said) })).collect()
}

#[cfg(test)]
mod tests {
    use super::super::spans::SpanKind;
    use super::super::trace::TraceContext;
    use super::*;

    fn spans(parent: TraceContext) -> [Span; 2] {
        let own = TraceContext::background();
        let context = TraceContext { span_id: own.span_id, ..parent };
        let server = Span {
            context,
            parent: Some(parent.span_id),
            kind: SpanKind::Server,
            name: "GET".to_owned(),
            began: 1_800_000_000_000_000_001,
            ended: 1_800_000_000_000_000_002,
            attributes: vec![
                ("url.path", Value::Text("/people/anna@example.com/wkt_abcdefgh".into())),
                ("http.response.status_code", Value::Number(200)),
            ],
            failed: false,
        };
        let client = Span { parent: None, kind: SpanKind::Client, failed: true, ..server.clone() };
        [server, client]
    }

    #[test]
    fn a_batch_is_what_collectors_read_and_holds_no_secret() {
        let parent = TraceContext::background();
        let text = body(&spans(parent));
        let json: Json = serde_json::from_slice(&text).unwrap();
        let all = &json["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(all[0]["traceId"], parent.trace_id.to_string());
        assert_eq!(all[0]["parentSpanId"], parent.span_id.to_string());
        assert_eq!((&all[0]["kind"], &all[1]["kind"]), (&json!(2), &json!(3)));
        assert_eq!(all[0]["startTimeUnixNano"], "1800000000000000001");
        assert_eq!(all[0]["attributes"][1]["value"]["intValue"], "200");
        assert_eq!((&all[0]["status"], &all[1]["status"]), (&Json::Null, &json!({ "code": 2 })));
        assert!(all[1].get("parentSpanId").is_none());
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(!text.contains("anna@") && !text.contains("abcdefgh"), "{text}");
    }

    #[tokio::test]
    async fn a_collector_that_is_away_loses_spans_with_a_count() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let metrics = Arc::new(SpanMetrics::default());
        let (handle, exporter) = exporter(&endpoint, 1.0, metrics.clone());
        for span in spans(TraceContext::background()) {
            handle.finish(span);
        }
        let stop = CancellationToken::new();
        stop.cancel();
        exporter.run(stop).await;
        assert_eq!((metrics.sent.value(), metrics.lost.value()), (0, 2));
    }
}
