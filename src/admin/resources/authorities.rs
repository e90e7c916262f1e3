//! The authorities behind the certificates.

use poem_openapi::param::{Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::admin::body::Shown;
use crate::admin::error::{Outcome, Problem};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::domain::{self, Fingerprint, Slug};
use crate::pki::pem;
use crate::store::authorities as rows;

/// Operations on authorities.
pub struct Api(pub Services);

/// What an authority signs.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::AuthorityKind")]
enum AuthorityKind {
    /// Issuing authorities, and its own list.
    Root,
    /// Client certificates, and their list.
    Issuing,
    /// Bootstrap, fallback and admin server leaves; never in client trust.
    LocalServer,
}

/// Where in its life an authority stands.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::AuthorityState")]
enum AuthorityState {
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
struct Authority {
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
}

/// A page of authorities.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuthorityList {
    items: Vec<Authority>,
    next_cursor: Option<String>,
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
            items.extend(self.look(authority).await?);
        }
        Ok(Shown::new(AuthorityList { items, next_cursor }))
    }

    /// One authority
    #[oai(path = "/authorities/:name", method = "get", operation_id = "getAuthority")]
    async fn show(&self, name: Path<String>) -> Outcome<Shown<Authority>> {
        let missing = || Problem::not_found("authority");
        let name: Slug = name.0.parse().map_err(|_| missing())?;
        let authority = self.0.store().authority(&name).await?.ok_or_else(missing)?;
        Ok(Shown::new(self.look(authority).await?.ok_or_else(missing)?))
    }
}

impl Api {
    /// Nothing while its certificate is not signed.
    async fn look(&self, row: rows::Authority) -> Outcome<Option<Authority>> {
        let Some(der) = row.certificate else { return Ok(None) };
        let list = self.0.store().latest_crl_dates(&row.name).await?;
        Ok(Some(Authority {
            kind: row.kind.into(),
            state: row.state.into(),
            common_name: row.common_name,
            not_before: row.not_before.into(),
            not_after: row.not_after.into(),
            sha256: Fingerprint::of(&der).to_string(),
            pem: pem::block("CERTIFICATE", &der),
            crl_url: list.as_ref().map(|_| self.0.ca().crl_url(&row.name)),
            crl_number: list.as_ref().map(|list| list.number),
            crl_next_update: list.map(|list| list.next_update.into()),
            name: row.name.to_string(),
        }))
    }
}
