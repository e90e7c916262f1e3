//! How a stranger asks: a TLS client of our own with no certificate, or with one of nobody's, that wants one
//! answer and looks at nothing but whether it was let through.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::respond::Code;
use crate::domain::Hostname;
use crate::live::probe::{ProbeFault, Stranger};
use crate::live::witness::Witness;
use crate::pki;

/// The most that is read of an answer.
const MOST_READ: u64 = 64 * 1024;

/// What a stranger asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) host: Hostname,
    pub(super) path: String,
}

impl Question {
    pub(super) fn let_through(&self, who: Stranger) -> ProbeFault {
        ProbeFault::LetThrough { who, host: self.host.clone(), path: self.path.clone() }
    }

    pub(super) fn unclear(&self, who: Stranger, answer: String) -> ProbeFault {
        ProbeFault::Unclear { who, host: self.host.clone(), path: self.path.clone(), answer }
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// In the handshake, or by an answer that says so.
    Refused,
    /// The answer of an app.
    LetThrough,
    /// Anything else; says what.
    Unclear(String),
}

/// Both strangers.
#[derive(Clone)]
pub(super) struct Strangers {
    anonymous: TlsConnector,
    foreign: TlsConnector,
}

impl Strangers {
    /// Makes them.
    ///
    /// # Errors
    /// A sentence: a key could not be made or used.
    pub(super) fn make() -> Result<Self, String> {
        let fault = |cause: rustls::Error| cause.to_string();
        let client = || Witness::new().client().map_err(fault);
        let (leaf, key) = pki::stranger::stranger()?;
        let key = PrivateKeyDer::Pkcs8(key.expose().clone().into());
        let foreign = client()?.with_client_auth_cert(vec![leaf.into()], key).map_err(fault)?;
        Ok(Self {
            anonymous: TlsConnector::from(Arc::new(client()?.with_no_client_auth())),
            foreign: TlsConnector::from(Arc::new(foreign)),
        })
    }

    /// Asks over `stream`. The caller bounds the time.
    pub(super) async fn ask<S>(&self, stream: S, question: &Question, who: Stranger) -> Seen
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let tls = match who {
            Stranger::Anonymous => &self.anonymous,
            Stranger::Foreign => &self.foreign,
        };
        match answer(tls, stream, question).await {
            Ok(answer) => judge(&answer),
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::AlertReceived(_)) => Seen::Refused,
                _ => Seen::Unclear(error.to_string()),
            },
        }
    }
}

async fn answer<S>(tls: &TlsConnector, stream: S, question: &Question) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(question.host.to_string()).map_err(io::Error::other)?;
    let mut stream = tls.connect(name, stream).await?;
    let Question { host, path } = question;
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    match stream.take(MOST_READ).read_to_end(&mut answer).await {
        // Whoever refuses need not say goodbye.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof || answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// Whether the answer is a refusal: of everybody unknown, of everybody for now, or of the path. It is one of ours
/// by its status and its type together.
fn judge(answer: &[u8]) -> Seen {
    let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let Some(status) = status.and_then(|status| std::str::from_utf8(status).ok()) else {
        return Seen::Unclear("nothing".to_owned());
    };
    let is = |code: &Code| {
        let text = format!("\"type\":\"{}\"", code.urn());
        code.status().as_str() == status && answer.windows(text.len()).any(|part| part == text.as_bytes())
    };
    let refusals = [
        Code::CertificateRequired,
        Code::CertificateUntrusted,
        Code::PolicyStale,
        Code::BadRequest,
        Code::RateLimited,
    ];
    if refusals.iter().any(is) {
        return Seen::Refused;
    }
    let own = [Code::NotFound, Code::MisdirectedRequest, Code::Overloaded];
    match own.iter().find(|code| is(code)) {
        Some(code) => Seen::Unclear(format!("{status} {}", code.name())),
        None => Seen::LetThrough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_says_so_is_a_refusal() {
        let answer = |status: &str, code: &str| {
            judge(
                format!("HTTP/1.1 {status} \r\n\r\n{{\"type\":\"urn:wicketgate:problem:{code}\"}}")
                    .as_bytes(),
            )
        };
        assert_eq!(answer("403", "certificate_required"), Seen::Refused);
        assert_eq!(answer("403", "certificate_untrusted"), Seen::Refused);
        assert_eq!(answer("503", "policy_stale"), Seen::Refused);
        assert_eq!(answer("404", "not_found"), Seen::Unclear("404 not_found".into()));
        assert_eq!(answer("403", "the app's own"), Seen::LetThrough);
        assert_eq!(answer("200", ""), Seen::LetThrough);
        assert_eq!(answer("200", "bad_request"), Seen::LetThrough, "the app's own");
        assert_eq!(answer("502", "upstream_unavailable"), Seen::LetThrough);
        assert_eq!(judge(b""), Seen::Unclear("nothing".into()));
    }
}
