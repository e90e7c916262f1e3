//! One visitor's connection after its handshake: who is behind it, what is spoken on it, when it ends.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use rustls::ProtocolVersion;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::access_log;
use super::assertion::{Assertion, Signer};
use super::carrier::Carrier;
use super::door;
use super::facts::Facts;
use super::forwarded::{self, Origin};
use super::handshake::{self, Shaken};
use super::headers::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, byte_sequence};
use super::host::Named;
use super::index::{Ending, Place, Signal, ends_at};
use super::io::Activity;
use super::ongoing;
use super::passthrough;
use super::rate::Slot;
use super::respond::{Code, Problem};
use super::tunnel::Opened;
use super::turns::Account;
use super::worker::Worker;
use crate::domain::{Fingerprint, UtcTime};
use crate::live::{Cause, Classified, HandshakeClass, Identity, Site, SiteKind, classify};
use crate::telemetry::metrics::instruments::Gauge;
use crate::telemetry::metrics::{Breach, ClientAuthResult, EdgeMetrics};

/// Requests of one connection that come too often, within a second, after which it ends. Who reads the answers waits.
const MOST_LIMITED: u32 = 1_000;
const SECOND: Duration = Duration::from_secs(1);

/// A connection of one visitor, shared by its requests.
pub(super) struct Visit {
    pub(super) worker: Rc<Worker>,
    pub(super) class: HandshakeClass,
    pub(super) activity: Rc<Activity>,
    /// What it has used of its thread.
    pub(super) account: Rc<Account>,
    /// The edge asks itself.
    pub(super) is_own: bool,
    pub(super) facts: Facts,
    /// It is a proxy that says truly from where it was asked.
    pub(super) is_believed: bool,
    /// Which address of ours was called.
    pub(super) local: Option<SocketAddr>,
    /// As others write it.
    pub(super) tls_version: &'static str,
    pub(super) peer: SocketAddr,
    pub(super) leaf: Option<CertificateDer<'static>>,
    place: Place,
    standing: RefCell<Standing>,
    was_known: Cell<bool>,
    counted: Cell<Option<GaugeOf>>,
    last_word: Cell<bool>,
    /// Since when requests have been too many, and how many of them.
    limited: Cell<(Instant, u32)>,
    /// Also while somebody else serves it.
    _slot: Option<Slot>,
    tunnel: RefCell<Option<Opened>>,
    pub(super) ongoing: ongoing::Register,
    memo: RefCell<Memo>,
}

/// The gauge among all.
type GaugeOf = fn(&EdgeMetrics) -> &Gauge;

/// Who is behind the connection, and as of which epoch.
struct Standing {
    epoch: u64,
    who: Arc<Classified>,
}

/// Header values that stay the same from request to request.
#[derive(Default)]
struct Memo {
    client_cert: Option<HeaderValue>,
    chain: Option<HeaderValue>,
    assertions: Vec<(String, Assertion)>,
    forwarded: Option<(Named, HeaderValue, HeaderValue)>,
    peer: Option<HeaderValue>,
}

/// Serves one accepted socket to its end.
pub(super) async fn serve(worker: Rc<Worker>, stream: Carrier, peer: SocketAddr, slot: Option<Slot>) {
    let (turns, account) = (worker.turns.clone(), Rc::<Account>::default());
    // Boxed: large, and over before the rest begins. Each step signs or verifies.
    let shaking = Box::pin(handshake::shake(&worker, stream, peer));
    let (stream, site) = match turns.take(&account, shaking).await {
        Some(Shaken::Terminated(stream, site)) => (stream, site),
        // Boxed: seldom, and nobody else has to be as large.
        Some(Shaken::PassedThrough(passage)) => {
            turns.take(&account, Box::pin(passthrough::serve(worker, passage, peer))).await;
            return drop(slot);
        }
        None => return,
    };
    let Some((visit, stream)) = received(worker, stream, site, peer, slot, account) else { return };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    match is_h2 {
        true => super::protocol::serve_h2(visit, stream).await,
        false => super::protocol::serve_h1(visit, stream).await,
    }
}

/// The visit that begins; none if it is the door's.
fn received(
    worker: Rc<Worker>,
    stream: Box<TlsStream<Carrier>>,
    site: Arc<Site>,
    peer: SocketAddr,
    slot: Option<Slot>,
    account: Rc<Account>,
) -> Option<(Rc<Visit>, Box<TlsStream<Carrier>>)> {
    let mut visit = Visit::new(worker, peer, &site, &stream);
    visit._slot = slot;
    visit.account = account;
    let visit = Rc::new(visit);
    let stream = door::hand_over(&visit, stream, peer, &site)?;
    Some((visit, stream))
}

impl Visit {
    fn new(worker: Rc<Worker>, peer: SocketAddr, site: &Site, stream: &TlsStream<Carrier>) -> Self {
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.clone().into_owned());
        // In this order; see `index`.
        let place = worker.shared.index.enter(leaf.as_ref().map(|leaf| Fingerprint::of(leaf)));
        if worker.shared.stop.is_cancelled() {
            // Out of the queue, or late with its handshake: it has asked for nothing yet.
            place.signal().end(Ending::Leave);
        }
        let is_own = worker.shared.is_own_call(peer);
        let visit = Self {
            class: site.handshake_class(),
            activity: Activity::new(&worker.shared.settings),
            account: Rc::default(),
            is_own,
            is_believed: worker.shared.settings.trusted_proxies.contains(peer.ip()),
            local: stream.get_ref().0.local_address(),
            tls_version: match stream.get_ref().1.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            peer,
            leaf,
            facts: Facts::default(),
            place,
            standing: RefCell::new(Standing { epoch: 0, who: Arc::new(Classified::None) }),
            was_known: Cell::new(false),
            counted: Cell::new(None),
            last_word: Cell::new(false),
            limited: Cell::new((Instant::now(), 0)),
            _slot: None,
            tunnel: RefCell::new(None),
            ongoing: ongoing::Register::default(),
            memo: RefCell::default(),
            worker,
        };
        let who = visit.classify_again(visit.worker.shared.clock.now());
        if visit.is_own {
            return visit;
        }
        visit.worker.shared.metrics.client_auth.count(result_of(&who));
        if let Classified::Refused(refusal) = &*who {
            access_log::certificate_refused(peer, &site.host, refusal);
        }
        visit
    }

    /// Who is behind the connection at `now`. Cheap unless a change concerned this certificate, its person
    /// or its authority, or time made a difference.
    pub(super) fn who(&self, now: UtcTime) -> Arc<Classified> {
        let register = self.worker.shared.holder.register();
        // Before anything is looked up; see `classify`.
        let epoch = register.epoch();
        {
            let mut standing = self.standing.borrow_mut();
            let has_moved = standing.epoch != epoch;
            let still = match &*standing.who {
                Classified::None => true,
                Classified::Known(identity) => {
                    now <= ends_at(identity) && (!has_moved || identity.is_current(now, register))
                }
                Classified::Refused(refusal) => !has_moved && refusal.cause != Cause::NotYetValid,
            };
            if still {
                standing.epoch = epoch;
                return standing.who.clone();
            }
        }
        self.classify_again(now)
    }

    fn classify_again(&self, now: UtcTime) -> Arc<Classified> {
        let register = self.worker.shared.holder.register();
        let chain = self.leaf.as_slice();
        let (epoch, who) = settled(
            || register.epoch(),
            || classify(chain, now, register),
            |who| self.place.set_identity(known(who)),
        );
        let who = Arc::new(who);
        let identity = known(&who);
        if identity.is_some() {
            self.was_known.set(true);
        }
        self.count_as(match &*who {
            Classified::None => |metrics| &metrics.anonymous_connections,
            Classified::Refused(_) => |metrics| &metrics.refused_connections,
            Classified::Known(_) => |metrics| &metrics.tracked_connections,
        });
        let mut memo = self.memo.borrow_mut();
        memo.chain = None;
        memo.assertions.clear();
        *self.standing.borrow_mut() = Standing { epoch, who: who.clone() };
        who
    }

    /// The site, as far as there is one and this connection may ask it anything.
    ///
    /// # Errors
    /// What the visitor is told.
    pub(super) fn admitted<'c>(&self, site: Option<&'c Arc<Site>>) -> Result<&'c Arc<Site>, Problem> {
        // Another class would have been asked another question in the handshake.
        let site = site.filter(|site| site.handshake_class() == self.class);
        match site.ok_or(Problem::new(Code::MisdirectedRequest))? {
            site if site.kind == SiteKind::Door => {
                // Somebody may take its next connection.
                self.say_last_word();
                Err(Problem::new(Code::Overloaded))
            }
            site => Ok(site),
        }
    }

    /// Moves the connection to the gauge it belongs to.
    fn count_as(&self, gauge: GaugeOf) {
        let metrics = &self.worker.shared.metrics;
        gauge(metrics).rise();
        self.counted.replace(Some(gauge)).inspect(|before| before(metrics).fall());
    }

    /// Whether someone known came in over this connection who is not known any more.
    pub(super) fn has_lost_identity(&self) -> bool {
        let who = self.who(self.worker.shared.clock.now());
        self.was_known.get() && !matches!(*who, Classified::Known(_))
    }

    /// Whether somebody else serves the connection.
    pub(super) fn set_handed_over(&self, is_handed_over: bool) {
        self.place.set_handed_over(is_handed_over);
    }

    /// The presented leaf, whose key is the visitor's.
    pub(super) fn leaf(&self) -> Option<&[u8]> {
        self.leaf.as_deref()
    }

    /// From where the connection comes. A request may come from farther: [`Origin`].
    pub(super) fn source(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// What the owner of the connection is asked to do.
    pub(super) fn signal(&self) -> &Arc<Signal> {
        self.place.signal()
    }

    /// The answer under way is the connection's last.
    pub(super) fn say_last_word(&self) {
        self.last_word.set(true);
        self.signal().wake();
    }

    pub(super) fn has_said_last_word(&self) -> bool {
        self.last_word.get()
    }

    /// Counts a request that came too often. Whether the visitor goes on as if nobody had said so.
    pub(super) fn insists(&self) -> bool {
        let (since, count) = self.limited.get();
        let counted = match since.elapsed() < SECOND {
            true => (since, count + 1),
            false => (Instant::now(), 1),
        };
        self.limited.set(counted);
        counted.1 > MOST_LIMITED
    }

    /// Whether the visitor is asked to go.
    pub(super) fn is_leaving(&self) -> bool {
        self.signal().ending() != Ending::Not
    }

    /// Takes over once the 101 has gone out (HTTP/1). Holds this visit: whoever serves it takes it out again.
    pub(super) fn open_tunnel(&self, tunnel: Opened) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    pub(super) fn take_tunnel(&self) -> Option<Opened> {
        self.tunnel.borrow_mut().take()
    }

    /// The connection ends for what the visitor does.
    pub(super) fn breaks_off(&self, breach: Breach) {
        if !self.is_own {
            self.worker.shared.metrics.breaches.count(breach);
            access_log::connection_ended(self.peer, breach);
        }
    }

    /// The presented leaf as RFC 9440 writes it.
    pub(super) fn client_cert(&self) -> Option<HeaderValue> {
        let mut memo = self.memo.borrow_mut();
        if memo.client_cert.is_none() {
            memo.client_cert = byte_sequence(self.leaf.as_ref()?);
        }
        memo.client_cert.clone()
    }

    /// The authority above the leaf as RFC 9440 writes it: ours, not what the visitor sent along.
    pub(super) fn client_cert_chain(&self, identity: &Identity) -> Option<HeaderValue> {
        let mut memo = self.memo.borrow_mut();
        if memo.chain.is_none() {
            memo.chain = byte_sequence(&identity.authority().certificate);
        }
        memo.chain.clone()
    }

    /// A statement for `audience`, signed now or a little while ago.
    pub(super) fn assertion(
        &self,
        signer: &Signer,
        identity: &Identity,
        audience: &str,
        now: UtcTime,
    ) -> Option<HeaderValue> {
        let mut memo = self.memo.borrow_mut();
        if let Some((_, kept)) = memo.assertions.iter().find(|(to, _)| to == audience)
            && kept.made_by(signer)
            && kept.may_be_sent(now)
        {
            return Some(kept.value.clone());
        }
        let signed = signer.sign(identity, audience, now)?;
        memo.assertions.retain(|(to, _)| to != audience);
        memo.assertions.push((audience.to_owned(), signed.clone()));
        Some(signed.value)
    }

    /// RFC 7239 and its forerunners: whom we serve, under which name. `Host` stays the visitor's.
    pub(super) fn put_forwarded(&self, named: &Named, origin: &Origin, headers: &mut HeaderMap) {
        let mut memo = self.memo.borrow_mut();
        if memo.forwarded.as_ref().is_none_or(|(known, ..)| known != named) {
            let authority = named.authority();
            let peer = self.source();
            let forwarded = format!("for={};host=\"{authority}\";proto=https", forwarded::node(peer));
            memo.peer = HeaderValue::try_from(peer.to_string()).ok();
            memo.forwarded = HeaderValue::try_from(forwarded)
                .ok()
                .zip(HeaderValue::try_from(authority).ok())
                .map(|(forwarded, host)| (named.clone(), forwarded, host));
        }
        if let (Some((_, forwarded, host)), Some(peer)) = (&memo.forwarded, &memo.peer) {
            let (forwarded, forwarded_for) = origin.with_last(forwarded, peer);
            headers.insert(header::FORWARDED, forwarded);
            headers.insert(X_FORWARDED_FOR, forwarded_for);
            headers.insert(X_FORWARDED_HOST, host.clone());
            headers.insert(header::HOST, host.clone());
        }
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.counted.get().inspect(|gauge| gauge(&self.worker.shared.metrics).fall());
    }
}

/// What the handshake's certificate was found to be.
fn result_of(who: &Classified) -> ClientAuthResult {
    match who {
        Classified::None => ClientAuthResult::None,
        Classified::Known(_) => ClientAuthResult::Known,
        Classified::Refused(refusal) => refusal.cause.into(),
    }
}

impl From<Cause> for ClientAuthResult {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Expired => Self::Expired,
            Cause::NotYetValid => Self::NotYetValid,
            Cause::Revoked(_) => Self::Revoked,
            Cause::PersonDisabled => Self::PersonDisabled,
            Cause::AuthorityRetired => Self::AuthorityRetired,
            Cause::NotOnRecord => Self::NotOnRecord,
            Cause::WrongUsage => Self::WrongEku,
            Cause::BadSignature => Self::BadSignature,
            Cause::UnknownAuthority => Self::UnknownAuthority,
            Cause::Unreadable => Self::Unreadable,
        }
    }
}

/// Who passes, if anybody does.
fn known(who: &Classified) -> Option<&Identity> {
    match who {
        Classified::Known(identity) => Some(identity),
        Classified::None | Classified::Refused(_) => None,
    }
}

/// Classifies and enters what came out, until no change came in between: one that did was applied after the
/// classification and asked the index before it knew whom it concerns. Returns the epoch that it holds for.
fn settled<T>(epoch: impl Fn() -> u64, classify: impl Fn() -> T, enter: impl Fn(&T)) -> (u64, T) {
    let mut before = epoch();
    loop {
        let who = classify();
        enter(&who);
        let after = epoch();
        if after == before {
            return (before, who);
        }
        before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_between_the_classification_and_the_index_is_not_missed() {
        let (epoch, passes) = (Cell::new(7), Cell::new(true));
        let entered = RefCell::new(Vec::new());
        let enter = |who: &bool| {
            if entered.borrow().is_empty() {
                // The person is disabled at this very moment; the index does not know them yet.
                passes.set(false);
                epoch.set(8);
            }
            entered.borrow_mut().push(*who);
        };
        assert_eq!(settled(|| epoch.get(), || passes.get(), enter), (8, false));
        assert_eq!(*entered.borrow(), [true, false]);
    }
}
