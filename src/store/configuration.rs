//! Sites, routes and server certificates: what an administrator edits. Every write moves
//! the configuration to its next version in the same transaction.

use entity::{route, server_certificate, site};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder};

use super::staples::{Staple, read_staple};
use super::{Store, StoreError, Transaction, at, json, named, parse, to_json};
use crate::domain::route::RouteOptions;
use crate::domain::{AccessPolicy, ClientAuth, Fingerprint, Hostname, RouteId, Slug, UtcTime};
use crate::keys::Place;

/// What a site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// An app behind routes.
    App,
    /// Portal, invitations and enrolment.
    Door,
    /// Connections are passed through unread.
    Passthrough,
}

/// Where a site's server certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// An ACME authority; until its first certificate arrives, the local server authority.
    Acme,
    /// The local server authority.
    Local,
}

macro_rules! names {
    ($kind:ident { $($variant:ident = $name:literal),+ }) => {
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
names!(SiteKind { App = "app", Door = "door", Passthrough = "passthrough" });
names!(CertificateSource { Acme = "acme", Local = "local" });

/// A server certificate as rows hold it, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificate {
    /// Its row.
    pub id: String,
    /// The site it is for.
    pub host: Hostname,
    /// Who issued it.
    pub source: CertificateSource,
    /// Leaf first, PEM.
    pub chain_pem: String,
    /// The leaf's key, PKCS#8 DER, sealed under the server vault at [`ServerCertificate::place`].
    pub sealed_key: Vec<u8>,
    /// The leaf's serial as its issuer wrote it, hexadecimal.
    pub serial: String,
    /// The issuer's name, for people.
    pub issuer: String,
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// Start of validity.
    pub not_before: UtcTime,
    /// End of validity.
    pub not_after: UtcTime,
    /// When it was installed.
    pub created_at: UtcTime,
    /// What its issuer says of it, for those who ask during the handshake.
    pub staple: Option<Staple>,
}

impl ServerCertificate {
    /// Where the key of row `id` is sealed to.
    pub fn place(id: &str) -> Place<'_> {
        Place { table: "server_certificate", column: "sealed_key", row: id }
    }
}

/// A site as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The public host name.
    pub host: Hostname,
    /// What it is.
    pub kind: SiteKind,
    /// Where connections are passed through to, if it is that kind of site.
    pub upstream: Option<Slug>,
    /// How it asks for client certificates.
    pub client_auth: ClientAuth,
    /// `Strict-Transport-Security: max-age`, in seconds; 0 sends none.
    pub hsts_max_age_seconds: u64,
    /// Where its certificate comes from.
    pub source: CertificateSource,
    /// Whether edges serve it.
    pub enabled: bool,
    /// The certificate it serves.
    pub server_certificate: Option<ServerCertificate>,
    /// When it was made.
    pub created_at: UtcTime,
    /// Counts edits, for `If-Match`.
    pub version: u64,
}

/// A route as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its identity.
    pub id: RouteId,
    /// The site it belongs to.
    pub host: Hostname,
    /// `/` or `/segment…`; matches whole segments.
    pub path_prefix: String,
    /// Where requests go.
    pub upstream: Slug,
    /// Who may pass.
    pub policy: AccessPolicy,
    /// A header that carries the person's address.
    pub plain_header: Option<String>,
    /// The `aud` of the assertion.
    pub audience: Option<String>,
    /// What else holds for it.
    pub options: RouteOptions,
    /// When it was made.
    pub created_at: UtcTime,
    /// Counts edits, for `If-Match`.
    pub version: u64,
}

impl Store {
    /// Every site, by host name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sites(&self) -> Result<Vec<Site>, StoreError> {
        let rows = site::Entity::find().order_by_asc(site::Column::Host).all(self.reader()).await?;
        let mut sites = Vec::with_capacity(rows.len());
        for row in rows {
            sites.push(self.read_site(row).await?);
        }
        Ok(sites)
    }

    /// The site of this host name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn site(&self, host: &Hostname) -> Result<Option<Site>, StoreError> {
        match site::Entity::find_by_id(host.to_string()).one(self.reader()).await? {
            Some(row) => Ok(Some(self.read_site(row).await?)),
            None => Ok(None),
        }
    }

    /// The server certificate of this row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn server_certificate(&self, id: &str) -> Result<Option<ServerCertificate>, StoreError> {
        let row = server_certificate::Entity::find_by_id(id.to_owned()).one(self.reader()).await?;
        row.map(read_server_certificate).transpose()
    }

    /// Every route, by host and prefix.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn routes(&self) -> Result<Vec<Route>, StoreError> {
        let query =
            route::Entity::find().order_by_asc(route::Column::Host).order_by_asc(route::Column::PathPrefix);
        query.all(self.reader()).await?.into_iter().map(read_route).collect()
    }

    /// The route with this identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn route(&self, id: RouteId) -> Result<Option<Route>, StoreError> {
        route::Entity::find_by_id(id.to_string()).one(self.reader()).await?.map(read_route).transpose()
    }

    async fn read_site(&self, row: site::Model) -> Result<Site, StoreError> {
        let server_certificate = match &row.server_certificate_id {
            Some(id) => self.server_certificate(id).await?,
            None => None,
        };
        Ok(Site {
            host: parse("a site's host", &row.host)?,
            kind: named("a site's kind", &row.kind, SiteKind::from_name(&row.kind))?,
            upstream: row.upstream.as_deref().map(|name| parse("a site's upstream", name)).transpose()?,
            client_auth: named(
                "a site's client auth",
                &row.client_auth,
                ClientAuth::from_name(&row.client_auth),
            )?,
            hsts_max_age_seconds: u64::try_from(row.hsts_max_age_seconds).unwrap_or(0),
            source: named(
                "a site's certificate source",
                &row.certificate_source,
                CertificateSource::from_name(&row.certificate_source),
            )?,
            enabled: row.enabled,
            server_certificate,
            created_at: at(row.created_at),
            version: u64::try_from(row.version).unwrap_or(0),
        })
    }
}

impl Transaction {
    /// Adds a site. Its certificate must be there already, if it names one.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the host is a site already.
    pub async fn insert_site(&self, new: &Site) -> Result<(), StoreError> {
        let row = site::ActiveModel {
            host: Set(new.host.to_string()),
            kind: Set(new.kind.name().to_owned()),
            upstream: Set(new.upstream.as_ref().map(ToString::to_string)),
            client_auth: Set(new.client_auth.name().to_owned()),
            hsts_max_age_seconds: Set(i64::try_from(new.hsts_max_age_seconds).unwrap_or(i64::MAX)),
            certificate_source: Set(new.source.name().to_owned()),
            enabled: Set(new.enabled),
            server_certificate_id: Set(new
                .server_certificate
                .as_ref()
                .map(|certificate| certificate.id.clone())),
            created_at: Set(new.created_at.as_unix()),
            version: Set(1),
        };
        let inserted = site::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map_err(|error| StoreError::unique(error, "the host name"))?;
        self.touch_configuration().await
    }

    /// Changes what an administrator may change of a site; `edited.version` is the version read.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub async fn update_site(&self, edited: &Site) -> Result<(), StoreError> {
        let update = site::Entity::update_many()
            .col_expr(site::Column::Upstream, Expr::value(edited.upstream.as_ref().map(ToString::to_string)))
            .col_expr(site::Column::ClientAuth, Expr::value(edited.client_auth.name()))
            .col_expr(
                site::Column::HstsMaxAgeSeconds,
                Expr::value(i64::try_from(edited.hsts_max_age_seconds).unwrap_or(i64::MAX)),
            )
            .col_expr(site::Column::CertificateSource, Expr::value(edited.source.name()))
            .col_expr(site::Column::Enabled, Expr::value(edited.enabled))
            .col_expr(site::Column::Version, Expr::col(site::Column::Version).add(1))
            .filter(site::Column::Host.eq(edited.host.to_string()))
            .filter(site::Column::Version.eq(signed(edited.version)));
        self.one_row(update.exec(self.connection()).await?.rows_affected, "the site").await
    }

    /// Makes a site serve the certificate of this row from now on. Not an edit: the version stays.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn serve_certificate(&self, host: &Hostname, id: &str) -> Result<(), StoreError> {
        let update = site::Entity::update_many()
            .col_expr(site::Column::ServerCertificateId, Expr::value(id))
            .filter(site::Column::Host.eq(host.to_string()));
        if update.exec(self.connection()).await?.rows_affected != 1 {
            return Err(StoreError::Missing { what: "site" });
        }
        self.touch_configuration().await
    }

    /// Removes a site and its routes.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer the version that was read.
    pub async fn delete_site(&self, host: &Hostname, version: u64) -> Result<(), StoreError> {
        route::Entity::delete_many()
            .filter(route::Column::Host.eq(host.to_string()))
            .exec(self.connection())
            .await?;
        let delete = site::Entity::delete_many()
            .filter(site::Column::Host.eq(host.to_string()))
            .filter(site::Column::Version.eq(signed(version)));
        self.one_row(delete.exec(self.connection()).await?.rows_affected, "the site").await
    }

    /// Adds a server certificate with its sealed key. No site serves it yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_server_certificate(&self, new: &ServerCertificate) -> Result<(), StoreError> {
        let row = server_certificate::ActiveModel {
            id: Set(new.id.clone()),
            host: Set(new.host.to_string()),
            source: Set(new.source.name().to_owned()),
            chain_pem: Set(new.chain_pem.clone()),
            sealed_key: Set(new.sealed_key.clone()),
            serial: Set(new.serial.clone()),
            issuer: Set(new.issuer.clone()),
            fingerprint: Set(new.fingerprint.to_string()),
            not_before: Set(new.not_before.as_unix()),
            not_after: Set(new.not_after.as_unix()),
            created_at: Set(new.created_at.as_unix()),
            staple: Set(new.staple.as_ref().map(|staple| staple.der.clone())),
            staple_this_update: Set(new.staple.as_ref().map(|staple| staple.this_update.as_unix())),
            staple_until: Set(new.staple.as_ref().map(|staple| staple.until.as_unix())),
        };
        server_certificate::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Adds a route.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the site has one with this prefix.
    pub async fn insert_route(&self, new: &Route) -> Result<(), StoreError> {
        let row = route::ActiveModel {
            id: Set(new.id.to_string()),
            host: Set(new.host.to_string()),
            path_prefix: Set(new.path_prefix.clone()),
            upstream: Set(new.upstream.to_string()),
            policy: Set(to_json("an access policy", &new.policy)?),
            plain_header: Set(new.plain_header.clone()),
            audience: Set(new.audience.clone()),
            options: Set(to_json("a route's options", &new.options)?),
            created_at: Set(new.created_at.as_unix()),
            version: Set(1),
        };
        let inserted = route::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map_err(|error| StoreError::unique(error, "the site's path prefix"))?;
        self.touch_configuration().await
    }

    /// Changes a route; `edited.version` is the version that was read.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::Taken`].
    pub async fn update_route(&self, edited: &Route) -> Result<(), StoreError> {
        let update = route::Entity::update_many()
            .col_expr(route::Column::PathPrefix, Expr::value(edited.path_prefix.clone()))
            .col_expr(route::Column::Upstream, Expr::value(edited.upstream.to_string()))
            .col_expr(route::Column::Policy, Expr::value(to_json("an access policy", &edited.policy)?))
            .col_expr(route::Column::PlainHeader, Expr::value(edited.plain_header.clone()))
            .col_expr(route::Column::Audience, Expr::value(edited.audience.clone()))
            .col_expr(route::Column::Options, Expr::value(to_json("a route's options", &edited.options)?))
            .col_expr(route::Column::Version, Expr::col(route::Column::Version).add(1))
            .filter(route::Column::Id.eq(edited.id.to_string()))
            .filter(route::Column::Version.eq(signed(edited.version)));
        let result = update.exec(self.connection()).await;
        let changed =
            result.map_err(|error| StoreError::unique(error, "the site's path prefix"))?.rows_affected;
        self.one_row(changed, "the route").await
    }

    /// Removes a route.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub async fn delete_route(&self, id: RouteId, version: u64) -> Result<(), StoreError> {
        let delete = route::Entity::delete_many()
            .filter(route::Column::Id.eq(id.to_string()))
            .filter(route::Column::Version.eq(signed(version)));
        self.one_row(delete.exec(self.connection()).await?.rows_affected, "the route").await
    }

    pub(super) async fn one_row(&self, changed: u64, what: &'static str) -> Result<(), StoreError> {
        if changed != 1 {
            return Err(StoreError::Conflict { what });
        }
        self.touch_configuration().await
    }
}

pub(super) fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn read_server_certificate(row: server_certificate::Model) -> Result<ServerCertificate, StoreError> {
    let staple = read_staple(&row);
    Ok(ServerCertificate {
        host: parse("a server certificate's host", &row.host)?,
        source: named(
            "a server certificate's source",
            &row.source,
            CertificateSource::from_name(&row.source),
        )?,
        fingerprint: parse("a server certificate's fingerprint", &row.fingerprint)?,
        id: row.id,
        chain_pem: row.chain_pem,
        sealed_key: row.sealed_key,
        serial: row.serial,
        issuer: row.issuer,
        not_before: at(row.not_before),
        not_after: at(row.not_after),
        created_at: at(row.created_at),
        staple,
    })
}

fn read_route(row: route::Model) -> Result<Route, StoreError> {
    Ok(Route {
        id: parse("a route's id", &row.id)?,
        host: parse("a route's host", &row.host)?,
        upstream: parse("a route's upstream", &row.upstream)?,
        policy: json("a route's policy", &row.policy)?,
        path_prefix: row.path_prefix,
        plain_header: row.plain_header,
        audience: row.audience,
        options: json("a route's options", &row.options)?,
        created_at: at(row.created_at),
        version: u64::try_from(row.version).unwrap_or(0),
    })
}
