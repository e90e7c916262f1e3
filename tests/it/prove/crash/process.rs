//! The same with a real process that is sent SIGKILL while it stands at the point.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use wicketgate::ca::Witness;
use wicketgate::domain::{Secret, UtcTime};
use wicketgate::store::Store;
use wicketgate::store::certificates::{CertificateFilter, Standing};

use super::evidence::Found;
use super::series::{Deed, Series};
use super::{Act, MATRIX};
use crate::ca::fixture::World;
use crate::prove::seed::Seed;

const DATABASE: &str = "WICKETGATE_TEST_PROVE_DATABASE";
const KEY: &str = "WICKETGATE_TEST_PROVE_KEY";
const NOW: &str = "WICKETGATE_TEST_PROVE_NOW";
const ROW: &str = "WICKETGATE_TEST_PROVE_ROW";

/// Not a test of its own: what the process does that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(database), Ok(key)) = (std::env::var(DATABASE), std::env::var(KEY)) else { return };
    let now: UtcTime = std::env::var(NOW).unwrap().parse().unwrap();
    let row: usize = std::env::var(ROW).unwrap().parse().unwrap();
    let (store, key) = (Store::open(&database, 5).await.unwrap(), Secret::new(key));
    let act = MATRIX[row].act;
    let world = match act {
        Act::MakeAuthorities => World::bare(store, &key, now).await,
        _ => World::at(store, &key, now).await,
    };
    let filter = CertificateFilter { standing: Some(Standing::Active), ..Default::default() };
    let active = async || world.store.certificates(&filter, 1, now).await.unwrap()[0].serial;
    let deed = match act {
        Act::Issue => Deed::Issue(world.anna, "device".to_owned()),
        Act::Renew => Deed::Renew(active().await),
        Act::Revoke => Deed::Revoke(active().await),
        Act::PublishLists => Deed::PublishLists,
        Act::MakeAuthorities => Deed::MakeAuthorities,
    };
    let _ = deed.done(&world.ca, now).await;
}

/// Lets a process walk to the point, kills it there, and looks at what is left.
pub(super) async fn run(series: &mut Series, _: &mut Seed, found: &mut Found) {
    series.leave().await;
    if series.row().act == Act::MakeAuthorities {
        series.start_anew().await;
    } else if matches!(series.row().act, Act::Renew | Act::Revoke) {
        let store = Store::open(&series.url(), 5).await.unwrap();
        World::at(store, series.key(), series.now()).await.issue("to be taken").await;
    }
    let row = MATRIX.iter().position(|row| row.act == series.row().act && row.point == series.row().point);
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "prove::crash::process::child", "--nocapture", "--test-threads=1"])
        .env(DATABASE, series.url())
        .env(KEY, series.key().expose())
        .env(NOW, series.now().to_string())
        .env(ROW, row.unwrap().to_string())
        .env("WICKETGATE_STOP_AT", series.row().point)
        .env("WICKETGATE_WITNESS", &witness)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let stopped = tokio::task::block_in_place(|| {
        let there = said.lines().map_while(Result::ok).any(|line| line.contains("stopped at "));
        // SIGKILL.
        let _ = child.kill();
        let _ = child.wait();
        there
    });
    found.real += 1;
    if !stopped {
        println!("not reached by a process: {:?}", series.row());
        found.not_struck += 1;
    }
    let signed = Witness::read(&std::fs::read_to_string(&witness).unwrap_or_default());
    series.enter(&signed, found);
    series.restart(Vec::new(), found).await;
}
