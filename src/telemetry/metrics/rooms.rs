//! What each room counts. A room gets its own struct and nothing else.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::instruments::{Counter, Counters, Gauge, Histogram, PairCounters, Timestamp, Timestamps, label};
use super::names::{LookupFault, Names};
use super::sightings::Sightings;
use crate::domain::upstream::TargetStatus;

label! {
    /// The hundreds of an HTTP status.
    StatusClass as "status" {
        /// 1xx.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }
}

impl StatusClass {
    /// The class of a status; what is below 200 counts as 1xx, what is above 499 as 5xx.
    pub const fn of(status: u16) -> Self {
        match status {
            0..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

label! {
    /// How a TLS handshake ended.
    Handshake as "result" {
        /// Both sides are done.
        Completed = "completed",
        /// An ACME validation, closed as it should be.
        Challenge = "challenge",
        /// The site's target finishes it.
        PassedThrough = "passed_through",
        /// It took longer than it may.
        TimedOut = "timed_out",
        /// The edge stops.
        Draining = "draining",
        /// The edge has no configuration yet.
        NoConfiguration = "no_configuration",
        /// No host was named.
        NoServerName = "no_server_name",
        /// A host was named that is not a site.
        UnknownServerName = "unknown_server_name",
        /// An ACME validation that nobody waits for.
        NoOpenChallenge = "no_open_challenge",
        /// Strict mode, and no certificate.
        NoCertificate = "no_certificate",
        /// Strict mode, and a certificate that does not pass; `wicketgate_client_auth` says why.
        Refused = "refused",
        /// The certificate's key was not shown to be the client's.
        BadProof = "bad_proof",
        /// The client spoke something else.
        Protocol = "protocol",
        /// The client broke off.
        Closed = "closed",
    }
}

label! {
    /// What a load balancer said first on a connection.
    ProxyHeader as "result" {
        /// Who visits.
        Visitor = "visitor",
        /// That nobody does but itself, or nobody with an address.
        Local = "local",
        /// Something else.
        Refused = "refused",
        /// Not enough, for too long.
        TimedOut = "timed_out",
        /// Nothing before the edge stopped.
        Draining = "draining",
        /// Nothing, and left.
        Closed = "closed",
    }
}

label! {
    /// What the client's certificate was found to be.
    ClientAuthResult as "result" {
        /// None was presented.
        None = "none",
        /// On record, active, in its dates.
        Known = "known",
        /// Past its end.
        Expired = "expired",
        /// Before its beginning.
        NotYetValid = "not_yet_valid",
        /// Taken back.
        Revoked = "revoked",
        /// Its person is disabled.
        PersonDisabled = "person_disabled",
        /// Its authority is out of force.
        AuthorityRetired = "authority_retired",
        /// Signed by an authority of ours, and not on record.
        NotOnRecord = "not_on_record",
        /// Not for clients.
        WrongEku = "wrong_eku",
        /// Names an authority of ours that did not sign it.
        BadSignature = "bad_signature",
        /// Somebody else's.
        UnknownAuthority = "unknown_authority",
        /// No certificate that can be read.
        Unreadable = "unreadable",
    }
}

label! {
    /// Why the edge itself answered with an error: the codes of its problem documents.
    RefusalCode as "code" {
        /// 403.
        CertificateRequired = "certificate_required",
        /// 403.
        CertificateExpired = "certificate_expired",
        /// 403.
        CertificateRevoked = "certificate_revoked",
        /// 403.
        CertificateUntrusted = "certificate_untrusted",
        /// 403.
        AccessDenied = "access_denied",
        /// 400.
        BadRequest = "bad_request",
        /// 404.
        NotFound = "not_found",
        /// 408.
        RequestTimeout = "request_timeout",
        /// 413.
        PayloadTooLarge = "payload_too_large",
        /// 421.
        MisdirectedRequest = "misdirected_request",
        /// 429.
        RateLimited = "rate_limited",
        /// 431.
        HeadersTooLarge = "headers_too_large",
        /// 502.
        UpstreamUnavailable = "upstream_unavailable",
        /// 503.
        Overloaded = "overloaded",
        /// 503.
        PolicyStale = "policy_stale",
        /// 504.
        UpstreamTimeout = "upstream_timeout",
        /// 503.
        Maintenance = "maintenance",
        /// A code that is not on this list.
        Other = "other",
    }
}

impl RefusalCode {
    /// The label of a problem code.
    pub fn from_code(code: &str) -> Self {
        use super::instruments::Label;
        let number = Self::WORDS.iter().position(|word| *word == code);
        number.and_then(|number| Self::ALL.get(number).copied()).unwrap_or(Self::Other)
    }
}

label! {
    /// Why the edge ended a connection whose visitor kept it waiting, or too busy.
    Breach as "cause" {
        /// The head of a request, or a frame, did not end in time.
        SlowHead = "slow_head",
        /// An HTTP/2 frame of a body did not end in time.
        SlowBody = "slow_body",
        /// What was written was not taken in time, or too slowly.
        SlowReader = "slow_reader",
        /// More HTTP/2 frames and resets came than traffic accounts for.
        TooManyFrames = "too_many_frames",
    }
}

label! {
    /// For whom it was too much.
    Limit as "limit" {
        /// Requests of a source.
        Source = "source",
        /// Requests of a device.
        Device = "device",
        /// Requests of a person.
        Person = "person",
        /// Requests to a route.
        Route = "route",
        /// Handshakes of everybody.
        Handshakes = "handshakes",
        /// Handshakes of a source.
        HandshakesSource = "handshakes_source",
        /// Open connections of a source.
        ConnectionsSource = "connections_source",
    }
}

label! {
    /// What went wrong with a backend.
    UpstreamFault as "kind" {
        /// No connection.
        Connect = "connect",
        /// No answer in time.
        Timeout = "timeout",
        /// The connection broke, or the answer was no HTTP.
        Protocol = "protocol",
    }
}

label! {
    /// Why a certificate was taken back (RFC 5280 §5.3.1).
    Revocation as "reason" {
        /// No reason given.
        Unspecified = "unspecified",
        /// The device or its key is in other hands.
        KeyCompromise = "keyCompromise",
        /// The person's affiliation changed.
        AffiliationChanged = "affiliationChanged",
        /// Another certificate took its place.
        Superseded = "superseded",
        /// The device is out of use.
        CessationOfOperation = "cessationOfOperation",
        /// The privilege was withdrawn.
        PrivilegeWithdrawn = "privilegeWithdrawn",
        /// A reason that is not on this list.
        Other = "other",
    }
}

impl Revocation {
    /// The label of a reason's RFC 5280 name.
    pub fn from_name(name: &str) -> Self {
        use super::instruments::Label;
        let number = Self::WORDS.iter().position(|word| *word == name);
        number.and_then(|number| Self::ALL.get(number).copied()).unwrap_or(Self::Other)
    }
}

label! {
    /// What a client certificate was asked for.
    Issuance as "act" {
        /// A device's first one.
        Enrolment = "enrolment",
        /// The successor of one.
        Renewal = "renewal",
    }
}

label! {
    /// Why no client certificate was issued.
    IssuanceRefusal as "cause" {
        /// The signing request cannot be used.
        Csr = "csr",
        /// The key belonged to a certificate that was revoked for keyCompromise.
        KeyBlocked = "key_blocked",
        /// The person is not there, or shut out.
        Person = "person",
        /// The device is not there, or another person's.
        Device = "device",
        /// The invitation has no certificate to give any more.
        Invitation = "invitation",
        /// There is no such profile.
        Profile = "profile",
        /// The certificate that was to be renewed is not there, revoked or over.
        Predecessor = "predecessor",
        /// The certificate would outlive its authority.
        OutlivesAuthority = "outlives_authority",
        /// The bytes did not pass the rules.
        Rules = "rules",
        /// A key or the database did not answer: a fault of ours.
        Unavailable = "unavailable",
        /// A cause that is not on this list.
        Other = "other",
    }
}

label! {
    /// What an edge answers to a stranger on its own sockets.
    SelfCheck as "result" {
        /// As it must.
        Refused = "refused",
        /// What only known people may see.
        LetThrough = "let_through",
        /// Nothing that tells.
        Unclear = "unclear",
    }
}

label! {
    /// Whether something was done.
    Success as "result" {
        /// It was.
        Succeeded = "succeeded",
        /// It was not.
        Failed = "failed",
    }
}

/// Requests of one HTTP server.
#[derive(Debug, Default)]
pub struct HttpMetrics {
    durations: [Histogram; 5],
    /// Requests under way.
    pub active: Gauge,
}

impl HttpMetrics {
    /// A request was answered.
    pub fn answered(&self, status: u16, took: Duration) {
        self.durations[StatusClass::of(status) as usize].observe(took);
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        use super::instruments::Label;
        StatusClass::WORDS.iter().copied().zip(&self.durations)
    }
}

/// Console, portal and API.
#[derive(Debug, Default)]
pub struct AdminMetrics {
    /// Requests.
    pub http: HttpMetrics,
    /// Requests by operation of the API's table and status class: what is in neither cannot become a label.
    requests: PairCounters,
}

impl AdminMetrics {
    /// A request of this operation was answered. The name comes from the table of operations.
    pub fn answered(&self, operation: &'static str, status: u16, took: Duration) {
        use super::instruments::Label;
        self.http.answered(status, took);
        self.requests.count(operation, StatusClass::WORDS[StatusClass::of(status).number()]);
    }

    pub(super) fn requests(&self) -> Vec<((String, String), u64)> {
        self.requests.values()
    }
}

/// The targets of all upstreams, as they were seen a moment ago.
#[derive(Debug, Default)]
pub struct Targets(RwLock<Arc<Vec<TargetStatus>>>);

impl Targets {
    /// They are seen like this now.
    pub fn set(&self, seen: Vec<TargetStatus>) {
        *self.0.write() = Arc::new(seen);
    }

    /// How they were seen last.
    pub fn seen(&self) -> Arc<Vec<TargetStatus>> {
        self.0.read().clone()
    }
}

/// The edge.
#[derive(Debug, Default)]
pub struct EdgeMetrics {
    /// Requests.
    pub http: HttpMetrics,
    /// TLS handshakes.
    pub handshakes: Counters<Handshake>,
    /// PROXY headers, of those that have to send one.
    pub proxy_headers: Counters<ProxyHeader>,
    /// Chains of addresses that were not believed though their proxy is.
    pub bad_chains: Counter,
    /// Client certificates, once a handshake.
    pub client_auth: Counters<ClientAuthResult>,
    /// How the edge answered itself when it asked as a stranger.
    pub self_checks: Counters<SelfCheck>,
    /// 1 while protected routes are closed because a stranger got in.
    pub sealed: Gauge,
    /// Errors that the edge answered with.
    pub refused: Counters<RefusalCode>,
    /// Connections that the edge ended for what their visitors did.
    pub breaches: Counters<Breach>,
    /// Requests that were answered 429, and connections that were closed at once.
    pub limited: Counters<Limit>,
    /// Faults of backends.
    pub upstream_faults: Counters<UpstreamFault>,
    /// Requests that were sent to another target, or once more.
    pub upstream_retries: Counter,
    /// How each target is seen.
    pub targets: Targets,
    /// Who was seen where.
    pub sightings: Sightings,
    /// Names of upstreams that were resolved.
    pub name_answers: Counter,
    /// Names of upstreams that could not be resolved.
    pub name_faults: Counters<LookupFault>,
    /// What is known of each name.
    pub names: Names,
    /// Open connections with a known certificate, which end when it is revoked.
    pub tracked_connections: Gauge,
    /// Open connections without any certificate: there is nothing to revoke.
    pub anonymous_connections: Gauge,
    /// Open connections with a certificate that does not pass.
    pub refused_connections: Gauge,
    /// Open connections that are passed through unread.
    pub passed_connections: Gauge,
    /// Epoch of the register in use.
    pub register_epoch: Gauge,
    /// Certificates in the register.
    pub register_certificates: Gauge,
    /// When the feed was last known to be complete.
    pub feed_fresh: Timestamp,
}

/// The authority.
#[derive(Debug, Default)]
pub struct CaMetrics {
    /// Certificates issued.
    pub issued: Counters<Issuance>,
    /// Requests for a certificate that were refused.
    pub refused: Counters<IssuanceRefusal>,
    /// Certificates revoked.
    pub revoked: Counters<Revocation>,
    /// Issuances of which only the intent is on record.
    pub intents_unresolved: Gauge,
    /// Revocation lists published.
    pub crls_published: Counter,
    /// When the next revocation list of an authority is due.
    pub crl_next_update: Timestamps,
}

/// The ACME client.
#[derive(Debug, Default)]
pub struct AcmeMetrics {
    /// Orders that ended.
    pub orders: Counters<Success>,
    /// When a certificate was last renewed.
    pub renewal_last_success: Timestamp,
}

/// Spans for a collector.
#[derive(Debug, Default)]
pub struct SpanMetrics {
    /// Taken by the collector.
    pub sent: Counter,
    /// Lost: there were too many, or the collector did not take them.
    pub lost: Counter,
}

/// When things end.
#[derive(Debug, Default)]
pub struct ValidityMetrics {
    /// Earliest end of validity among the certificates in use, by kind: `server`, `client`, `root`,
    /// `issuing`, `local_server`, `upstream`, and `upstream_client`, which is what the edge shows to upstreams.
    pub certificate_not_after: Timestamps,
}

/// Jobs and mail.
#[derive(Debug, Default)]
pub struct JobMetrics {
    /// Runs by job and outcome.
    pub runs: PairCounters,
    /// Last success by job.
    pub last_success: Timestamps,
    /// Mails that left, or finally did not.
    pub mails: Counters<Success>,
    /// Mails that wait.
    pub mail_outbox: Gauge,
    /// Links of the audit's chain, as the replica that chains knows.
    pub audit_links: Gauge,
    /// Events of the audit that should be in the chain by now and are not.
    pub audit_unchained: Gauge,
}

#[cfg(test)]
mod tests {
    use super::super::instruments::Label;
    use super::*;

    #[test]
    fn every_refusal_code_finds_its_label() {
        for word in RefusalCode::WORDS {
            assert_eq!(RefusalCode::WORDS[RefusalCode::from_code(word).number()], *word);
        }
        assert_eq!(RefusalCode::from_code("teapot"), RefusalCode::Other);
    }

    #[test]
    fn statuses_fall_into_their_class() {
        for (status, class) in
            [(101, "1xx"), (204, "2xx"), (301, "3xx"), (421, "4xx"), (503, "5xx"), (999, "5xx")]
        {
            assert_eq!(StatusClass::WORDS[StatusClass::of(status).number()], class);
        }
    }
}
