//! Devices: what holds a private key.

use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::{Tag, check_version};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::page::{Page, filter};
use crate::admin::services::Services;
use crate::admin::values::{Enforced, Revocation, When};
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::{DeviceId, RevocationReason, UtcTime};
use crate::store::certificates::{Certificate, CertificateFilter};
use crate::store::people as rows;

/// Certificates of one device that are looked at to tell its state. A device renewed every two months
/// for thirty years has fewer.
const CERTIFICATES_OF_ONE: u64 = 200;

/// Operations on devices.
pub struct Api(pub Services);

/// Where a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum DeviceState {
    /// It has a certificate that passes.
    Active,
    /// Its last certificate is on hold: an administrator can release it.
    Held,
    /// Its last certificate was revoked.
    Revoked,
    /// Its last certificate has expired.
    Expired,
    /// It never had one.
    Empty,
}

/// What holds a private key.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Device {
    id: String,
    person_id: String,
    name: String,
    state: DeviceState,
    /// The certificate that lasts longest, of those that pass.
    current_serial: Option<String>,
    /// When that one ends.
    not_after: Option<When>,
    created_at: When,
    /// Counts edits: the ETag.
    version: u64,
    enforced: Option<Enforced>,
}

/// A page of devices.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct DeviceList {
    items: Vec<Device>,
    next_cursor: Option<String>,
}

/// What changes about a device.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct DeviceEdit {
    #[oai(validator(max_length = 64))]
    name: String,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Devices")]
impl Api {
    /// Devices: your own, or everyone's for an administrator
    #[oai(path = "/devices", method = "get", operation_id = "listDevices")]
    async fn list(
        &self,
        call: Call,
        person: Query<Option<String>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<DeviceList>> {
        let person = call.caller()?.narrow(filter("person", &person)?)?;
        let page = Page::<DeviceId>::read(&limit, &cursor)?;
        let fetched = self.0.store().devices(person, page.after, page.fetch()).await?;
        let (devices, next_cursor) = page.cut(fetched, |device| device.id.to_string());
        let mut items = Vec::with_capacity(devices.len());
        for device in devices {
            items.push(self.look(device, call.now).await?);
        }
        Ok(Shown::new(DeviceList { items, next_cursor }))
    }

    /// One device
    #[oai(path = "/devices/:id", method = "get", operation_id = "getDevice")]
    async fn show(&self, call: Call, id: Path<String>) -> Outcome<Shown<Device>> {
        let device = self.reach(&call, &id).await?;
        self.answer(device, call.now, None).await
    }

    /// Renames a device
    #[oai(path = "/devices/:id", method = "patch", operation_id = "editDevice")]
    async fn edit(
        &self,
        call: Call,
        id: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        body: Body<DeviceEdit>,
    ) -> Outcome<Shown<Device>> {
        let device = self.reach(&call, &id).await?;
        check_version(&if_match, device.version, "the device")?;
        let mut faults = Faults::default();
        let name = faults.take("/name", fields::name(&body.0.name));
        let name = faults.unless(name)?;
        let edited = rows::Device { name, ..device };
        let transaction = self.0.store().begin().await?;
        transaction.update_device(&edited).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        let stored = rows::Device { version: edited.version + 1, ..edited };
        self.answer(stored, call.now, None).await
    }

    /// Revokes every certificate of a device
    #[oai(path = "/devices/:id/revocation", method = "post", operation_id = "revokeDevice")]
    async fn revoke(&self, call: Call, id: Path<String>, body: Body<Revocation>) -> Outcome<Shown<Device>> {
        let device = self.reach(&call, &id).await?;
        let reason = body.0.reason.into();
        let enforced = self.0.ca().revoke_device(device.id, reason, call.act()?, call.now).await?;
        call.closed();
        self.answer(device, call.now, Some(enforced.into())).await
    }
}

impl Api {
    async fn reach(&self, call: &Call, id: &Path<String>) -> Outcome<rows::Device> {
        let id: DeviceId = id.0.parse().map_err(|_| Problem::not_found("device"))?;
        let device = self.0.store().device(id).await?.ok_or_else(|| Problem::not_found("device"))?;
        call.caller()?.reach(device.person, "device")?;
        Ok(device)
    }

    async fn answer(
        &self,
        device: rows::Device,
        now: UtcTime,
        enforced: Option<Enforced>,
    ) -> Outcome<Shown<Device>> {
        let version = device.version;
        let shown = Device { enforced, ..self.look(device, now).await? };
        Ok(Shown::new(shown).version(version))
    }

    async fn look(&self, device: rows::Device, now: UtcTime) -> Outcome<Device> {
        let of_device = CertificateFilter { device: Some(device.id), ..CertificateFilter::default() };
        let all = self.0.store().certificates(&of_device, CERTIFICATES_OF_ONE, now).await?;
        let passes = |one: &&Certificate| one.revoked.is_none() && one.not_after >= now;
        let current = all.iter().filter(passes).max_by_key(|one| one.not_after);
        let newest = all.iter().max_by_key(|one| one.issued_at);
        let state = match (current, newest) {
            (Some(_), _) => DeviceState::Active,
            (None, None) => DeviceState::Empty,
            (None, Some(newest)) => match newest.revoked {
                // What is past its end is no longer held from anything.
                Some((_, RevocationReason::CertificateHold)) if newest.not_after >= now => DeviceState::Held,
                Some(_) => DeviceState::Revoked,
                None => DeviceState::Expired,
            },
        };
        Ok(Device {
            id: device.id.to_string(),
            person_id: device.person.to_string(),
            name: device.name,
            state,
            current_serial: current.map(|one| one.serial.to_string()),
            not_after: current.or(newest).map(|one| one.not_after.into()),
            created_at: device.created_at.into(),
            version: device.version,
            enforced: None,
        })
    }
}
