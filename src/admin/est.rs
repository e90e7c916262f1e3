//! Enrollment over Secure Transport (RFC 7030, with the clarifications of RFC 8951) at the door: how
//! machines get and renew their certificates without a browser.
//!
//! `simpleenroll` takes the token of an invitation as the password of HTTP Basic, once; `simplereenroll`
//! takes the current certificate in the TLS handshake. Both end in the authority's one gate, and the
//! guard stands before them as before the API: table, budget, audit. What is not built (`fullcmc`,
//! `serverkeygen`) is not there; nobody is asked to come back later (202), since the gate answers at once.

use std::collections::BTreeSet;
use std::time::Duration;

use poem::http::{HeaderName, StatusCode, header};
use poem::{Endpoint, Request, Response};

use super::auth::caller::{Call, Proof};
use super::auth::{basic, secret};
use super::body;
use super::error::{Outcome, Problem, sentence};
use super::fields;
use super::services::Services;
use crate::ca::{DeviceChoice, GateError, IssueError, IssueRequest, Issued};
use crate::domain::PersonId;
use crate::domain::hex::hex;
use crate::pki::{KeyPolicy, SigningRequest, cms, continuity, csr, pem, transfer};
use crate::store::certificates::Certificate;
use crate::store::invitations::{Invitation, InvitationState};

/// Longest body, in characters: 11 KiB of DER, three times what any client sends.
const MAX_BODY: usize = 15 * 1024;
/// How long a repeated request with the same key gets the certificate that it got before.
const REPEAT_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// By this header a client says that it may be repeating itself.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The operations, behind their guard.
pub struct Est(pub Services);

impl Endpoint for Est {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let call = request.data::<Call>().cloned();
        let call = call.ok_or_else(|| Problem::internal("a handler ran without its guard"))?;
        // The guard found the operation; its path is one of these.
        let answered = match request.uri().path().rsplit('/').next() {
            Some("cacerts") => self.authorities(&call).await,
            Some("csrattrs") => Ok(answer("application/csrattrs", &csr::wished_attributes())),
            Some("simpleenroll") => self.enrol(&call, &mut request).await,
            Some("simplereenroll") => self.renew(&call, &mut request).await,
            _ => Err(Problem::not_found("operation")),
        };
        match answered {
            Ok(response) => Ok(response),
            Err(problem) => {
                // Clients take an answer that comes while they are sending for a broken connection.
                body::discard(request.take_body()).await;
                Ok(problem.into_text())
            }
        }
    }
}

impl Est {
    /// RFC 7030 §4.1: what stands above the certificates that we issue; the roots, and who signs now.
    async fn authorities(&self, call: &Call) -> Outcome<Response> {
        let all = self.0.ca().authorities().await?;
        let above: Vec<&[u8]> = all
            .iter()
            .filter(|authority| authority.kind.is_for_clients() && authority.state.is_in_force())
            .filter(|authority| authority.not_after >= call.now)
            .filter_map(|authority| authority.certificate.as_deref())
            .collect();
        Ok(certificates(&above))
    }

    /// RFC 7030 §4.2.1: a first certificate, for the secret of an invitation.
    async fn enrol(&self, call: &Call, request: &mut Request) -> Outcome<Response> {
        let credentials = basic::read(request.headers()).ok_or_else(not_invited)?;
        let found = secret::hash(credentials.password.expose());
        let invitation = self.0.store().invitation_by_secret(found).await?.ok_or_else(not_invited)?;
        let wanted = read_request(request).await?;
        let repeats = request.headers().contains_key(IDEMPOTENCY_KEY);
        match invitation.state(call.now) {
            InvitationState::Open => {}
            InvitationState::Used if repeats => {
                let earlier = self.earlier(call, invitation.person, &wanted, |earlier| {
                    earlier.replaces.is_none() && Some(earlier.issued_at) >= invitation.used_at
                });
                return Ok(issued(&earlier.await?.ok_or_else(not_invited)?));
            }
            _ => return Err(not_invited()),
        }
        let issue = IssueRequest {
            person: invitation.person,
            device: DeviceChoice::New { name: device_name(&invitation, &credentials.user)? },
            profile: invitation.profile.clone(),
            csr_pem: wanted.pem,
            dns_names: BTreeSet::new(),
        };
        call.note(format!("invitation {}", invitation.id));
        match self.0.ca().issue_invited(&issue, invitation.id, call.act()?, call.now).await {
            Ok(given) => {
                call.closed();
                Ok(self.given(&given))
            }
            Err(IssueError::Gate(GateError::InvitationUsed)) => Err(not_invited()),
            Err(error) => Err(in_est(error.into())),
        }
    }

    /// RFC 7030 §4.2.2: the successor of the certificate in the handshake.
    async fn renew(&self, call: &Call, request: &mut Request) -> Outcome<Response> {
        let Proof::Certificate(identity) = &call.caller()?.proof else {
            return Err(Problem::internal("a renewal without a certificate passed the guard"));
        };
        let missing = || Problem::not_found("certificate");
        let current = self.0.store().certificate(identity.serial()).await?.ok_or_else(missing)?;
        let wanted = read_request(request).await?;
        continuity::check(&wanted.der, &current.der).map_err(|error| refused(&error.to_string()))?;
        // A client that lost the answer asks again with the same key: it gets what it got.
        let earlier =
            self.earlier(call, current.person, &wanted, |earlier| earlier.replaces == Some(current.serial));
        if let Some(earlier) = earlier.await? {
            call.note(format!("serial {} again", earlier.serial));
            return Ok(issued(&earlier));
        }
        let renewed = self.0.ca().renew(current.serial, &wanted.pem, call.act()?, call.now).await;
        let renewed = renewed.map_err(|error| in_est(error.into()))?;
        call.closed();
        Ok(self.given(&renewed))
    }

    fn given(&self, given: &Issued) -> Response {
        issued(&given.certificate)
    }

    /// The certificate that this key got a short while ago.
    async fn earlier(
        &self,
        call: &Call,
        person: PersonId,
        wanted: &Wanted,
        fits: impl Fn(&Certificate) -> bool,
    ) -> Outcome<Option<Certificate>> {
        let of_key = self.0.store().certificates_with_key(person, &wanted.spki_sha256).await?;
        Ok(of_key.into_iter().find(|earlier| {
            earlier.revoked.is_none() && call.now.since(earlier.issued_at) < REPEAT_WITHIN && fits(earlier)
        }))
    }
}

/// A signing request that could be certified.
struct Wanted {
    der: Vec<u8>,
    pem: String,
    spki_sha256: String,
}

/// Reads a request whose sender holds its key. Which keys are taken is the gate's to say.
async fn read_request(request: &mut Request) -> Outcome<Wanted> {
    let essence = request.content_type().and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(PKCS10) {
        let detail = "The body must be sent as Content-Type: application/pkcs10.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_pkcs10", detail));
    }
    let body = body::read(request.take_body()).await?;
    if body.len() > MAX_BODY {
        let detail = format!("A signing request may have {MAX_BODY} characters at most.");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail));
    }
    let der = transfer::decode(&body).map_err(|error| refused(&error.to_string()))?;
    let request = SigningRequest::from_der(&der, &KeyPolicy::ANY);
    let request = request.map_err(|error| refused(&error.to_string()))?;
    let spki_sha256 = hex(&request.public_key().sha256());
    Ok(Wanted { pem: pem::block("CERTIFICATE REQUEST", &der), der, spki_sha256 })
}

/// The name that the invitation gives, else the user name.
fn device_name(invitation: &Invitation, user: &str) -> Outcome<String> {
    if let Some(name) = &invitation.device_name {
        return Ok(name.clone());
    }
    fields::name(user).map_err(|_| {
        let detail = "The invitation names no device: send its name, 1 to 64 characters, as the user name.";
        Problem::bad_request(detail)
    })
}

/// One answer for unknown, used, expired and revoked: it tells nobody which secrets there were.
fn not_invited() -> Problem {
    let detail = "Send the token of an open invitation as the password of HTTP Basic. It works once; this one \
                  is missing, unknown, used, taken back or expired.";
    Problem::new(StatusCode::UNAUTHORIZED, "invitation_invalid", detail)
}

fn refused(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "csr_refused", sentence(why))
}

/// What the API calls unprocessable is a bad request here (RFC 7030 §4.2.3).
fn in_est(problem: Problem) -> Problem {
    match problem.status() {
        StatusCode::UNPROCESSABLE_ENTITY => problem.with_status(StatusCode::BAD_REQUEST),
        _ => problem,
    }
}

/// RFC 7030 §4.2.3: the issued certificate and nothing else.
fn issued(certificate: &Certificate) -> Response {
    certificates(&[&certificate.der])
}

fn certificates(all: &[&[u8]]) -> Response {
    answer("application/pkcs7-mime; smime-type=certs-only", &cms::certs_only(all))
}

fn answer(content_type: &str, der: &[u8]) -> Response {
    Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        // RFC 8951 §3.1: means nothing in HTTP, but old clients look for it.
        .header(HeaderName::from_static("content-transfer-encoding"), "base64")
        .body(transfer::encode(der))
}

const PKCS10: &str = "application/pkcs10";
