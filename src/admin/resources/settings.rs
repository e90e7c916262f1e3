//! What is true of the installation as a whole.

use poem_openapi::param::Header;
use poem_openapi::{Object, OpenApi};

use super::{Tag, check_version, installation};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::services::Services;
use crate::domain::audit::Outcome as ActOutcome;
use crate::store::settings::INSTALLATION_NAME;

/// The name under which edits of the settings are counted.
pub(super) const VERSION: &str = "settings_version";

/// Operations on settings.
pub struct Api(pub Services);

/// What is true of the installation as a whole.
#[derive(Debug, Object)]
struct Settings {
    /// What it is called.
    installation_name: String,
    /// Counts edits: the ETag.
    version: u64,
}

/// What changes about the settings.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct SettingsEdit {
    #[oai(validator(max_length = 64))]
    installation_name: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Settings")]
impl Api {
    /// The settings
    #[oai(path = "/settings", method = "get", operation_id = "getSettings")]
    async fn show(&self) -> Outcome<Shown<Settings>> {
        let settings = self.read().await?;
        let version = settings.version;
        Ok(Shown::new(settings).version(version))
    }

    /// Changes the settings
    #[oai(path = "/settings", method = "patch", operation_id = "editSettings")]
    async fn edit(
        &self,
        call: Call,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        body: Body<SettingsEdit>,
    ) -> Outcome<Shown<Settings>> {
        let before = self.read().await?;
        check_version(&if_match, before.version, "the settings")?;
        let mut faults = Faults::default();
        let name =
            faults.take_if("/installation_name", body.0.installation_name.as_deref().map(fields::name));
        faults.none()?;
        let after = Settings {
            installation_name: name.unwrap_or(before.installation_name),
            version: before.version + 1,
        };
        let (was, is) = (before.version.to_string(), after.version.to_string());
        let transaction = self.0.store().begin().await?;
        if !transaction.swap_setting(VERSION, &was, &is).await? {
            if before.version != 1 {
                return Err(Problem::stale("the settings"));
            }
            // Never edited before: the counter's row begins here, once.
            transaction.begin_setting(VERSION, &is, "the settings").await?;
        }
        transaction.set_setting(INSTALLATION_NAME, &after.installation_name).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        let version = after.version;
        Ok(Shown::new(after).version(version))
    }
}

impl Api {
    async fn read(&self) -> Outcome<Settings> {
        let version = self.0.store().setting(VERSION).await?;
        Ok(Settings {
            installation_name: installation::name(&self.0).await?,
            version: version.and_then(|version| version.parse().ok()).unwrap_or(1),
        })
    }
}
