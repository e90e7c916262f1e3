//! One connection to the admin server that stays open: tens of thousands of requests need no handshake each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::admin::fixture::{App, CONSOLE, DOOR, Way};

/// The connection.
pub(super) struct Line<'a> {
    app: &'a App,
    way: Way,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
    pub(super) cookie: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum As {
    /// A process of the host, or nobody.
    Nobody,
    Token(String),
    Cookie(String),
    /// User name and password.
    Basic(String, String),
}

impl<'a> Line<'a> {
    pub(super) fn new(app: &'a App, way: Way) -> Self {
        Self { app, way, sender: None }
    }

    pub(super) async fn post(&mut self, path: &str, who: &As, body: &Value) -> Reply {
        self.send(path, who, "application/json", body.to_string()).await
    }

    pub(super) async fn send(&mut self, path: &str, who: &As, kind: &str, body: String) -> Reply {
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_err()
        {
            self.sender = None;
        }
        if self.sender.is_none() {
            let stream = self.app.connect(self.way).await;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        let request = http::Request::builder().method("POST").uri(path).header("host", "test");
        let request = request.header("content-type", kind);
        let request = match who {
            As::Nobody => request,
            As::Token(token) => request.header("authorization", format!("Bearer {token}")),
            As::Cookie(cookie) => {
                let origin = if self.way == Way::Door { DOOR } else { CONSOLE };
                request.header("cookie", cookie).header("origin", origin)
            }
            As::Basic(user, password) => {
                let credentials = STANDARD.encode(format!("{user}:{password}"));
                request.header("authorization", format!("Basic {credentials}"))
            }
        };
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = self.sender.as_mut().unwrap().send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let cookie = parts.headers.get("set-cookie").and_then(|value| value.to_str().ok());
        Reply {
            status: parts.status.as_u16(),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            cookie: cookie.and_then(|set| set.split(';').next()).map(str::to_owned),
        }
    }
}
