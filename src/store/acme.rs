//! ACME rows: the account, the journal of each order, its challenges, and what is known of a name's
//! renewal between orders. Each step of an order is committed before and after its request, by the
//! holder of the name's lease.

use entity::{acme_account, acme_challenge, acme_order, acme_renewal};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use super::leases::Lease;
use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{Hostname, UtcTime};
use crate::keys::Place;

macro_rules! names {
    ($kind:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $kind {
            /// The name in rows and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                [$(Self::$variant),+].into_iter().find(|value| value.name() == name)
            }
        }
    };
}

/// How far an order is, in our journal. The authority's own word on it is asked anew at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// Key and request are stored; the authority knows nothing yet, or we do not know what it knows.
    Created,
    /// The order's URL is stored.
    Ordered,
    /// The challenges are part of the configuration.
    Challenged,
    /// The request may have been sent.
    Finalizing,
    /// The chain is stored.
    Issued,
    /// The site serves it in the rows; no handshake has proven it yet.
    Installed,
    /// A handshake has shown the new leaf.
    Done,
    /// It came to nothing.
    Failed,
}
names!(OrderState {
    Created = "created",
    Ordered = "ordered",
    Challenged = "challenged",
    Finalizing = "finalizing",
    Issued = "issued",
    Installed = "installed",
    Done = "done",
    Failed = "failed",
});

/// How control of a name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// A token at `/.well-known/acme-challenge/` (RFC 8555 §8.3).
    Http01,
    /// A handshake (RFC 8737).
    TlsAlpn01,
}
names!(ChallengeKind { Http01 = "http-01", TlsAlpn01 = "tls-alpn-01" });

/// Our account at an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its row.
    pub id: String,
    /// The authority's directory.
    pub directory: String,
    /// The account key, PKCS#8 DER, sealed under the authority vault at [`Account::place`].
    pub sealed_key: Vec<u8>,
    /// The account's URL; none before the authority answered.
    pub url: Option<String>,
}

impl Account {
    /// Where the key of row `id` is sealed to.
    pub fn place(id: &str) -> Place<'_> {
        Place { table: "acme_account", column: "sealed_key", row: id }
    }
}

/// The journal of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its row.
    pub id: String,
    /// The name that is ordered.
    pub host: Hostname,
    /// The authority's directory.
    pub directory: String,
    /// How far it is.
    pub state: OrderState,
    /// How control is proven.
    pub challenge: ChallengeKind,
    /// The order at the authority.
    pub order_url: Option<String>,
    /// The request, DER.
    pub csr: Vec<u8>,
    /// The key, PKCS#8 DER, sealed under the server vault at [`Order::place`].
    pub sealed_key: Vec<u8>,
    /// What was issued.
    pub chain_pem: Option<String>,
    /// The server certificate that it became.
    pub certificate_id: Option<String>,
    /// What the site served before.
    pub previous_certificate_id: Option<String>,
    /// Why it failed.
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: UtcTime,
}

impl Order {
    /// Where the key of row `id` is sealed to.
    pub fn place(id: &str) -> Place<'_> {
        Place { table: "acme_order", column: "sealed_key", row: id }
    }
}

/// A challenge that edges must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The name under validation.
    pub host: Hostname,
    /// Which kind.
    pub kind: ChallengeKind,
    /// The token.
    pub token: String,
    /// The answer (RFC 8555 §8.1).
    pub key_authorization: String,
}

/// The authority's suggestion of when to renew one certificate, with the moment that was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWindow {
    /// The certificate it is about, by fingerprint.
    pub certificate: String,
    /// Start and end; none when the authority had nothing sensible to say.
    pub window: Option<(UtcTime, UtcTime)>,
    /// The moment that was picked in it.
    pub selected: Option<UtcTime>,
    /// When to ask again.
    pub next_look: UtcTime,
}

/// What is known of a name's renewal between orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Failures since the last success.
    pub failures: u32,
    /// Drawn at the last failure: 0..1000.
    pub jitter: u16,
    /// When it last failed.
    pub last_failed_at: Option<UtcTime>,
    /// Until when the authority asked to be left alone.
    pub blocked_until: Option<UtcTime>,
    /// When someone asked for a renewal now.
    pub requested_at: Option<UtcTime>,
    /// When it last succeeded.
    pub succeeded_at: Option<UtcTime>,
    /// Why it last failed.
    pub last_error: Option<String>,
    /// The authority's suggestion.
    pub window: Option<StoredWindow>,
}

impl Store {
    /// Our account at this directory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acme_account(&self, directory: &str) -> Result<Option<Account>, StoreError> {
        let query = acme_account::Entity::find().filter(acme_account::Column::Directory.eq(directory));
        Ok(query.one(self.reader()).await?.map(|row| Account {
            id: row.id,
            directory: row.directory,
            sealed_key: row.sealed_key,
            url: row.url,
        }))
    }

    /// Keeps a new account's key, before the authority hears of it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when there is one for this directory.
    pub async fn insert_acme_account(&self, account: &Account, now: UtcTime) -> Result<(), StoreError> {
        let row = acme_account::ActiveModel {
            id: Set(account.id.clone()),
            directory: Set(account.directory.clone()),
            sealed_key: Set(account.sealed_key.clone()),
            url: Set(account.url.clone()),
            created_at: Set(now.as_unix()),
        };
        let insert = acme_account::Entity::insert(row).exec_without_returning(self.writer()).await;
        insert.map(drop).map_err(|error| StoreError::unique(error, "the account"))
    }

    /// Keeps the account's URL, or forgets one that the authority no longer knows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_acme_account_url(&self, id: &str, url: Option<&str>) -> Result<(), StoreError> {
        acme_account::Entity::update_many()
            .col_expr(acme_account::Column::Url, Expr::value(url.map(str::to_owned)))
            .filter(acme_account::Column::Id.eq(id))
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// The order of this name that has not ended, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_acme_order(&self, host: &Hostname) -> Result<Option<Order>, StoreError> {
        let query = acme_order::Entity::find().filter(acme_order::Column::Host.eq(host.as_str())).filter(
            acme_order::Column::State.is_not_in([OrderState::Done.name(), OrderState::Failed.name()]),
        );
        query.one(self.reader()).await?.map(read_order).transpose()
    }

    /// Every order of this name, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acme_orders(&self, host: &Hostname) -> Result<Vec<Order>, StoreError> {
        let query = acme_order::Entity::find()
            .filter(acme_order::Column::Host.eq(host.as_str()))
            .order_by_desc(acme_order::Column::Id);
        query.all(self.reader()).await?.into_iter().map(read_order).collect()
    }

    /// Every challenge that edges must answer now: part of the configuration.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_challenges(&self) -> Result<Vec<Challenge>, StoreError> {
        let rows = acme_challenge::Entity::find()
            .order_by_asc(acme_challenge::Column::Id)
            .all(self.reader())
            .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Challenge {
                    host: parse("a challenge's host", &row.host)?,
                    kind: named("a challenge's kind", &row.kind, ChallengeKind::from_name(&row.kind))?,
                    token: row.token,
                    key_authorization: row.key_authorization,
                })
            })
            .collect()
    }

    /// What is known of this name's renewal; nothing yet is a default.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renewal(&self, host: &Hostname) -> Result<Renewal, StoreError> {
        let row = acme_renewal::Entity::find_by_id(host.to_string()).one(self.reader()).await?;
        Ok(row.map(read_renewal).unwrap_or_default())
    }

    /// Notes that someone asked for a renewal now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn request_renewal(&self, host: &Hostname, now: UtcTime) -> Result<(), StoreError> {
        let renewal = Renewal { requested_at: Some(now), ..Renewal::default() };
        write_renewal(self.writer(), host, &renewal, &[acme_renewal::Column::RequestedAt]).await
    }

    /// Keeps the authority's suggestion.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_window(&self, host: &Hostname, window: StoredWindow) -> Result<(), StoreError> {
        let renewal = Renewal { window: Some(window), ..Renewal::default() };
        write_renewal(self.writer(), host, &renewal, &WINDOW).await
    }
}

impl Transaction {
    /// Opens an order: key and request are on record from here on.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name has an open one.
    pub async fn insert_acme_order(
        &self,
        order: &Order,
        lease: &Lease,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        self.check_lease(lease).await?;
        let row = acme_order::ActiveModel {
            id: Set(order.id.clone()),
            host: Set(order.host.to_string()),
            directory: Set(order.directory.clone()),
            state: Set(order.state.name().to_owned()),
            challenge: Set(order.challenge.name().to_owned()),
            order_url: Set(order.order_url.clone()),
            csr: Set(order.csr.clone()),
            sealed_key: Set(order.sealed_key.clone()),
            chain_pem: Set(order.chain_pem.clone()),
            certificate_id: Set(order.certificate_id.clone()),
            previous_certificate_id: Set(order.previous_certificate_id.clone()),
            last_error: Set(order.last_error.clone()),
            fencing: Set(i64::try_from(lease.token).unwrap_or(i64::MAX)),
            created_at: Set(now.as_unix()),
            updated_at: Set(now.as_unix()),
        };
        let insert = acme_order::Entity::insert(row).exec_without_returning(self.connection()).await;
        insert.map(drop).map_err(|error| StoreError::unique(error, "the name's open order"))
    }

    /// Writes an order's next step, under the name's lease.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the lease is no longer ours.
    pub async fn update_acme_order(
        &self,
        order: &Order,
        lease: &Lease,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        use acme_order::Column;
        self.check_lease(lease).await?;
        acme_order::Entity::update_many()
            .col_expr(Column::State, Expr::value(order.state.name()))
            .col_expr(Column::OrderUrl, Expr::value(order.order_url.clone()))
            .col_expr(Column::ChainPem, Expr::value(order.chain_pem.clone()))
            .col_expr(Column::CertificateId, Expr::value(order.certificate_id.clone()))
            .col_expr(Column::PreviousCertificateId, Expr::value(order.previous_certificate_id.clone()))
            .col_expr(Column::LastError, Expr::value(order.last_error.clone()))
            .col_expr(Column::Fencing, Expr::value(i64::try_from(lease.token).unwrap_or(i64::MAX)))
            .col_expr(Column::UpdatedAt, Expr::value(now.as_unix()))
            .filter(Column::Id.eq(order.id.as_str()))
            .exec(self.connection())
            .await?;
        Ok(())
    }

    /// Replaces the challenges of an order; the configuration moves on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace_challenges(&self, order: &str, challenges: &[Challenge]) -> Result<(), StoreError> {
        let old = acme_challenge::Entity::delete_many()
            .filter(acme_challenge::Column::OrderId.eq(order))
            .exec(self.connection())
            .await?;
        let rows = challenges.iter().map(|challenge| acme_challenge::ActiveModel {
            id: Set(uuid::Uuid::now_v7().to_string()),
            order_id: Set(order.to_owned()),
            host: Set(challenge.host.to_string()),
            kind: Set(challenge.kind.name().to_owned()),
            token: Set(challenge.token.clone()),
            key_authorization: Set(challenge.key_authorization.clone()),
        });
        if !challenges.is_empty() {
            acme_challenge::Entity::insert_many(rows).exec_without_returning(self.connection()).await?;
        }
        if old.rows_affected > 0 || !challenges.is_empty() {
            self.touch_configuration().await?;
        }
        Ok(())
    }

    /// Writes what is known of a name's renewal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_renewal(&self, host: &Hostname, renewal: &Renewal) -> Result<(), StoreError> {
        write_renewal(self.connection(), host, renewal, &EVERYTHING).await
    }
}

const WINDOW: [acme_renewal::Column; 5] = [
    acme_renewal::Column::WindowCertificate,
    acme_renewal::Column::WindowStart,
    acme_renewal::Column::WindowEnd,
    acme_renewal::Column::WindowSelected,
    acme_renewal::Column::WindowNextLook,
];

const EVERYTHING: [acme_renewal::Column; 12] = [
    acme_renewal::Column::Failures,
    acme_renewal::Column::Jitter,
    acme_renewal::Column::LastFailedAt,
    acme_renewal::Column::BlockedUntil,
    acme_renewal::Column::RequestedAt,
    acme_renewal::Column::SucceededAt,
    acme_renewal::Column::LastError,
    acme_renewal::Column::WindowCertificate,
    acme_renewal::Column::WindowStart,
    acme_renewal::Column::WindowEnd,
    acme_renewal::Column::WindowSelected,
    acme_renewal::Column::WindowNextLook,
];

/// Writes these columns of the name's row, in one statement: someone else may be writing the others.
async fn write_renewal<C: ConnectionTrait>(
    connection: &C,
    host: &Hostname,
    renewal: &Renewal,
    columns: &[acme_renewal::Column],
) -> Result<(), StoreError> {
    use acme_renewal::Column;
    let unix = |time: Option<UtcTime>| time.map(UtcTime::as_unix);
    let window = renewal.window.as_ref();
    let row = acme_renewal::ActiveModel {
        host: Set(host.to_string()),
        failures: Set(i64::from(renewal.failures)),
        jitter: Set(i64::from(renewal.jitter)),
        last_failed_at: Set(unix(renewal.last_failed_at)),
        blocked_until: Set(unix(renewal.blocked_until)),
        requested_at: Set(unix(renewal.requested_at)),
        succeeded_at: Set(unix(renewal.succeeded_at)),
        last_error: Set(renewal.last_error.clone()),
        window_certificate: Set(window.map(|window| window.certificate.clone())),
        window_start: Set(unix(window.and_then(|window| window.window.map(|(start, _)| start)))),
        window_end: Set(unix(window.and_then(|window| window.window.map(|(_, end)| end)))),
        window_selected: Set(unix(window.and_then(|window| window.selected))),
        window_next_look: Set(unix(window.map(|window| window.next_look))),
    };
    let replace = OnConflict::column(Column::Host).update_columns(columns.iter().copied()).to_owned();
    acme_renewal::Entity::insert(row).on_conflict(replace).exec_without_returning(connection).await?;
    Ok(())
}

fn read_order(row: acme_order::Model) -> Result<Order, StoreError> {
    Ok(Order {
        host: parse("an order's host", &row.host)?,
        state: named("an order's state", &row.state, OrderState::from_name(&row.state))?,
        challenge: named("an order's challenge", &row.challenge, ChallengeKind::from_name(&row.challenge))?,
        id: row.id,
        directory: row.directory,
        order_url: row.order_url,
        csr: row.csr,
        sealed_key: row.sealed_key,
        chain_pem: row.chain_pem,
        certificate_id: row.certificate_id,
        previous_certificate_id: row.previous_certificate_id,
        last_error: row.last_error,
        created_at: at(row.created_at),
    })
}

fn read_renewal(row: acme_renewal::Model) -> Renewal {
    let window = row.window_certificate.map(|certificate| StoredWindow {
        certificate,
        window: row.window_start.map(at).zip(row.window_end.map(at)),
        selected: row.window_selected.map(at),
        next_look: at(row.window_next_look.unwrap_or(0)),
    });
    Renewal {
        failures: u32::try_from(row.failures).unwrap_or(0),
        jitter: u16::try_from(row.jitter).unwrap_or(0),
        last_failed_at: row.last_failed_at.map(at),
        blocked_until: row.blocked_until.map(at),
        requested_at: row.requested_at.map(at),
        succeeded_at: row.succeeded_at.map(at),
        last_error: row.last_error,
        window,
    }
}
