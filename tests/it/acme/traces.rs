//! A renewal can be followed: the job's run, the requests it made and the act in the audit share one id.

use std::collections::BTreeSet;

use wicketgate::domain::ClientAuth;
use wicketgate::store::acme::ChallengeKind;
use wicketgate::store::audit::AuditFilter;

use super::fixture::{HOST, World};
use crate::harness::database::TestDatabase;
use crate::harness::log::Captured;

#[tokio::test]
async fn a_renewal_and_its_acme_requests_share_one_trace_and_the_next_run_has_another() {
    let log = Captured::start("info,wicketgate=debug");
    let database = TestDatabase::sqlite();
    let Some(world) = World::over(&database, ChallengeKind::Http01, ClientAuth::Request).await else {
        return;
    };
    let jobs = world.jobs();
    let report = jobs.run_now("renew_server_certificates").await.unwrap();
    assert_eq!(report.done, 1, "{}", report.detail);

    let asked = log.saying("Asked the ACME authority");
    assert!(asked.len() >= 6, "directory, account, order, challenge, finalize, chain: {asked:?}");
    let traces: BTreeSet<&str> =
        asked.iter().map(|line| line["trace_id"].as_str().unwrap_or_else(|| panic!("{line}"))).collect();
    assert_eq!(traces.len(), 1, "{traces:?}");
    let run = jobs.runs("renew_server_certificates", 1).await.unwrap().unwrap().remove(0);
    for line in &asked {
        assert_eq!((&line["site.host"], &line["job.run"]), (&HOST.into(), &(*run.id).into()), "{line}");
    }
    let act = world.store.audit_events(&AuditFilter::default(), 20).await.unwrap();
    let act = act.into_iter().find(|event| event.action == "server_certificate.renew").unwrap();
    assert_eq!(act.request_id.as_deref(), traces.first().copied());

    let before = asked.len();
    world.advance(70 * 86_400);
    jobs.run_now("renew_server_certificates").await.unwrap();
    let later = log.saying("Asked the ACME authority").split_off(before);
    assert!(
        !later.is_empty() && later.iter().all(|line| !traces.contains(line["trace_id"].as_str().unwrap()))
    );
}
