//! The authorities behind the certificates.

use poem_openapi::param::{Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Created, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::{Enforced, When};
use crate::domain::{self, Fingerprint, Slug};
use crate::pki::pem;
use crate::store::authorities as rows;
use crate::store::internal_certificates::InternalCertificate;

/// Reading authorities, and making the next.
pub struct Api(pub Services);

/// What an authority signs.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::AuthorityKind")]
pub(super) enum AuthorityKind {
    /// Issuing authorities, and its own list.
    Root,
    /// Client certificates, and their list.
    Issuing,
    /// Bootstrap, fallback and admin server leaves; never in client trust.
    LocalServer,
    /// The client certificate that the edge shows to upstreams. Backends that ask for one trust this authority,
    /// and only it: its leaves are the edge's own, and no device's.
    Upstream,
}

/// Where in its life an authority stands.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::AuthorityState")]
pub(super) enum AuthorityState {
    /// Made, known to nobody.
    Staged,
    /// In client trust, signs nothing yet.
    Trusted,
    /// Signs.
    Issuing,
    /// Signs lists only; its leaves still pass.
    Retiring,
    /// Out of trust.
    Archived,
}

/// One generation of an authority.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct Authority {
    name: String,
    kind: AuthorityKind,
    state: AuthorityState,
    common_name: String,
    not_before: When,
    not_after: When,
    /// Of the DER encoding.
    sha256: String,
    pem: String,
    /// Where its revocation list is published.
    crl_url: Option<String>,
    /// The number of the newest list.
    crl_number: Option<u64>,
    /// When the next one is promised at the latest.
    crl_next_update: Option<When>,
    /// Who signed it; absent for what signed itself.
    issuer: Option<String>,
    /// Whether its private key is in this system; an offline root's is not.
    key_here: bool,
    /// Until when it gives what it signs a full term.
    issues_until: Option<When>,
    /// For roots: what it and other roots vouch for, for verifiers that trust only one of them.
    cross_certificates: Option<Vec<CrossCertificate>>,
    enforced: Option<Enforced>,
}

/// One root vouches for the key of another.
#[derive(Debug, Object)]
struct CrossCertificate {
    serial: String,
    /// The root that vouches.
    issuer: String,
    /// The root that is vouched for.
    subject: String,
    not_before: When,
    not_after: When,
    /// Of the DER encoding.
    sha256: String,
    pem: String,
}

/// A page of authorities.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuthorityList {
    items: Vec<Authority>,
    next_cursor: Option<String>,
}

/// The next generation.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewAuthority {
    /// `root` or `issuing`.
    kind: AuthorityKind,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Authorities")]
impl Api {
    /// Every authority
    #[oai(path = "/authorities", method = "get", operation_id = "listAuthorities")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<AuthorityList>> {
        let page = Page::<Slug>::read(&limit, &cursor)?;
        let mut all = self.0.ca().authorities().await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let fetched = page.slice(all, |authority| authority.name.clone());
        let (authorities, next_cursor) = page.cut(fetched, |authority| authority.name.to_string());
        let mut items = Vec::with_capacity(authorities.len());
        for authority in authorities {
            items.extend(look(&self.0, authority, None).await?);
        }
        Ok(Shown::new(AuthorityList { items, next_cursor }))
    }

    /// Makes the next generation of a root or issuing authority
    ///
    /// Nobody trusts it yet. An issuing authority stands under the root that issues.
    #[oai(path = "/authorities", method = "post", operation_id = "stageAuthority")]
    async fn stage(&self, call: Call, body: Body<NewAuthority>) -> Outcome<Created<Authority>> {
        let staged = self.0.ca().stage(body.0.kind.into(), call.act()?, call.now).await?;
        call.closed();
        let location = format!("/api/v1/authorities/{}", staged.name);
        let shown = look(&self.0, staged, None).await?.ok_or_else(|| Problem::not_found("authority"))?;
        Ok(Created::at(location, shown))
    }

    /// One authority
    #[oai(path = "/authorities/:name", method = "get", operation_id = "getAuthority")]
    async fn show(&self, name: Path<String>) -> Outcome<Shown<Authority>> {
        let missing = || Problem::not_found("authority");
        let name: Slug = name.0.parse().map_err(|_| missing())?;
        let authority = self.0.store().authority(&name).await?.ok_or_else(missing)?;
        Ok(Shown::new(look(&self.0, authority, None).await?.ok_or_else(missing)?))
    }
}

/// How an authority looks; nothing while its certificate is not signed.
pub(super) async fn look(
    services: &Services,
    row: rows::Authority,
    enforced: Option<Enforced>,
) -> Outcome<Option<Authority>> {
    let Some(der) = row.certificate else { return Ok(None) };
    let list = services.store().latest_crl_dates(&row.name).await?;
    let crosses = match row.kind {
        domain::AuthorityKind::Root => Some(services.ca().cross_certificates(&row.name).await?),
        _ => None,
    };
    let term = services.ca().full_term(row.kind).await?;
    Ok(Some(Authority {
        kind: row.kind.into(),
        state: row.state.into(),
        common_name: row.common_name,
        not_before: row.not_before.into(),
        not_after: row.not_after.into(),
        sha256: Fingerprint::of(&der).to_string(),
        pem: pem::block("CERTIFICATE", &der),
        crl_url: list.as_ref().map(|_| services.ca().crl_url(&row.name)),
        crl_number: list.as_ref().map(|list| list.number),
        crl_next_update: list.map(|list| list.next_update.into()),
        issuer: row.issuer.map(|issuer| issuer.to_string()),
        key_here: services.store().signing_key(&row.key_id).await?.is_here(),
        issues_until: term.map(|term| row.not_after.minus(term).into()),
        cross_certificates: crosses.map(|all| all.into_iter().map(cross).collect()),
        enforced,
        name: row.name.to_string(),
    }))
}

fn cross(row: InternalCertificate) -> CrossCertificate {
    CrossCertificate {
        serial: row.serial.to_string(),
        issuer: row.authority.to_string(),
        subject: row.subject.to_string(),
        not_before: row.not_before.into(),
        not_after: row.not_after.into(),
        sha256: row.fingerprint.to_string(),
        pem: pem::block("CERTIFICATE", &row.der),
    }
}
