//! What anyone may know of the installation before signing in.

use poem_openapi::{Object, OpenApi};

use super::Tag;
use crate::admin::body::Shown;
use crate::admin::error::Outcome;
use crate::admin::services::Services;
use crate::store::settings::INSTALLATION_NAME;

/// Operations on the installation.
pub struct Api(pub Services);

/// The installation.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Installation {
    /// What it is called.
    name: String,
    /// Whether the first administrator is still to come.
    setup_required: bool,
    /// Where people enrol their devices.
    door_url: Option<String>,
    /// The version of the program.
    version: String,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Installation")]
impl Api {
    /// What anyone may know
    #[oai(path = "/installation", method = "get", operation_id = "getInstallation")]
    async fn show(&self) -> Outcome<Shown<Installation>> {
        let store = self.0.store();
        Ok(Shown::new(Installation {
            name: name(&self.0).await?,
            setup_required: !store.has_administrator().await?,
            door_url: self.0.settings().door_origin.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}

/// What the installation is called.
pub(super) async fn name(services: &Services) -> Outcome<String> {
    let stored = services.store().setting(INSTALLATION_NAME).await?;
    Ok(stored.unwrap_or_else(|| services.settings().name.clone()))
}
