//! `wicketgate ca health`: fails when anything is wrong, so that a monitor needs no more than this.

use http::Method;
use serde_json::Value;

use super::client::Client;
use super::table;
use crate::cli::output::Output;

/// More findings than fit a page would not be read.
const PATH: &str = "/api/v1/health-findings?limit=200";

pub(super) async fn run(client: &Client, output: Output) -> anyhow::Result<()> {
    let answer = client.send(Method::GET, PATH, None, None).await?;
    let found = answer.body.get("items").and_then(Value::as_array).map_or(0, Vec::len);
    let text = match found {
        0 => "nothing found".to_owned(),
        _ => table::show(&answer.body, &["severity", "check", "object", "detail", "advice"], ""),
    };
    output.answer(&text, &answer.body)?;
    anyhow::ensure!(found == 0, "{found} finding{}", if found == 1 { "" } else { "s" });
    Ok(())
}
