//! What client certificates may be, and who gets them: versioned, explained, rehearsed.

use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::{Tag, check_version};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Created, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::ca::{DeviceChoice, IssueRequest};
use crate::domain::{DeviceId, PersonId, Slug};
use crate::pki::profile::{self, NameRules, RenewalRules, Rules, refusal};
use crate::pki::{self, KeyPolicy};

/// Versions that a listing shows.
const MOST_VERSIONS: u64 = 200;
/// Requests that a rehearsal's answer lists.
const MOST_CHANGED: usize = 200;

/// Operations on profiles.
pub struct Api(pub Services);

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum KeyType {
    /// ECDSA on NIST P-256.
    #[oai(rename = "P-256")]
    P256,
    /// ECDSA on NIST P-384.
    #[oai(rename = "P-384")]
    P384,
    /// EdDSA on Curve25519. Few devices and browsers can present it.
    Ed25519,
    /// RSA, from `rsa_min_bits` on.
    #[oai(rename = "RSA")]
    Rsa,
}

/// What stands in the common name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "profile::CommonName")]
enum CommonName {
    /// The person's display name.
    PersonName,
    /// The device's name.
    DeviceName,
    /// The person's id.
    PersonId,
}

/// Who may ask for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "profile::Requesters")]
enum Requesters {
    /// The person themselves, and administrators.
    OwnerOrAdministrator,
    /// Administrators, for somebody else.
    Administrator,
    /// The person themselves only.
    Owner,
}

/// What happens when a certificate would outlive its issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "profile::Outliving")]
enum Outliving {
    /// It is refused.
    Refuse,
    /// It ends with its issuer, and the answer says so.
    Cap,
}

/// A named, versioned set of rules for client certificates.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Profile {
    name: String,
    /// Counts edits: the ETag.
    version: u64,
    lifetime_seconds: u64,
    /// The lifetime in whole days, for people.
    lifetime_days: u64,
    /// How far the start of validity lies before the issuance.
    back_date_seconds: u64,
    /// The kinds of key that are taken.
    key_types: Vec<KeyType>,
    rsa_min_bits: Option<u32>,
    common_name: CommonName,
    /// Whether the person's address is in the certificate.
    email: bool,
    /// Whether `urn:uuid:<person id>` is in the certificate.
    person_uri: bool,
    /// Whether `urn:uuid:<device id>` is in the certificate.
    device_uri: bool,
    /// Below which names an administrator may give DNS names.
    dns_suffixes: Vec<String>,
    requesters: Requesters,
    /// For members of which groups; for everyone when empty.
    groups: Vec<String>,
    devices_per_person: Option<u32>,
    /// How long after a renewal the predecessor is revoked as superseded; it lives to its end when absent.
    overlap_seconds: Option<u64>,
    /// Whether a renewal needs a new key.
    renewal_needs_new_key: bool,
    outliving: Outliving,
}

/// A page of profiles.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct ProfileList {
    items: Vec<Profile>,
    next_cursor: Option<String>,
}

/// What changes about a profile's rules. What is absent stays as it is, or as the first profile has it.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields)]
struct RulesEdit {
    lifetime_seconds: Option<u64>,
    back_date_seconds: Option<u64>,
    #[oai(validator(min_items = 1, max_items = 4))]
    key_types: Option<Vec<KeyType>>,
    rsa_min_bits: Option<u32>,
    common_name: Option<CommonName>,
    email: Option<bool>,
    person_uri: Option<bool>,
    device_uri: Option<bool>,
    #[oai(validator(max_items = 64))]
    dns_suffixes: Option<Vec<String>>,
    requesters: Option<Requesters>,
    #[oai(validator(max_items = 64))]
    groups: Option<Vec<String>>,
    /// 0 sets no limit.
    devices_per_person: Option<u32>,
    /// Absent leaves it; with `keep_predecessor` it lives to its end.
    overlap_seconds: Option<u64>,
    /// Whether predecessors live to their end.
    keep_predecessor: Option<bool>,
    renewal_needs_new_key: Option<bool>,
    outliving: Option<Outliving>,
}

/// A new profile.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewProfile {
    #[oai(validator(max_length = 63))]
    name: String,
    /// What differs from the profile `device` as it is made first.
    rules: Option<RulesEdit>,
}

/// A profile as it once was.
#[derive(Debug, Object)]
struct ProfileVersion {
    version: u64,
    at: When,
    /// Who made it: `person:<id>`, `token:<id>`, `host:<uid>` or `system:<name>`.
    actor: String,
    profile: Profile,
}

/// The versions of a profile, newest first.
#[derive(Debug, Object)]
struct ProfileVersionList {
    items: Vec<ProfileVersion>,
}

/// A request that is explained instead of made.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct Question {
    #[oai(validator(max_length = 36))]
    person_id: String,
    #[oai(validator(max_length = 36))]
    device_id: Option<String>,
    /// A PKCS#10 signing request, PEM.
    #[oai(validator(max_length = 24576))]
    csr: String,
    #[oai(validator(max_items = 64))]
    dns_names: Option<Vec<String>>,
}

/// What one rule says.
#[derive(Debug, Object)]
struct Ruling {
    /// The rule's stable name.
    rule: String,
    admits: bool,
    /// Why, for people.
    because: String,
}

/// What every rule says.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Explanation {
    profile_version: u64,
    admits: bool,
    /// The first rule that refuses.
    refused_by: Option<String>,
    rulings: Vec<Ruling>,
}

/// A request that a draft would have answered otherwise.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct ChangedRequest {
    at: When,
    person_id: String,
    /// The rule that refused it; absent if it was granted.
    was_refused_by: Option<String>,
    /// The draft's rule that refuses it; absent if it would be granted.
    would_be_refused_by: Option<String>,
    /// Why, for people.
    because: Option<String>,
}

/// What a draft would have said to the requests of the last thirty days.
#[derive(Debug, Object)]
struct Rehearsal {
    /// How many requests it was tried on.
    requests: u64,
    /// Whether there were more; the newest were tried.
    is_cut: bool,
    would_be_refused: u64,
    would_be_granted: u64,
    /// The newest of those that would have ended otherwise.
    changed: Vec<ChangedRequest>,
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
        let fetched = page.slice(self.0.ca().profiles().await?, |profile| profile.name.clone());
        let (profiles, next_cursor) = page.cut(fetched, |profile| profile.name.to_string());
        Ok(Shown::new(ProfileList { items: profiles.iter().map(look).collect(), next_cursor }))
    }

    /// Adds a profile
    #[oai(path = "/profiles", method = "post", operation_id = "addProfile")]
    async fn add(&self, call: Call, body: Body<NewProfile>) -> Outcome<Created<Profile>> {
        let Body(body) = body;
        let mut faults = Faults::default();
        let name = faults.take("/name", body.name.parse::<Slug>());
        let rules = body.rules.unwrap_or_default().onto(Rules::device(), "/rules", &mut faults);
        let name = faults.unless(name)?;
        let profile = self.0.ca().create_profile(name, rules, call.act()?, call.now).await?;
        call.closed();
        let location = format!("/api/v1/profiles/{}", profile.name);
        Ok(Created::at(location, look(&profile)).version(profile.version))
    }

    /// One profile
    #[oai(path = "/profiles/:name", method = "get", operation_id = "getProfile")]
    async fn show(&self, name: Path<String>) -> Outcome<Shown<Profile>> {
        let profile = self.find(&name).await?;
        Ok(Shown::new(look(&profile)).version(profile.version))
    }

    /// Gives a profile its next version
    ///
    /// Certificates that were issued stay as they are; renewals run the new rules.
    #[oai(path = "/profiles/:name", method = "patch", operation_id = "editProfile")]
    async fn edit(
        &self,
        call: Call,
        name: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        body: Body<RulesEdit>,
    ) -> Outcome<Shown<Profile>> {
        let profile = self.find(&name).await?;
        check_version(&if_match, profile.version, "the profile")?;
        let rules = draft(body.0, &profile)?;
        let edited = self.0.ca().edit_profile(&profile, rules, call.act()?, call.now).await?;
        call.closed();
        Ok(Shown::new(look(&edited)).version(edited.version))
    }

    /// What a profile was, newest version first
    #[oai(path = "/profiles/:name/versions", method = "get", operation_id = "listProfileVersions")]
    async fn versions(&self, name: Path<String>) -> Outcome<Shown<ProfileVersionList>> {
        let profile = self.find(&name).await?;
        let versions = self.0.ca().profile_versions(&profile.name, MOST_VERSIONS).await?;
        let items = versions
            .into_iter()
            .map(|row| {
                let profile =
                    pki::Profile { name: profile.name.clone(), version: row.version, rules: row.rules };
                ProfileVersion {
                    version: row.version,
                    at: row.at.into(),
                    actor: row.actor,
                    profile: look(&profile),
                }
            })
            .collect();
        Ok(Shown::new(ProfileVersionList { items }))
    }

    /// Says which rule would refuse a request, without making it
    #[oai(path = "/profiles/:name/explanation", method = "post", operation_id = "explainProfile")]
    async fn explain(
        &self,
        call: Call,
        name: Path<String>,
        body: Body<Question>,
    ) -> Outcome<Shown<Explanation>> {
        let Body(body) = body;
        let profile = self.find(&name).await?.name;
        let mut faults = Faults::default();
        let person = faults.take("/person_id", body.person_id.parse::<PersonId>());
        let device = faults.take_if("/device_id", body.device_id.as_deref().map(str::parse::<DeviceId>));
        let dns_names =
            fields::parsed(body.dns_names.as_deref().unwrap_or_default(), "/dns_names", &mut faults);
        let person = faults.unless(person)?;
        let device =
            device.map_or_else(|| DeviceChoice::New { name: "a device".to_owned() }, DeviceChoice::Existing);
        let wanted = IssueRequest { person, device, profile, csr_pem: body.csr, dns_names };
        let explained = self.0.ca().explain(&wanted, &call.caller()?.actor(), call.now).await?;
        let rulings = explained.rulings.iter().map(|ruling| Ruling {
            rule: ruling.rule.name().to_owned(),
            admits: ruling.admits,
            because: ruling.because.clone(),
        });
        let rulings = rulings.collect();
        let refused = refusal(explained.rulings);
        Ok(Shown::new(Explanation {
            profile_version: explained.profile_version,
            admits: refused.is_none(),
            refused_by: refused.map(|ruling| ruling.rule.name().to_owned()),
            rulings,
        }))
    }

    /// Says which of the last thirty days' requests would end otherwise under changed rules
    #[oai(path = "/profiles/:name/rehearsal", method = "post", operation_id = "rehearseProfile")]
    async fn rehearse(
        &self,
        call: Call,
        name: Path<String>,
        body: Body<RulesEdit>,
    ) -> Outcome<Shown<Rehearsal>> {
        let profile = self.find(&name).await?;
        let rules = draft(body.0, &profile)?;
        let rehearsal = self.0.ca().rehearse(&profile.name, rules, call.now).await?;
        let refused = rehearsal.changed.iter().filter(|one| one.would_be_refused_by.is_some()).count() as u64;
        let changed = rehearsal.changed.iter().take(MOST_CHANGED).map(|one| ChangedRequest {
            at: one.at.into(),
            person_id: one.person.to_string(),
            was_refused_by: one.was_refused_by.map(|rule| rule.name().to_owned()),
            would_be_refused_by: one.would_be_refused_by.as_ref().map(|ruling| ruling.rule.name().to_owned()),
            because: one.would_be_refused_by.as_ref().map(|ruling| ruling.because.clone()),
        });
        Ok(Shown::new(Rehearsal {
            requests: rehearsal.requests,
            is_cut: rehearsal.is_cut,
            would_be_refused: refused,
            would_be_granted: rehearsal.changed.len() as u64 - refused,
            changed: changed.collect(),
        }))
    }
}

impl Api {
    async fn find(&self, name: &Path<String>) -> Outcome<pki::Profile> {
        let missing = || Problem::not_found("profile");
        let name: Slug = name.0.parse().map_err(|_| missing())?;
        self.0.ca().profile(&name).await?.ok_or_else(missing)
    }
}

/// The profile's rules with the edit on them.
fn draft(edit: RulesEdit, profile: &pki::Profile) -> Outcome<Rules> {
    let mut faults = Faults::default();
    let rules = edit.onto(profile.rules.clone(), "", &mut faults);
    faults.none()?;
    Ok(rules)
}

impl RulesEdit {
    /// These changes on `rules`; faults are noted below `pointer`. Bounds are the authority's to check.
    fn onto(self, mut rules: Rules, pointer: &str, faults: &mut Faults) -> Rules {
        set(&mut rules.lifetime_seconds, self.lifetime_seconds);
        set(&mut rules.back_date_seconds, self.back_date_seconds);
        let rsa_min_bits = self.rsa_min_bits.or(rules.keys.rsa_min_bits);
        if let Some(types) = &self.key_types {
            let floor = rsa_min_bits.or(KeyPolicy::default().rsa_min_bits);
            rules.keys = KeyPolicy {
                p256: types.contains(&KeyType::P256),
                p384: types.contains(&KeyType::P384),
                ed25519: types.contains(&KeyType::Ed25519),
                rsa_min_bits: floor.filter(|_| types.contains(&KeyType::Rsa)),
            };
        } else if rules.keys.rsa_min_bits.is_some() {
            rules.keys.rsa_min_bits = rsa_min_bits;
        } else if self.rsa_min_bits.is_some() {
            let detail = "The profile takes no RSA keys: name RSA in key_types too.";
            faults.add(&format!("{pointer}/rsa_min_bits"), "not_allowed", detail);
        }
        self.names_onto(&mut rules.names, pointer, faults);
        set(&mut rules.requesters, self.requesters.map(Into::into));
        if let Some(groups) = &self.groups {
            rules.groups = fields::groups(groups, &format!("{pointer}/groups"), faults);
        }
        if let Some(most) = self.devices_per_person {
            rules.devices_per_person = Some(most).filter(|most| *most > 0);
        }
        let RenewalRules { overlap_seconds, new_key } = &mut rules.renewal;
        match (self.keep_predecessor, self.overlap_seconds) {
            (Some(true), Some(_)) => {
                let detail = "Give overlap_seconds or keep_predecessor, not both.";
                faults.add(&format!("{pointer}/overlap_seconds"), "not_allowed", detail);
            }
            (Some(true), None) => *overlap_seconds = None,
            (_, Some(seconds)) => *overlap_seconds = Some(seconds),
            (Some(false), None) => {
                *overlap_seconds = overlap_seconds.or(Rules::device().renewal.overlap_seconds);
            }
            (None, None) => {}
        }
        set(new_key, self.renewal_needs_new_key);
        set(&mut rules.outliving, self.outliving.map(Into::into));
        rules
    }

    fn names_onto(&self, names: &mut NameRules, pointer: &str, faults: &mut Faults) {
        set(&mut names.common_name, self.common_name.map(Into::into));
        set(&mut names.email, self.email);
        set(&mut names.person_uri, self.person_uri);
        set(&mut names.device_uri, self.device_uri);
        if let Some(suffixes) = &self.dns_suffixes {
            names.dns_suffixes = fields::parsed(suffixes, &format!("{pointer}/dns_suffixes"), faults);
        }
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn look(profile: &pki::Profile) -> Profile {
    let Rules { lifetime_seconds, back_date_seconds, keys, names, requesters, groups, .. } = &profile.rules;
    let named = [
        (keys.p256, KeyType::P256),
        (keys.p384, KeyType::P384),
        (keys.ed25519, KeyType::Ed25519),
        (keys.rsa_min_bits.is_some(), KeyType::Rsa),
    ];
    Profile {
        name: profile.name.to_string(),
        version: profile.version,
        lifetime_seconds: *lifetime_seconds,
        lifetime_days: lifetime_seconds / 86_400,
        back_date_seconds: *back_date_seconds,
        key_types: named.into_iter().filter(|(taken, _)| *taken).map(|(_, kind)| kind).collect(),
        rsa_min_bits: keys.rsa_min_bits,
        common_name: names.common_name.into(),
        email: names.email,
        person_uri: names.person_uri,
        device_uri: names.device_uri,
        dns_suffixes: names.dns_suffixes.iter().map(ToString::to_string).collect(),
        requesters: (*requesters).into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        devices_per_person: profile.rules.devices_per_person,
        overlap_seconds: profile.rules.renewal.overlap_seconds,
        renewal_needs_new_key: profile.rules.renewal.new_key,
        outliving: profile.rules.outliving.into(),
    }
}
