//! How a WebSocket is asked for: by the upgrade of an HTTP/1.1 connection (RFC 6455), or by an extended CONNECT on
//! a stream of HTTP/2 (RFC 8441). Apps know the first way, so they are asked in that alone: what it needs and the
//! other has not got is made here, and looked at here in the app's answer.

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{Method, Request, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::headers::asks_for_websocket;
use super::respond::{Code, Problem};

/// The only protocol for which a connection or a stream is given away.
const WEBSOCKET: &str = "websocket";
/// What a server adds to the key (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Octets of a key (RFC 6455 §4.1).
const KEY: usize = 16;

/// What a request wants.
#[derive(Debug)]
pub(super) enum Wanted {
    /// An answer.
    Answer,
    /// A WebSocket over its connection, which is HTTP/1.1.
    Connection,
    /// A WebSocket over its stream, which is HTTP/2.
    Stream(Opening),
}

/// A stream that may become a WebSocket.
#[derive(Debug)]
pub(super) struct Opening {
    upgrade: OnUpgrade,
    /// What the app has to answer to our key.
    accept: String,
}

impl Wanted {
    /// Reads it off a request. A CONNECT for a WebSocket becomes the GET that an upgrade is: as such it is judged,
    /// and sent to the app.
    ///
    /// # Errors
    /// `bad_request` for a CONNECT that wants a proxy, or another protocol.
    pub(super) fn of<B>(request: &mut Request<B>) -> Result<Self, Problem> {
        if request.method() == Method::CONNECT {
            return Opening::of(request).map(Self::Stream);
        }
        let is_upgrade = request.version() == Version::HTTP_11
            && request.method() == Method::GET
            && asks_for_websocket(request.headers());
        Ok(if is_upgrade { Self::Connection } else { Self::Answer })
    }

    pub(super) fn is_websocket(&self) -> bool {
        !matches!(self, Self::Answer)
    }

    /// Whether the head of a 101 agrees to it. Over HTTP/1.1 the visitor knows the key and looks at the rest.
    pub(super) fn is_met_by(&self, answer: &HeaderMap) -> bool {
        match self {
            Self::Answer => false,
            Self::Connection => asks_for_websocket(answer),
            Self::Stream(opening) => asks_for_websocket(answer) && opening.is_accepted_by(answer),
        }
    }
}

impl Opening {
    fn of<B>(request: &mut Request<B>) -> Result<Self, Problem> {
        let Some(protocol) = request.extensions_mut().remove::<Protocol>() else {
            return Err(Problem::bad_request("the method is not for here"));
        };
        if !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
            return Err(Problem::bad_request("the protocol is not websocket"));
        }
        let mut nonce = [0; KEY];
        rand::fill(&mut nonce).map_err(|_| Problem::new(Code::Overloaded))?;
        let key = STANDARD.encode(nonce);
        let value = HeaderValue::try_from(&key).map_err(|_| Problem::new(Code::Overloaded))?;
        let upgrade = hyper::upgrade::on(&mut *request);
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        // RFC 8441 §5: a visitor's own key means nothing here. Nor does a length, which can only be 0.
        headers.insert(SEC_WEBSOCKET_KEY, value);
        headers.remove(CONTENT_LENGTH);
        Ok(Self { upgrade, accept: accept(&key) })
    }

    /// RFC 6455 §4.1: who has read the key answers this, and nobody else, so it is no answer to another request.
    fn is_accepted_by(&self, answer: &HeaderMap) -> bool {
        let mut lines = answer.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        let is_right =
            lines.next().is_some_and(|value| value.as_bytes().trim_ascii() == self.accept.as_bytes());
        is_right && lines.next().is_none()
    }

    /// The stream, as soon as its answer has gone out. Takes out of the head of that what it does not know.
    pub(super) fn settle(self, answer: &mut HeaderMap) -> OnUpgrade {
        answer.remove(SEC_WEBSOCKET_ACCEPT);
        answer.remove(CONTENT_LENGTH);
        self.upgrade
    }
}

/// Says in a head that the connection becomes a WebSocket.
pub(super) fn put_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// What a server answers to this key (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(protocol: Option<&'static str>) -> Request<()> {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_2)
            .uri("https://a.example/chat")
            .header(SEC_WEBSOCKET_KEY, "theirs")
            .header(CONTENT_LENGTH, "0")
            .body(())
            .unwrap();
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        request
    }

    fn agreeing(accept: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        put_upgrade(&mut headers);
        for value in accept {
            headers.append(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_connect_for_a_websocket_becomes_a_get_with_a_key_of_ours() {
        let mut keys = Vec::new();
        for protocol in ["websocket", "WebSocket"] {
            let mut request = connect(Some(protocol));
            assert!(matches!(Wanted::of(&mut request), Ok(Wanted::Stream(_))));
            assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/chat"));
            assert!(!request.headers().contains_key(CONTENT_LENGTH));
            let lines: Vec<_> = request.headers().get_all(SEC_WEBSOCKET_KEY).iter().cloned().collect();
            assert_eq!(STANDARD.decode(lines[0].as_bytes()).unwrap().len(), KEY);
            keys.extend(lines);
        }
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn any_other_connect_is_refused() {
        for protocol in [None, Some("connect-udp"), Some("websocket, h2c"), Some("")] {
            let refused = Wanted::of(&mut connect(protocol));
            assert_eq!(refused.unwrap_err().code(), Code::BadRequest, "{protocol:?}");
        }
        // The word of another version is no CONNECT.
        let mut get = connect(Some("websocket"));
        *get.method_mut() = Method::GET;
        assert!(matches!(Wanted::of(&mut get), Ok(Wanted::Answer)));
    }

    #[test]
    fn only_the_one_answer_to_our_key_agrees() {
        let mut request = connect(Some("websocket"));
        let wanted = Wanted::of(&mut request).unwrap();
        let right = accept(request.headers()[SEC_WEBSOCKET_KEY].to_str().unwrap());
        let wrong = accept("theirs");
        let (right, wrong) = (right.as_str(), wrong.as_str());
        assert!(wanted.is_met_by(&agreeing(&[right])));
        for lines in [&[][..], &[wrong], &[""], &[right, right], &[right, wrong]] {
            assert!(!wanted.is_met_by(&agreeing(lines)), "{lines:?}");
        }
        let mut without_upgrade = agreeing(&[right]);
        without_upgrade.remove(UPGRADE);
        assert!(!wanted.is_met_by(&without_upgrade));
        assert!(!Wanted::Answer.is_met_by(&agreeing(&[right])));
    }
}
