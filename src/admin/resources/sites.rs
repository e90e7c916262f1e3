//! Public host names and their server certificates.

use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::{Tag, check_version, check_version_if_given};
use crate::acme::status::renewal_status;
use crate::admin::auth::caller::Call;
use crate::admin::body::{Accepted, Body, Created, NoContent, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::Faults;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::{ClientAuth, Enforced, When};
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::{self, AccessPolicy, Hostname, UtcTime};
use crate::store::configuration as rows;

/// Why it is not edited here.
pub(super) const IS_DOOR: &str = "The door is set in the configuration file.";
/// The job that renews public server certificates.
const RENEW: &str = "renew_server_certificates";

/// Operations on sites.
pub struct Api(pub Services);

/// What a site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "rows::SiteKind")]
pub(super) enum SiteKind {
    /// An app behind routes.
    App,
    /// Portal and invitations.
    Door,
    /// Connections go to an upstream as they are: it has the certificate, and decides who may come in.
    Passthrough,
}

/// Where a server certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "rows::CertificateSource")]
pub(super) enum CertificateSource {
    /// An ACME authority.
    Acme,
    /// The local server authority.
    Local,
}

/// The certificate that a site serves.
#[derive(Debug, Object)]
struct SiteCertificate {
    source: CertificateSource,
    issuer: String,
    serial: String,
    not_before: When,
    not_after: When,
    /// Of the DER encoding.
    sha256: String,
}

/// Where the renewal of its certificate stands.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct SiteRenewal {
    state: String,
    next_attempt_at: Option<When>,
    last_error: Option<String>,
}

/// One public host name.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Site {
    host: String,
    kind: SiteKind,
    /// Where connections are passed through to.
    upstream: Option<String>,
    client_auth: ClientAuth,
    /// `Strict-Transport-Security: max-age`; 0 sends none.
    hsts_max_age_seconds: u64,
    /// Where its certificates are to come from.
    certificate_source: CertificateSource,
    enabled: bool,
    certificate: Option<SiteCertificate>,
    renewal: Option<SiteRenewal>,
    /// Counts edits: the ETag.
    version: u64,
    enforced: Option<Enforced>,
}

/// A page of sites.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct SiteList {
    items: Vec<Site>,
    next_cursor: Option<String>,
}

/// A new site.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewSite {
    #[oai(validator(max_length = 253))]
    host: String,
    /// `app` unless it is given. A site that is passed through has `client_auth` none, `certificate` local and no HSTS.
    kind: Option<SiteKind>,
    /// Where connections are passed through to, for that kind of site only.
    #[oai(validator(max_length = 63))]
    upstream: Option<String>,
    client_auth: ClientAuth,
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")))]
    hsts_max_age_seconds: u64,
    certificate: CertificateSource,
    enabled: bool,
}

/// What changes about a site.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct SiteEdit {
    /// For a site that is passed through only.
    #[oai(validator(max_length = 63))]
    upstream: Option<String>,
    client_auth: Option<ClientAuth>,
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")))]
    hsts_max_age_seconds: Option<u64>,
    certificate: Option<CertificateSource>,
    enabled: Option<bool>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Sites")]
impl Api {
    /// Every site
    #[oai(path = "/sites", method = "get", operation_id = "listSites")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<SiteList>> {
        let page = Page::<Hostname>::read(&limit, &cursor)?;
        let fetched = page.slice(self.0.store().sites().await?, |site| site.host.clone());
        let (sites, next_cursor) = page.cut(fetched, |site| site.host.to_string());
        let mut items = Vec::with_capacity(sites.len());
        for site in sites {
            items.push(self.look(site, None).await?);
        }
        Ok(Shown::new(SiteList { items, next_cursor }))
    }

    /// Adds a site
    ///
    /// It serves a leaf of the local server authority until its first public certificate arrives, unless its
    /// connections are passed through.
    #[oai(path = "/sites", method = "post", operation_id = "addSite")]
    async fn add(&self, call: Call, body: Body<NewSite>) -> Outcome<Created<Site>> {
        let Body(body) = body;
        let mut faults = Faults::default();
        let host = faults.take("/host", Hostname::normalize(&body.host));
        let upstream = faults.take_if("/upstream", body.upstream.as_deref().map(str::parse::<domain::Slug>));
        if body.kind == Some(SiteKind::Door) {
            faults.add("/kind", "not_allowed", IS_DOOR);
        }
        let host = faults.unless(host)?;
        let mut site = rows::Site {
            host: host.clone(),
            kind: body.kind.map_or(rows::SiteKind::App, Into::into),
            upstream,
            client_auth: body.client_auth.into(),
            hsts_max_age_seconds: body.hsts_max_age_seconds,
            source: body.certificate.into(),
            enabled: body.enabled,
            server_certificate: None,
            created_at: call.now,
            version: 1,
        };
        self.check(&site).await?;
        if site.kind == rows::SiteKind::App {
            site.server_certificate = Some(self.0.ca().local_certificate(&host, call.now).await?);
        }
        let transaction = self.0.store().begin().await?;
        if let Some(certificate) = &site.server_certificate {
            transaction.insert_server_certificate(certificate).await?;
        }
        transaction.insert_site(&site).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(host.as_str()), call.now).await?;
        transaction.commit().await?;
        call.closed();
        let enforced = self.0.enforce().bring_up_to_date().await;
        if site.source == rows::CertificateSource::Acme {
            self.ask_for_renewal(&host, call.now).await?;
        }
        let shown = self.look(site, Some(enforced.into())).await?;
        Ok(Created::at(format!("/api/v1/sites/{host}"), shown).version(1))
    }

    /// One site
    #[oai(path = "/sites/:host", method = "get", operation_id = "getSite")]
    async fn show(&self, host: Path<String>) -> Outcome<Shown<Site>> {
        let site = self.find(&host).await?;
        let version = site.version;
        Ok(Shown::new(self.look(site, None).await?).version(version))
    }

    /// Changes a site
    #[oai(path = "/sites/:host", method = "patch", operation_id = "editSite")]
    async fn edit(
        &self,
        call: Call,
        host: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        body: Body<SiteEdit>,
    ) -> Outcome<Shown<Site>> {
        let site = self.find(&host).await?;
        check_version(&if_match, site.version, "the site")?;
        let Body(body) = body;
        let mut faults = Faults::default();
        let upstream = faults.take_if("/upstream", body.upstream.as_deref().map(str::parse::<domain::Slug>));
        faults.none()?;
        let edited = rows::Site {
            upstream: upstream.or_else(|| site.upstream.clone()),
            client_auth: body.client_auth.map_or(site.client_auth, Into::into),
            hsts_max_age_seconds: body.hsts_max_age_seconds.unwrap_or(site.hsts_max_age_seconds),
            source: body.certificate.map_or(site.source, Into::into),
            enabled: body.enabled.unwrap_or(site.enabled),
            ..site.clone()
        };
        if edited.kind == rows::SiteKind::Door && edited.client_auth == domain::ClientAuth::Require {
            let detail = "At the door people without a certificate get one: it may ask, but not insist.";
            return Err(Problem::field("/client_auth", "door_must_open", detail));
        }
        self.check(&edited).await?;
        if edited.client_auth == domain::ClientAuth::None {
            self.refuse_unless_public(&site.host).await?;
        }
        let transaction = self.0.store().begin().await?;
        transaction.update_site(&edited).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        let enforced = self.0.enforce().bring_up_to_date().await;
        if edited.source == rows::CertificateSource::Acme && site.source != edited.source {
            self.ask_for_renewal(&edited.host, call.now).await?;
        }
        let stored = self.find(&host).await?;
        let version = stored.version;
        Ok(Shown::new(self.look(stored, Some(enforced.into())).await?).version(version))
    }

    /// Removes a site and its routes
    #[oai(path = "/sites/:host", method = "delete", operation_id = "deleteSite")]
    async fn delete(
        &self,
        call: Call,
        host: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
    ) -> Outcome<NoContent> {
        let site = self.find(&host).await?;
        check_version_if_given(&if_match, site.version, "the site")?;
        if site.kind == rows::SiteKind::Door {
            return Err(Problem::conflict("site_is_door", IS_DOOR));
        }
        let transaction = self.0.store().begin().await?;
        transaction.delete_site(&site.host, site.version).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        self.0.enforce().bring_up_to_date().await;
        Ok(NoContent::new())
    }

    /// Asks for a new server certificate now
    #[oai(path = "/sites/:host/renewal", method = "post", operation_id = "renewSite")]
    async fn renew(&self, call: Call, host: Path<String>) -> Outcome<Accepted> {
        let site = self.find(&host).await?;
        if site.source == rows::CertificateSource::Local {
            let detail =
                "This site's certificates come from the local server authority, which renews them by itself.";
            return Err(Problem::conflict("not_acme", detail));
        }
        self.ask_for_renewal(&site.host, call.now).await?;
        Ok(Accepted::new())
    }
}

impl Api {
    async fn find(&self, host: &Path<String>) -> Outcome<rows::Site> {
        let missing = || Problem::not_found("site");
        let host = Hostname::normalize(&host.0).map_err(|_| missing())?;
        self.0.store().site(&host).await?.ok_or_else(missing)
    }

    /// What an edge would refuse to build is refused here, with the field that is wrong.
    async fn check(&self, site: &rows::Site) -> Outcome<()> {
        let mut faults = Faults::default();
        check_kind(site, "", &mut faults);
        if let Some(upstream) = &site.upstream
            && self.0.store().upstream(upstream).await?.is_none()
        {
            faults.add("/upstream", "unknown", "There is no such upstream.");
        }
        faults.none()
    }

    /// A protected route on a site that never asks for a certificate would refuse everyone.
    async fn refuse_unless_public(&self, host: &Hostname) -> Outcome<()> {
        let routes = self.0.store().routes().await?;
        match routes.iter().find(|route| route.host == *host && route.policy != AccessPolicy::Public) {
            None => Ok(()),
            Some(route) => Err(Problem::field(
                "/client_auth",
                "routes_need_certificates",
                format!("Route {} needs a client certificate; the site must ask for one.", route.path_prefix),
            )),
        }
    }

    /// A note in the rows and a wake-up: the job decides, and a wake-up that gets lost changes nothing.
    async fn ask_for_renewal(&self, host: &Hostname, now: UtcTime) -> Outcome<()> {
        self.0.store().request_renewal(host, now).await?;
        self.0.jobs().wake(RENEW);
        Ok(())
    }

    async fn look(&self, row: rows::Site, enforced: Option<Enforced>) -> Outcome<Site> {
        let renewal = match row.kind {
            rows::SiteKind::Passthrough => None,
            rows::SiteKind::App | rows::SiteKind::Door => {
                Some(renewal_status(self.0.store(), &row, self.0.now()).await?)
            }
        };
        Ok(Site {
            host: row.host.to_string(),
            kind: row.kind.into(),
            upstream: row.upstream.map(|name| name.to_string()),
            client_auth: row.client_auth.into(),
            hsts_max_age_seconds: row.hsts_max_age_seconds,
            certificate_source: row.source.into(),
            enabled: row.enabled,
            certificate: row.server_certificate.map(|certificate| SiteCertificate {
                source: certificate.source.into(),
                issuer: certificate.issuer,
                serial: certificate.serial,
                not_before: certificate.not_before.into(),
                not_after: certificate.not_after.into(),
                sha256: certificate.fingerprint.to_string(),
            }),
            renewal: renewal.map(|renewal| SiteRenewal {
                state: renewal.state.name().to_owned(),
                next_attempt_at: renewal.next_attempt_at.map(When),
                last_error: renewal.last_error,
            }),
            version: row.version,
            enforced,
        })
    }
}

/// Whether a site has what its kind needs, and nothing that only another one can have; `at` points to it.
pub(super) fn check_kind(site: &rows::Site, at: &str, faults: &mut Faults) {
    let mut refuse = |field: &str, detail: &str| faults.add(&format!("{at}/{field}"), "not_allowed", detail);
    if site.kind != rows::SiteKind::Passthrough {
        if site.upstream.is_some() {
            refuse(
                "upstream",
                "Only a site that is passed through leads to an upstream; others have routes.",
            );
        }
        return;
    }
    if site.client_auth != domain::ClientAuth::None {
        refuse("client_auth", "Connections that are passed through are not asked for certificates: none.");
    }
    if site.hsts_max_age_seconds > 0 {
        refuse("hsts_max_age_seconds", "Nothing can be added to what is passed through: 0.");
    }
    if site.source != rows::CertificateSource::Local {
        refuse("certificate", "The target has the certificate, so none is ordered: local.");
    }
    if site.upstream.is_none() {
        faults.add(
            &format!("{at}/upstream"),
            "required",
            "Must say where connections are passed through to.",
        );
    }
}
