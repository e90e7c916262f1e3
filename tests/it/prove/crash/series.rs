//! Runs over one database, each beginning with what the one before left.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use wicketgate::ca::{DeviceChoice, IssueRequest};
use wicketgate::crash::{self, Killed, Plan};
use wicketgate::domain::{PersonId, Secret, Serial, UtcTime};
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::store::Store;
use wicketgate::store::certificates::{CertificateFilter, Standing};

use super::evidence::{self, Found, Ledger};
use super::{Act, Row};
use crate::ca::fixture::{World, csr};
use crate::harness::database::TestDatabase;
use crate::prove::seed::Seed;

/// What happens at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    Kill,
    /// Nothing of the database answers any more.
    Away,
    /// The next commit happens and nobody is told.
    AnswerLost,
    /// The server ends every connection; new ones are taken.
    Cut,
}

/// How a database becomes as empty as it was.
enum Empty {
    /// A file to be copied.
    File(TestDatabase),
    /// A copy of every table in a schema of its own: a database made anew takes much longer.
    Kept,
}

/// The runs of one row over one database.
pub(super) struct Series {
    row: Row,
    database: Arc<TestDatabase>,
    /// Migrated and empty, for acts that need it so.
    empty: Option<Empty>,
    /// The process that was started after the last blow, and goes on.
    world: Option<World>,
    key: Secret<String>,
    now: UtcTime,
    ledger: Ledger,
    /// How many of its process's signatures are in it.
    entered: usize,
}

impl Series {
    pub(super) async fn begin(row: Row, database: TestDatabase) -> Self {
        let mut series = Self {
            row,
            database: Arc::new(database),
            empty: None,
            world: None,
            entered: 0,
            key: Kek::fresh_text(&SystemEntropy),
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
            ledger: Ledger::default(),
        };
        let store = Store::create(&series.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        if row.act != Act::MakeAuthorities {
            let world = World::at(store, &series.key, series.now).await;
            world.issue("first").await;
        } else {
            store.close().await;
            series.empty = Some(match &*series.database {
                TestDatabase::Sqlite(_) => Empty::File(series.database.twin()),
                TestDatabase::Postgres(database) => {
                    database.sql(KEEP);
                    Empty::Kept
                }
            });
        }
        series
    }

    pub(super) fn url(&self) -> String {
        self.database.url()
    }

    pub(super) fn row(&self) -> Row {
        self.row
    }

    pub(super) fn key(&self) -> &Secret<String> {
        &self.key
    }

    pub(super) fn now(&self) -> UtcTime {
        self.now
    }

    /// One of the ways in which this database can fail.
    pub(super) fn failing(&self, seed: &mut Seed) -> Blow {
        match &*self.database {
            TestDatabase::Sqlite(_) => *seed.one_of(&[Blow::Away, Blow::AnswerLost]),
            TestDatabase::Postgres(_) => *seed.one_of(&[Blow::Away, Blow::AnswerLost, Blow::Cut]),
        }
    }

    async fn open(&self) -> World {
        let store = Store::open(&self.url(), 5).await.unwrap();
        match self.row.act {
            Act::MakeAuthorities => World::bare(store, &self.key, self.now).await,
            _ => World::at(store, &self.key, self.now).await,
        }
    }

    /// One run in this process: the act under way, the blow, the restart, the evidence.
    pub(super) async fn run(&mut self, blow: Blow, seed: &mut Seed, found: &mut Found) {
        if self.row.act == Act::MakeAuthorities {
            // Authorities are made in an empty house.
            self.start_anew().await;
        }
        let world = match self.world.take() {
            Some(world) => world,
            None => {
                self.entered = 0;
                self.open().await
            }
        };
        world.ca.witness().watch();
        let at_once = match self.row.act {
            Act::Issue | Act::Renew => 1 + seed.below(3) as u32,
            Act::Revoke => 1,
            Act::PublishLists => 1,
            Act::MakeAuthorities => 1,
        };
        let visits = match self.row.act {
            // What is stored at the same moment shares one commit.
            Act::Issue | Act::Renew if self.row.point == "ca.before_commit" => 1,
            Act::PublishLists => 2,
            Act::MakeAuthorities => 3,
            _ => at_once,
        };
        let plan = Plan::new(self.row.point, 1 + seed.below(u64::from(visits)) as u32, self.blow(blow));
        let deeds = self.deeds(&world, at_once).await;
        let mut tasks = JoinSet::new();
        for deed in deeds {
            let (plan, ca) = (plan.clone(), world.ca.clone());
            let now = self.now;
            tasks.spawn(async move { plan.run(deed.done(&ca, now)).await });
        }
        let mut promised = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(promise)) => promised.extend(promise),
                // Refused, with the database away: nobody was promised anything.
                Ok(Err(())) => {}
                Err(error) => {
                    let killed = error.into_panic().downcast_ref::<Killed>().is_some();
                    if !killed {
                        found.wrong.push(format!("{:?} panicked", self.row));
                    }
                }
            }
        }
        if !plan.has_struck() {
            println!("not reached: {:?}, {blow:?}", self.row);
            found.not_struck += 1;
        }
        if blow == Blow::Kill {
            found.killed += 1
        } else {
            found.failing += 1
        }
        self.ledger.enter(&world.ca.witness().signed()[self.entered..], found);
        drop(world);
        self.restart(promised, found).await;
    }

    /// Starts again over what is left, and looks at it.
    pub(super) async fn restart(&mut self, promised: Vec<Promise>, found: &mut Found) {
        let store = Store::open(&self.url(), 5).await.unwrap();
        let world = World::at(store, &self.key, self.now).await;
        world.ca.witness().watch();
        evidence::resolve(&world, found).await;
        evidence::check(&world, found).await;
        for promise in promised {
            let kept = match promise {
                Promise::Issued(serial) => world.store.certificate(serial).await.unwrap().is_some(),
                Promise::Revoked(serial) => {
                    world.store.certificate(serial).await.unwrap().is_some_and(|row| row.revoked.is_some())
                }
            };
            if !kept {
                found.wrong.push(format!("{:?}: {promise:?} was answered and is gone", self.row));
            }
        }
        let signed = world.ca.witness().signed();
        self.ledger.enter(&signed, found);
        self.entered = signed.len();
        self.now = world.now().plus(Duration::from_secs(1));
        if self.row.act == Act::PublishLists {
            // The next list is due.
            self.now = self.now.plus(Duration::from_secs(4 * 86_400));
        }
        world.clock.set(self.now);
        self.world = Some(world);
    }

    /// Ends the process that goes on, in good order.
    pub(super) async fn leave(&mut self) {
        if let Some(world) = self.world.take() {
            world.store.close().await;
        }
    }

    pub(super) fn enter(&mut self, signed: &[wicketgate::ca::Signed], found: &mut Found) {
        self.ledger.enter(signed, found);
    }

    /// A migrated database with nothing in it in the place of this one.
    pub(super) async fn start_anew(&mut self) {
        self.leave().await;
        match &self.empty {
            Some(Empty::File(empty)) => self.database = Arc::new(empty.twin()),
            Some(Empty::Kept) => {
                if let TestDatabase::Postgres(database) = &*self.database {
                    database.sql(&format!("{CUT}; {EMPTY}"));
                }
            }
            None => return,
        }
        self.ledger = Ledger::default();
    }

    fn blow(&self, blow: Blow) -> crash::Blow {
        match blow {
            Blow::Kill => crash::Blow::Kill,
            Blow::Away => crash::Blow::DatabaseAway,
            Blow::AnswerLost => crash::Blow::AnswerLost,
            Blow::Cut => {
                let database = self.database.clone();
                crash::Blow::Call(Box::new(move || {
                    if let TestDatabase::Postgres(database) = &*database {
                        database.sql(CUT);
                    }
                }))
            }
        }
    }

    async fn deeds(&self, world: &World, at_once: u32) -> Vec<Deed> {
        let filter = CertificateFilter { standing: Some(Standing::Active), ..Default::default() };
        let active = async || {
            let first = world.store.certificates(&filter, 1, world.now()).await.unwrap();
            match first.into_iter().next() {
                Some(certificate) => certificate.serial,
                None => world.issue("another").await.certificate.serial,
            }
        };
        match self.row.act {
            Act::Issue => (0..at_once).map(|at| Deed::Issue(world.anna, format!("device {at}"))).collect(),
            Act::Renew => {
                let serial = active().await;
                (0..at_once).map(|_| Deed::Renew(serial)).collect()
            }
            Act::Revoke => vec![Deed::Revoke(active().await)],
            Act::PublishLists => vec![Deed::PublishLists],
            Act::MakeAuthorities => vec![Deed::MakeAuthorities],
        }
    }
}

const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Keeps every table as it is.
const KEEP: &str = "DO $$ DECLARE t record; BEGIN CREATE SCHEMA kept; \
                    FOR t IN SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' LOOP \
                    EXECUTE format('CREATE TABLE kept.%1$I AS TABLE public.%1$I', t.name); \
                    END LOOP; END $$";
/// Makes every table again as it was kept. Without triggers: some rows are for ever otherwise.
const EMPTY: &str = "DO $$ DECLARE t record; BEGIN SET LOCAL session_replication_role = replica; \
                     FOR t IN SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' LOOP \
                     EXECUTE format('DELETE FROM public.%1$I', t.name); \
                     EXECUTE format('INSERT INTO public.%1$I SELECT * FROM kept.%1$I', t.name); \
                     END LOOP; END $$";

/// What somebody was told has happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Promise {
    Issued(Serial),
    Revoked(Serial),
}

/// As the admin server opens them.
fn act(action: &'static str, now: UtcTime) -> wicketgate::domain::audit::Act {
    Store::act_on_commit(wicketgate::domain::Actor::System("test"), action, None, None, now)
}

/// One call of the authority.
pub(super) enum Deed {
    Issue(PersonId, String),
    Renew(Serial),
    Revoke(Serial),
    PublishLists,
    MakeAuthorities,
}

impl Deed {
    /// Does it, and says what was promised.
    pub(super) async fn done(self, ca: &wicketgate::ca::Ca, now: UtcTime) -> Result<Option<Promise>, ()> {
        match self {
            Self::Issue(person, name) => {
                let request = IssueRequest {
                    person,
                    device: DeviceChoice::New { name },
                    profile: "device".parse().unwrap(),
                    csr_pem: csr(),
                    dns_names: Default::default(),
                };
                let issued = ca.issue(&request, &act("certificate.issue", now), now).await.map_err(drop)?;
                Ok(Some(Promise::Issued(issued.certificate.serial)))
            }
            Self::Renew(serial) => {
                let act = act("certificate.renew", now);
                let renewed = ca.renew(serial, &csr(), &act, now).await.map_err(drop)?;
                Ok(Some(Promise::Issued(renewed.certificate.serial)))
            }
            Self::Revoke(serial) => {
                let act = act("certificate.revoke", now);
                ca.revoke(serial, "superseded".parse().unwrap(), &act, now).await.map_err(drop)?;
                Ok(Some(Promise::Revoked(serial)))
            }
            Self::PublishLists => ca.publish_crls(now).await.map(|_| None).map_err(drop),
            Self::MakeAuthorities => ca.init("Test", now).await.map(|()| None).map_err(drop),
        }
    }
}
