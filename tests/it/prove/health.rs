//! Every health check is provoked, found with its advice, and quiet when all is well.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use wicketgate::admin::{KeyFileModes, LowDisk};
use wicketgate::ca::health::{Finding, Health, HealthCheck, Severity, of_authorities};
use wicketgate::crash::{Blow, Plan};

use super::Proof;
use crate::admin::fixture::App;
use crate::ca::fixture::World;
use crate::harness::database::TestDatabase;
use crate::story::house::{House, Plan as HousePlan};

const DAY: Duration = Duration::from_secs(86_400);

/// What was provoked, and what was found.
struct Provoked {
    check: &'static str,
    severity: Severity,
    found: Vec<Finding>,
}

impl Provoked {
    fn is_found(&self) -> bool {
        let fits = |finding: &&Finding| finding.check == self.check && finding.severity == self.severity;
        let found = self.found.iter().find(fits);
        found.is_some_and(|finding| !finding.advice.is_empty() && !finding.detail.is_empty())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_findings() {
    let proof = Proof::of("health_findings");
    let mut provoked = Vec::new();
    let mut quiet = true;
    for database in [Some(TestDatabase::sqlite()), TestDatabase::postgres()].into_iter().flatten() {
        let world = World::over(&database).await;
        let health = Health::new(of_authorities(&world.store, &world.ca));
        let mut found = async |check, severity| {
            provoked.push(Provoked { check, severity, found: health.findings(world.now()).await });
        };
        found("list_stale", Severity::Critical).await;
        world.ca.publish_crls(world.now()).await.unwrap();
        world.issue("phone").await;
        quiet &= health.findings(world.now()).await.is_empty();

        // A process that dies between record and signature.
        let plan = Plan::new("ca.after_intent", 1, Blow::DatabaseAway);
        let device = wicketgate::ca::DeviceChoice::New { name: "lost".to_owned() };
        plan.run(world.try_issue(device)).await.unwrap_err();
        world.clock.advance(Duration::from_secs(121));
        found("intent_open", Severity::Critical).await;
        world.ca.resolve_intents(world.now()).await.unwrap();
        world.ca.publish_crls(world.now()).await.unwrap();
        quiet &= health.findings(world.now()).await.is_empty();

        let now = world.now();
        let _ = world.act("clock.test").await;
        for (behind, severity) in
            [(6, Severity::Warning), (300, Severity::Warning), (301, Severity::Critical)]
        {
            world.clock.set(now.minus(Duration::from_secs(behind)));
            found("clock_set_back", severity).await;
        }
        world.clock.set(now.minus(Duration::from_secs(5)));
        quiet &= health.findings(world.now()).await.is_empty();
        world.clock.set(now);
        quiet &= health.findings(world.now()).await.is_empty();

        world.clock.advance(DAY * 4);
        found("list_stale", Severity::Warning).await;
        world.clock.advance(DAY * 4);
        found("list_stale", Severity::Critical).await;

        world.clock.set(now.plus(DAY * (10 * 365 - 200)));
        found("authority_ending", Severity::Warning).await;
        world.clock.set(now.plus(DAY * (10 * 365 - 80)));
        found("authority_ending", Severity::Critical).await;
        world.clock.set(now.plus(DAY * (20 * 365 + 1)));
        found("authority_ending", Severity::Critical).await;

        // What cannot be looked at is not known to be well.
        world.store.clone().close().await;
        for check in ["authority_ending", "list_stale", "intent_open", "clock_set_back"] {
            found(check, Severity::Critical).await;
        }
    }
    provoked.extend(host(&mut quiet).await);
    let missed: Vec<_> =
        provoked.iter().filter(|one| !one.is_found()).map(|one| (one.check, &one.found)).collect();
    let n = provoked.len() as u64;
    let measured = format!("{n} provoked, {} not found {missed:?}, quiet otherwise: {quiet}", missed.len());
    proof.end(n, missed.is_empty() && quiet, &measured);
}

/// Key files and disk.
async fn host(quiet: &mut bool) -> Vec<Provoked> {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("server.key");
    std::fs::write(&key, "key").unwrap();
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let look = async |check: Box<dyn HealthCheck>| Health::new(vec![check]).findings(now).await;
    let mode = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    let files = || Box::new(KeyFileModes(vec![key.clone()])) as Box<dyn HealthCheck>;
    let disk = |least| Box::new(LowDisk { path: folder.path().to_owned(), least });
    let mut provoked = Vec::new();
    let mut found = |check, found| provoked.push(Provoked { check, severity: Severity::Critical, found });
    mode(0o600);
    *quiet &= look(files()).await.is_empty() && look(disk(1)).await.is_empty();
    mode(0o640);
    found("key_file", look(files()).await);
    mode(0o604);
    found("key_file", look(files()).await);
    std::fs::remove_file(&key).unwrap();
    found("key_file", look(files()).await);
    found("disk_low", look(disk(u64::MAX)).await);
    let gone = LowDisk { path: folder.path().join("gone"), least: 1 };
    found("disk_low", look(Box::new(gone)).await);
    provoked
}

#[tokio::test]
async fn administrators_read_the_findings_in_pages() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let (_, member) = app.member("Ben Weak").await;
    let get =
        |token: &str, query: &str| app.get(&format!("/api/v1/health-findings{query}")).token(token).send();
    get(&member, "").await.expect_problem(403, "not_allowed");
    let all = get(&token, "").await.expect(200);
    let items = all.body["items"].as_array().unwrap();
    // Nothing has published a list in this house.
    assert_eq!(items.len(), 2, "{}", all.text);
    assert!(items.iter().all(|item| item["check"] == "list_stale" && item["severity"] == "critical"));
    let first = get(&token, "?limit=1").await.expect(200);
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let second = get(&token, &format!("?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!([&first.body["items"][0], &second.body["items"][0]], [&items[0], &items[1]]);
    app.ca.publish_crls(app.clock_now()).await.unwrap();
    assert_eq!(get(&token, "").await.expect(200).body["items"], serde_json::json!([]));
}

#[test]
fn the_command_fails_when_anything_is_wrong() {
    let mut house = House::build(&HousePlan { database: None, more: "", edge: None });
    house.serve();
    // The first lists are published right after the start.
    let well = crate::harness::wait_for("the lists to be published", || {
        let said = house.run(&["ca", "health"]);
        said.status.success().then_some(said)
    });
    assert_eq!(String::from_utf8_lossy(&well.stdout).trim(), "nothing found");
    let key = house.path("keys/authority.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = house.run(&["--output", "json", "ca", "health"]);
    assert_eq!(said.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(found["items"][0]["check"], "key_file");
    assert!(String::from_utf8_lossy(&said.stderr).contains("1 finding"));
    let said = house.run(&["ca", "health"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("chmod 0600"));
}
