//! `wicketgate setup-link`: the way in for the first administrator. Whoever may read the database may
//! let somebody in, so this needs nothing else.

use super::output::Output;
use crate::admin::create_setup_token;
use crate::boot::{Start, open_store};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::keys::SystemEntropy;

pub(super) async fn run(config: &Config, output: Output) -> anyhow::Result<()> {
    let store = open_store(config, Start::Existing).await?;
    store.check_schema().await?;
    let token = create_setup_token(&store, &SystemEntropy, SystemClock.now()).await?;
    store.close().await;
    let port = config.admin.listen.port();
    let origin = if port == 443 {
        format!("https://{}", config.admin.host)
    } else {
        format!("https://{}:{port}", config.admin.host)
    };
    let link = format!("{origin}/#/setup/{}", token.expose());
    let text = format!(
        "{link}\n\nOpens once, within 24 hours, for whoever has it: it makes the first administrator."
    );
    output.answer(&text, &serde_json::json!({ "setup_link": link }))
}
