//! Asks an OCSP responder over plain HTTP (RFC 6960 appendix A.1). Everything is bounded, no redirect is
//! followed, and nothing of the answer is believed: it is signed.
//!
//! Where to ask is the authority's word, in a certificate that it issued for us. What is sent there tells
//! nothing but that certificate's serial, and what comes back is shown to nobody unless its issuer signed it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::http::OUR_NAME;
use crate::pki::ocsp::MAX_ANSWER_OCTETS;

/// For everything, from looking up the name to the last octet.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Of the answer's head.
const MAX_HEAD: usize = 16 * 1024;
const ASKED: HeaderValue = HeaderValue::from_static("application/ocsp-request");
const WANTED: HeaderValue = HeaderValue::from_static("application/ocsp-response");

/// Why a responder gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskFault {
    /// The certificate names something else than a host to ask over plain http.
    #[error("the responder's URL does not name a host over plain http")]
    Url,
    /// No connection.
    #[error("the responder {host} cannot be reached")]
    Connect {
        /// Whom.
        host: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It took too long.
    #[error("the responder {0} did not answer in time")]
    Late(String),
    /// What came is not HTTP, or ended early.
    #[error("the responder {host} did not answer")]
    Broken {
        /// Whom.
        host: String,
        /// Why.
        #[source]
        cause: hyper::Error,
    },
    /// Another status than 200. Redirects are not followed: they would lead wherever they like.
    #[error("the responder {host} answered {status}")]
    Status {
        /// Who.
        host: String,
        /// What.
        status: StatusCode,
    },
    /// More than [`MAX_ANSWER_OCTETS`].
    #[error("the answer of the responder {0} is longer than {MAX_ANSWER_OCTETS} octets")]
    TooLong(String),
}

/// Posts the OCSPRequest `question` to `url`; the octets of the answer, whatever they are.
pub(super) async fn ask(url: &str, question: &[u8]) -> Result<Bytes, AskFault> {
    ask_within(ANSWER_WITHIN, url, question).await
}

async fn ask_within(limit: Duration, url: &str, question: &[u8]) -> Result<Bytes, AskFault> {
    let uri: Uri = url.parse().map_err(|_| AskFault::Url)?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let (Some("http"), Some(authority)) = (uri.scheme_str(), authority) else { return Err(AskFault::Url) };
    let host = authority.host().to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, OUR_NAME)
        .header(CONTENT_TYPE, ASKED)
        .header(ACCEPT, WANTED)
        .body(Full::new(Bytes::copy_from_slice(question)))
        .map_err(|_| AskFault::Url)?;
    match timeout(limit, exchange(&host, port, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(AskFault::Late(host)),
    }
}

async fn exchange(host: &str, port: u16, request: Request<Full<Bytes>>) -> Result<Bytes, AskFault> {
    let broken = |cause| AskFault::Broken { host: host.to_owned(), cause };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await;
    let stream = stream.map_err(|cause| AskFault::Connect { host: host.to_owned(), cause })?;
    let handshake =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(broken)?;
    // When we stop waiting, the connection is gone.
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(AskFault::Status { host: host.to_owned(), status });
    }
    match Limited::new(answer.into_body(), MAX_ANSWER_OCTETS).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(cause) => Err(broken(*cause)),
            Err(_) => Err(AskFault::TooLong(host.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const QUESTION: &[u8] = b"question";

    /// Answers the first who asks with `answer`, and reads on; the URL, and what was asked.
    async fn responder(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ocsp?x=1", listener.local_addr().unwrap());
        let serve = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(QUESTION) {
                assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
            }
            let _ = stream.write_all(&answer).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            String::from_utf8(asked).unwrap()
        };
        (url, tokio::spawn(serve))
    }

    fn with_body(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn the_question_is_posted_as_it_is() {
        let (url, asked) = responder(with_body(b"answer")).await;
        assert_eq!(&ask(&url, QUESTION).await.unwrap()[..], b"answer");
        let asked = asked.await.unwrap().to_lowercase();
        assert!(asked.starts_with("post /ocsp?x=1 http/1.1\r\n"), "{asked}");
        assert!(asked.contains("content-type: application/ocsp-request\r\n"));
        assert!(asked.contains("\r\nhost: 127.0.0.1:"));
    }

    #[tokio::test]
    async fn only_a_host_over_plain_http_is_asked() {
        for url in
            ["https://ocsp.test/", "file:///etc/passwd", "http://me@ocsp.test/", "/ocsp", "", "http://"]
        {
            assert!(matches!(ask(url, QUESTION).await, Err(AskFault::Url)), "{url}");
        }
    }

    #[tokio::test]
    async fn redirects_and_errors_are_no_answers() {
        for (answer, status) in [
            ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 302),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 404),
        ] {
            let (url, _) = responder(answer.as_bytes().to_vec()).await;
            let told = ask(&url, QUESTION).await;
            assert!(matches!(told, Err(AskFault::Status { status: told, .. }) if told == status), "{told:?}");
        }
        let (url, _) = responder(b"no HTTP at all\r\n\r\n".to_vec()).await;
        assert!(matches!(ask(&url, QUESTION).await, Err(AskFault::Broken { .. })));
    }

    #[tokio::test]
    async fn what_is_too_long_or_too_slow_is_left() {
        let (url, _) = responder(with_body(&vec![0; MAX_ANSWER_OCTETS + 1])).await;
        assert!(matches!(ask(&url, QUESTION).await, Err(AskFault::TooLong(_))));
        let (url, _) = responder(with_body(&vec![0; MAX_ANSWER_OCTETS])).await;
        assert_eq!(ask(&url, QUESTION).await.unwrap().len(), MAX_ANSWER_OCTETS);
        // Promises an octet that never comes.
        let (url, _) = responder(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n".to_vec()).await;
        let told = ask_within(Duration::from_millis(50), &url, QUESTION).await;
        assert!(matches!(told, Err(AskFault::Late(_))));
    }
}
