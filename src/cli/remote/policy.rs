//! `wicketgate route explain` and `route try`: what a policy says to one request, and what another one would have
//! said to those who were here.

use anyhow::bail;
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::commands::RouteAct;
use crate::cli::output::Output;

pub(super) async fn run(act: RouteAct, client: &Client, output: Output) -> anyhow::Result<()> {
    match act {
        RouteAct::Explain { host, path, method, source, serial, device } => {
            let mut body = json!({ "host": host, "path": path, "method": method, "source": source });
            if let Some(serial) = serial {
                body["serial"] = json!(serial.to_string());
            }
            if let Some(device) = device {
                body["device_id"] = json!(device);
            }
            let answer = client.send(Method::POST, "/api/v1/routes/explanations", Some(&body), None).await?;
            output.answer(&explained(&answer.body), &answer.body)
        }
        RouteAct::Try { id, policy } => {
            let path = format!("/api/v1/routes/{id}/policy-trials");
            let answer = client.send(Method::POST, &path, Some(&json!({ "policy": policy })), None).await?;
            output.answer(&tried(&answer.body), &answer.body)
        }
        RouteAct::List
        | RouteAct::Add { .. }
        | RouteAct::Show { .. }
        | RouteAct::Set { .. }
        | RouteAct::Remove { .. } => bail!("this is no question"),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// For example `Refused (access_denied) by the rule "night shift".`, and a line a rule.
fn explained(answer: &Value) -> String {
    let verdict = match answer["admits"].as_bool() {
        Some(true) => "Let in".to_owned(),
        _ => format!("Refused ({})", text(answer, "code")),
    };
    let decided_by = match text(answer, "decided_by") {
        "rule" => format!("by the rule {:?}", text(answer, "rule")),
        "list" => "by one of the lists".to_owned(),
        "everyone" => "as everyone who is known".to_owned(),
        "nobody" => "because no rule and no list fits".to_owned(),
        "public" => "because the route is public".to_owned(),
        "certificate" => match text(answer, "cause") {
            "" => "because there is no certificate".to_owned(),
            cause => format!("because of the certificate: {cause}"),
        },
        "method" => "because of the method, which no edge takes".to_owned(),
        "no_route" => "because no route leads there".to_owned(),
        "path" => "because of the path, which can be read as another route's".to_owned(),
        "unclear" => "because path or method can be read in another way, to which other rules fit".to_owned(),
        other => format!("by {other}"),
    };
    let mut lines = format!("{verdict} {decided_by}.\n");
    if let Some(route) = answer["route_id"].as_str() {
        lines.push_str(&format!("  route {route}, {}\n", text(answer, "path_prefix")));
    }
    for (at, rule) in answer["rules"].as_array().into_iter().flatten().enumerate() {
        let fits = match (text(rule, "fits"), text(rule, "condition")) {
            ("yes", _) => "fits".to_owned(),
            ("no", condition) => format!("does not fit: {condition}"),
            (fits, condition) => format!("{fits}: {condition}"),
        };
        let line = format!("  {}. {} {:?}: {fits}\n", at + 1, text(rule, "effect"), text(rule, "name"));
        lines.push_str(&line);
    }
    lines
}

/// The counts, and a line for each who would fare otherwise.
fn tried(answer: &Value) -> String {
    let count = |field: &str| answer[field].as_u64().unwrap_or_default();
    let mut lines = format!(
        "Tried on {} certificates seen at the route; nothing was changed. That is one request per certificate and \
         connection, seen by this edge only: others may fare otherwise.\n{} would be refused, {} would be let in.\n",
        count("tried"),
        count("would_be_refused"),
        count("would_be_admitted"),
    );
    if count("gone") > 0 {
        lines.push_str(&format!("{} more were seen that do not pass any more.\n", count("gone")));
    }
    for one in answer["changed"].as_array().into_iter().flatten() {
        let fate = if one["would_be_admitted"] == true { "let in " } else { "refused" };
        let [person, device, method, path] =
            ["person_name", "device_name", "method", "path"].map(|field| text(one, field));
        lines.push_str(&format!("  {fate} {person}, {device}: {method} {path} from {}", text(one, "source")));
        if let Some(rule) = one["rule"].as_str() {
            lines.push_str(&format!(", by the rule {rule:?}"));
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(subcommand)]
        act: RouteAct,
    }

    #[test]
    fn a_policy_is_typed_instead_of_its_short_forms() {
        let typed = |words: &[&str]| {
            let words = std::iter::once(&"route").chain(words).copied();
            Typed::try_parse_from(words).ok().map(|typed| typed.act)
        };
        let (id, policy) = ("0192f0c1-2345-7abc-8def-0123456789ab", r#"{"kind":"public"}"#);
        assert!(matches!(
            typed(&["set", id, "--policy", policy]),
            Some(RouteAct::Set { options: None, policy: Some(_), .. })
        ));
        assert!(typed(&["set", id, "--options", "{}", "--policy", policy]).is_some());
        assert!(typed(&["set", id]).is_none());
        let add = ["add", "app.example.com", "/", "app", "--policy", policy];
        assert!(typed(&add).is_some());
        assert!(typed(&[&add[..], &["--public"]].concat()).is_none());
        assert!(typed(&[&add[..], &["--groups", "staff"]].concat()).is_none());
    }

    #[test]
    fn answers_are_sentences() {
        let answer = json!({ "admits": false, "decided_by": "rule", "rule": "night", "code": "access_denied",
            "route_id": "r", "path_prefix": "/", "rules": [
                { "name": "office", "effect": "allow", "fits": "no", "condition": "networks" },
                { "name": "night", "effect": "deny", "fits": "yes" },
            ] });
        assert_eq!(
            explained(&answer),
            "Refused (access_denied) by the rule \"night\".\n  route r, /\n  1. allow \"office\": does not fit: \
             networks\n  2. deny \"night\": fits\n"
        );
        let answer = json!({ "tried": 2, "gone": 1, "would_be_refused": 1, "would_be_admitted": 0, "changed": [
            { "would_be_admitted": false, "person_name": "Anna", "device_name": "iPhone", "method": "GET",
              "path": "/x", "source": "192.0.2.1" },
        ] });
        let text = tried(&answer);
        assert!(text.contains("1 would be refused, 0 would be let in.\n1 more"), "{text}");
        assert!(text.ends_with("  refused Anna, iPhone: GET /x from 192.0.2.1\n"), "{text}");
    }
}
