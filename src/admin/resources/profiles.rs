//! What client certificates may be.

use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use crate::admin::body::Shown;
use crate::admin::error::{Outcome, Problem};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::domain::Slug;
use crate::pki;

/// Operations on profiles.
pub struct Api(pub Services);

/// A named set of rules for client certificates.
#[derive(Debug, Object)]
struct Profile {
    name: String,
    lifetime_days: u64,
    /// How far the start of validity lies before the issuance.
    back_date_seconds: u64,
    /// The kinds of key that are taken.
    key_types: Vec<String>,
}

/// A page of profiles.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct ProfileList {
    items: Vec<Profile>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Profiles")]
impl Api {
    /// Every profile
    #[oai(path = "/profiles", method = "get", operation_id = "listProfiles")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<ProfileList>> {
        let page = Page::<Slug>::read(&limit, &cursor)?;
        let mut all = self.0.ca().profiles().to_vec();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let fetched = page.slice(all, |profile| profile.name.clone());
        let (profiles, next_cursor) = page.cut(fetched, |profile| profile.name.to_string());
        Ok(Shown::new(ProfileList { items: profiles.iter().map(look).collect(), next_cursor }))
    }

    /// One profile
    #[oai(path = "/profiles/:name", method = "get", operation_id = "getProfile")]
    async fn show(&self, name: Path<String>) -> Outcome<Shown<Profile>> {
        let missing = || Problem::not_found("profile");
        let name: Slug = name.0.parse().map_err(|_| missing())?;
        Ok(Shown::new(look(self.0.ca().profile(&name).ok_or_else(missing)?)))
    }
}

fn look(profile: &pki::Profile) -> Profile {
    let keys = &profile.keys;
    let named = [(keys.p256, "P-256"), (keys.p384, "P-384"), (keys.ed25519, "Ed25519")];
    let mut key_types: Vec<String> =
        named.iter().filter(|(taken, _)| *taken).map(|(_, name)| (*name).to_owned()).collect();
    key_types.extend(keys.rsa_min_bits.map(|bits| format!("RSA {bits}+")));
    Profile {
        name: profile.name.to_string(),
        lifetime_days: profile.lifetime.as_secs() / 86_400,
        back_date_seconds: profile.back_date.as_secs(),
        key_types,
    }
}
