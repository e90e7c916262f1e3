//! Drives one order, one step at a time. The authority is asked how far the order is before each step,
//! and each step is on record before and after its request: whoever comes after a crash goes on from
//! whatever the authority says.

use std::time::Duration;

use instant_acme::{
    AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, NewOrder, Order as Remote, OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::account::Session;
use super::fault::{AcmeError, words_of};
use super::suggestion::identifier;
use super::{Acme, issued};
use crate::crash;
use crate::domain::{Hostname, Secret, UtcTime};
use crate::store::acme::{Challenge, ChallengeKind, Order, OrderState};
use crate::store::configuration::{CertificateSource, Site};
use crate::store::leases::Lease;

/// How long one run stays with an order; after that the next run goes on.
const PATIENCE: Duration = Duration::from_secs(150);
/// First pause between two looks at an order.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// Longest pause between two looks that we choose ourselves.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// Nonces that may be refused in a row.
const NONCES: u32 = 10;
/// Pause after a refused nonce, times their number.
const NONCE_PAUSE: Duration = Duration::from_millis(150);
/// Times that edges are asked to answer a challenge.
const PUBLISH_TRIES: u32 = 3;
/// An order that is older than this is given up: authorities keep them for hours or days.
const TOO_OLD: Duration = Duration::from_secs(24 * 3600);

/// An order on its way.
pub(super) struct Drive<'a> {
    pub(super) acme: &'a Acme,
    pub(super) site: &'a Site,
    pub(super) lease: &'a Lease,
    pub(super) stop: &'a CancellationToken,
    pub(super) order: Order,
    session: Option<Session>,
    deadline: Instant,
    /// The account was forgotten once already in this run.
    registered_anew: bool,
}

impl<'a> Drive<'a> {
    /// Takes up the name's open order, or opens one.
    pub(super) async fn begin(
        acme: &'a Acme,
        site: &'a Site,
        lease: &'a Lease,
        stop: &'a CancellationToken,
    ) -> Result<Self, AcmeError> {
        let now = acme.now();
        let directory = &acme.0.settings.directory_url;
        let mut open = acme.0.store.open_acme_order(&site.host).await?;
        if let Some(order) = open.take_if(|order| order.directory != *directory && order.chain_pem.is_none())
        {
            acme.close_order(order, lease, "the authority was changed in the settings").await?;
        }
        let order = match open {
            Some(order) => order,
            None => acme.open_order(&site.host, lease, now).await?,
        };
        let deadline = Instant::now() + PATIENCE;
        Ok(Self { acme, site, lease, stop, order, session: None, deadline, registered_anew: false })
    }

    /// Goes on until the chain is stored.
    pub(super) async fn until_issued(&mut self) -> Result<(), AcmeError> {
        let mut refused = 0;
        while self.order.chain_pem.is_none() {
            if self.stop.is_cancelled() {
                return Err(AcmeError::Stopped);
            }
            let now = self.acme.now();
            if now.since(self.order.created_at) > TOO_OLD {
                return Err(AcmeError::TooOld);
            }
            match self.step().await {
                Ok(()) => refused = 0,
                // Nothing was done under a refused nonce, so each step may be repeated.
                Err(error) if error.is_refusal("badNonce") && refused < NONCES => {
                    refused += 1;
                    tokio::time::sleep(NONCE_PAUSE * refused).await;
                }
                Err(error) if error.is_refusal("accountDoesNotExist") && !self.registered_anew => {
                    self.registered_anew = true;
                    self.forget_account().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), AcmeError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.acme.sign_in(self.acme.now()).await?,
        };
        let result = match self.order.order_url.clone() {
            None => self.place(&session).await,
            Some(url) => self.go_on(&session, url).await,
        };
        self.session = Some(session);
        result
    }

    /// Tells the authority what we want, and keeps the order's URL.
    async fn place(&mut self, session: &Session) -> Result<(), AcmeError> {
        let names = [Identifier::Dns(self.site.host.to_string())];
        let mut wish = NewOrder::new(&names);
        let profile = self.acme.0.settings.profile.clone();
        if let Some(profile) = &profile {
            // The engine does not look, and some authorities would silently use another one.
            if !session.account.profiles().any(|offered| offered.name == profile) {
                return Err(AcmeError::Profile(profile.clone()));
            }
            wish = wish.profile(profile);
        }
        let current = self.site.server_certificate.as_ref();
        let replaced =
            current.filter(|current| current.source == CertificateSource::Acme).and_then(identifier);
        let read = |error| AcmeError::of(error, &session.http.last());
        let placed = match replaced {
            None => session.account.new_order(&wish).await,
            Some(replaced) => {
                let mut with = NewOrder::new(&names).replaces(replaced);
                if let Some(profile) = &profile {
                    with = with.profile(profile);
                }
                match session.account.new_order(&with).await.map_err(read) {
                    Ok(order) => Ok(order),
                    Err(error) if must_not_repeat(&error) => return Err(error),
                    // Replaced already, unknown to this authority, or not its custom: order without.
                    Err(_) => session.account.new_order(&wish).await,
                }
            }
        };
        let placed = placed.map_err(read)?;
        crash::reach("acme.after_new_order");
        self.order.order_url = Some(placed.url().to_owned());
        self.record(OrderState::Ordered).await
    }

    async fn go_on(&mut self, session: &Session, url: String) -> Result<(), AcmeError> {
        let read = |error| AcmeError::of(error, &session.http.last());
        let mut remote = match session.account.order(url).await.map_err(read) {
            Ok(remote) => remote,
            // The authority forgot it; ours is not usable any more.
            Err(error) if is_gone(&error) => {
                self.order.order_url = None;
                return self.record(OrderState::Created).await;
            }
            Err(error) => return Err(error),
        };
        match remote.state().status {
            OrderStatus::Pending => self.solve(session, &mut remote).await,
            OrderStatus::Ready => self.finalize(session, &mut remote).await,
            OrderStatus::Processing => self.wait_while(session, &mut remote, OrderStatus::Processing).await,
            OrderStatus::Valid => self.download(session, &mut remote).await,
            OrderStatus::Invalid => Err(self.why_invalid(session, &mut remote).await),
        }
    }

    /// Has every edge answer, then asks the authority to look.
    async fn solve(&mut self, session: &Session, remote: &mut Remote) -> Result<(), AcmeError> {
        let read = |error| AcmeError::of(error, &session.http.last());
        let kind = self.order.challenge;
        let no_challenge = || AcmeError::NoChallenge { host: self.site.host.clone(), challenge: kind.name() };
        let mut answers = Vec::new();
        let mut authorizations = remote.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(read)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let challenge = authorization.challenge(engine_kind(kind)).ok_or_else(no_challenge)?;
            answers.push(Challenge {
                host: self.site.host.clone(),
                kind,
                token: challenge.token.clone(),
                key_authorization: challenge.key_authorization().as_str().to_owned(),
            });
        }
        self.publish(&answers).await?;
        let mut authorizations = remote.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(read)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let mut challenge = authorization.challenge(engine_kind(kind)).ok_or_else(no_challenge)?;
            if challenge.status == ChallengeStatus::Pending {
                challenge.set_ready().await.map_err(read)?;
            }
        }
        self.wait_while(session, remote, OrderStatus::Pending).await
    }

    async fn publish(&mut self, answers: &[Challenge]) -> Result<(), AcmeError> {
        let open = self.acme.0.store.open_challenges().await?;
        let ours: Vec<_> = open.into_iter().filter(|challenge| challenge.host == self.site.host).collect();
        if self.order.state != OrderState::Challenged || ours != answers {
            self.order.state = OrderState::Challenged;
            let transaction = self.acme.0.store.begin().await?;
            transaction.update_acme_order(&self.order, self.lease, self.acme.now()).await?;
            transaction.replace_challenges(&self.order.id, answers).await?;
            transaction.commit().await?;
            crash::reach("acme.after_challenges");
        }
        let mut tries = 0;
        loop {
            let enforced = self.acme.0.enforce.bring_up_to_date().await;
            if enforced.edges > 0 && enforced.acknowledged == enforced.edges {
                return Ok(());
            }
            tries += 1;
            if tries == PUBLISH_TRIES {
                let (edges, acknowledged) = (enforced.edges, enforced.acknowledged);
                return Err(AcmeError::NotAnswered { edges, acknowledged });
            }
            tokio::time::sleep(FIRST_LOOK * tries).await;
        }
    }

    async fn finalize(&mut self, session: &Session, remote: &mut Remote) -> Result<(), AcmeError> {
        // From here on a certificate for our stored key may exist.
        self.record(OrderState::Finalizing).await?;
        crash::reach("acme.before_finalize");
        match remote.finalize_csr(&self.order.csr).await {
            Ok(()) => {}
            Err(error) => {
                let error = AcmeError::of(error, &session.http.last());
                // Not ready after all: the next look tells what it is.
                if !error.is_refusal("orderNotReady") {
                    return Err(error);
                }
            }
        }
        crash::reach("acme.after_finalize");
        Ok(())
    }

    async fn download(&mut self, session: &Session, remote: &mut Remote) -> Result<(), AcmeError> {
        let read = |error| AcmeError::of(error, &session.http.last());
        let chain = remote.certificate().await.map_err(read)?;
        let chain = chain.ok_or_else(|| AcmeError::Issued("the authority sent none".to_owned()))?;
        let key = self.open_key()?;
        issued::check(&self.site.host, &chain, key.expose(), self.acme.now())?;
        self.order.chain_pem = Some(chain);
        self.record(OrderState::Issued).await
    }

    /// Looks again and again while the order stays as it is.
    async fn wait_while(
        &self,
        session: &Session,
        remote: &mut Remote,
        status: OrderStatus,
    ) -> Result<(), AcmeError> {
        let mut pause = FIRST_LOOK;
        loop {
            let asked = session.http.last().retry_after.filter(|_| pause > FIRST_LOOK * 2);
            let wait = asked.unwrap_or(pause).min(LONGEST_LOOK).max(FIRST_LOOK);
            if Instant::now() + wait > self.deadline {
                return Err(AcmeError::StillAtWork(PATIENCE));
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(AcmeError::Stopped),
                () = tokio::time::sleep(wait) => {}
            }
            self.acme.keep_lease(self.lease).await?;
            let state = remote.refresh().await.map_err(|error| AcmeError::of(error, &session.http.last()))?;
            if state.status != status {
                return Ok(());
            }
            pause = pause.mul_f32(1.5);
        }
    }

    /// Reads the authority's reasons, which stand in the challenges.
    async fn why_invalid(&self, session: &Session, remote: &mut Remote) -> AcmeError {
        let mut reasons: Vec<String> = remote.state().error.iter().map(words_of).collect();
        let mut authorizations = remote.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { continue };
            let told = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
            reasons.extend(told.map(words_of));
        }
        reasons.retain(|reason| !reason.is_empty());
        if reasons.is_empty() {
            reasons.push(match session.http.last().status {
                Some(status) => format!("the authority gave no reason (HTTP {status})"),
                None => "the authority gave no reason".to_owned(),
            });
        }
        AcmeError::NotValidated { host: self.site.host.clone(), detail: reasons.join("; ") }
    }

    /// The authority lost our account: register again under the same key, and order anew.
    async fn forget_account(&mut self) -> Result<(), AcmeError> {
        if let Some(session) = self.session.take() {
            self.acme.0.store.set_acme_account_url(&session.row, None).await?;
        }
        self.order.order_url = None;
        self.record(OrderState::Created).await
    }

    /// Opens the order's key.
    pub(super) fn open_key(&self) -> Result<Secret<Vec<u8>>, AcmeError> {
        let opened = self.acme.0.vaults.server.open(Order::place(&self.order.id), &self.order.sealed_key);
        opened.map_err(|_| AcmeError::Sealed("the order"))
    }

    async fn record(&mut self, state: OrderState) -> Result<(), AcmeError> {
        self.order.state = state;
        self.acme.keep_lease(self.lease).await?;
        let transaction = self.acme.0.store.begin().await?;
        transaction.update_acme_order(&self.order, self.lease, self.acme.now()).await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl Acme {
    /// Puts key and request on record. Nobody outside has seen either.
    async fn open_order(&self, host: &Hostname, lease: &Lease, now: UtcTime) -> Result<Order, AcmeError> {
        let fault = |error: rcgen::Error| AcmeError::Request(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fault)?;
        let mut params = CertificateParams::new([host.to_string()]).map_err(fault)?;
        // No common name and no purpose: profiles without a name, and authorities that refuse
        // clientAuth, take exactly this.
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).map_err(fault)?.der().to_vec();
        let pkcs8 = Secret::new(key.serialize_der());
        let id = uuid::Uuid::now_v7().to_string();
        let order = Order {
            sealed_key: self.0.vaults.server.seal(Order::place(&id), pkcs8.expose())?,
            id,
            host: host.clone(),
            directory: self.0.settings.directory_url.clone(),
            state: OrderState::Created,
            challenge: self.0.settings.challenge,
            order_url: None,
            csr,
            chain_pem: None,
            certificate_id: None,
            previous_certificate_id: None,
            last_error: None,
            created_at: now,
        };
        let transaction = self.0.store.begin().await?;
        transaction.insert_acme_order(&order, lease, now).await?;
        transaction.commit().await?;
        crash::reach("acme.after_order_row");
        Ok(order)
    }

    /// Ends an order that came to nothing, with its challenges.
    pub(super) async fn close_order(
        &self,
        mut order: Order,
        lease: &Lease,
        why: &str,
    ) -> Result<(), AcmeError> {
        order.state = OrderState::Failed;
        order.last_error = Some(why.to_owned());
        let transaction = self.0.store.begin().await?;
        transaction.update_acme_order(&order, lease, self.now()).await?;
        transaction.replace_challenges(&order.id, &[]).await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn engine_kind(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// Errors after which an order must not be sent again in another form. An internal error is none: some authorities
/// stumble over a certificate that they do not find.
fn must_not_repeat(error: &AcmeError) -> bool {
    let stumbled = matches!(error, AcmeError::Refused(refusal) if refusal.status == Some(500));
    error.keeps_the_order() && !stumbled && !matches!(error, AcmeError::Unreachable(_))
        || error.is_refusal("accountDoesNotExist")
        || error.is_refusal("badNonce")
}

fn is_gone(error: &AcmeError) -> bool {
    matches!(error, AcmeError::Refused(refusal) if refusal.status == Some(404))
}
