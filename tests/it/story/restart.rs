//! Crashes, a database that is away, and configurations from yesterday: what is revoked stays out.

use serde_json::{Value, json};

use super::backend;
use super::device::Device;
use super::house::{APP, House, Plan};
use crate::harness::postgres::{Durability, Server};

/// A house with two devices, of which one was just revoked, and the process killed in the same moment.
struct Crashed {
    house: House,
    revoked: Device,
    enrolled: Device,
}

fn crashed(database: Option<String>) -> Crashed {
    let mut house = House::open(&Plan { database, more: "", edge: None }, &backend::start());
    let anna = house.person("Anna Grün", "anna@example.org");
    let (certificate, revoked) = house.enrol(&anna, "Lost laptop");
    let (_, enrolled) = house.enrol(&anna, "Phone");
    for device in [&revoked, &enrolled] {
        assert_eq!(house.visit(Some(device), "/").0, 200);
    }
    house.revoke(&certificate);
    house.kill();
    Crashed { house, revoked, enrolled }
}

impl Crashed {
    fn holds(&self, when: &str) {
        let Self { house, revoked, enrolled } = self;
        assert_eq!(house.visit(Some(revoked), "/"), (403, "certificate_revoked".to_owned()), "{when}");
        assert_eq!(house.visit(Some(enrolled), "/"), (200, String::new()), "{when}");
        assert_eq!(house.visit(None, "/public"), (200, String::new()), "{when}");
        assert_eq!(house.visit(None, "/"), (403, "certificate_required".to_owned()), "{when}");
    }

    /// The console answers again, and what it does reaches the edge.
    fn console_works(&mut self) {
        let people = self.house.get("/people");
        let anna = people["items"].as_array().unwrap().iter().find(|one| one["name"] == "Anna Grün").unwrap();
        let id = anna["id"].as_str().unwrap().to_owned();
        let (_, tablet) = self.house.enrol(&id, "Tablet");
        assert_eq!(self.house.visit(Some(&tablet), "/"), (200, String::new()));
    }

    /// Writes yesterday's site and route back, as one who restores a configuration does.
    fn an_older_configuration_opens_nothing(&self) {
        let house = &self.house;
        let routes = house.get("/routes");
        let protected = routes["items"].as_array().unwrap().iter().find(|route| route["path_prefix"] == "/");
        let before: Value = protected.unwrap().clone();
        let path = format!("/routes/{}", before["id"].as_str().unwrap());
        let site = format!("/sites/{APP}");
        house.edit(&path, &json!({ "policy": { "kind": "public" } }));
        house.edit(&site, &json!({ "client_auth": "none" }));
        assert_eq!(house.visit(None, "/").0, 200);
        house.edit(&site, &json!({ "client_auth": "request" }));
        house.edit(&path, &json!({ "policy": before["policy"] }));
        self.holds("with the older configuration");
    }
}

#[test]
fn a_revocation_outlives_a_crash_and_a_lost_postgresql() {
    let Some(mut server) = Server::start(Durability::Full) else { return };
    let database = server.database();
    let url = database.url();
    std::mem::forget(database);
    let mut crashed = crashed(Some(url));
    server.kill();
    crashed.house.serve();
    crashed.holds("without PostgreSQL");
    assert!(std::net::TcpStream::connect(("127.0.0.1", crashed.house.console)).is_err());
    server.restart();
    crashed.console_works();
    crashed.holds("with PostgreSQL back");
    crashed.an_older_configuration_opens_nothing();
    assert!(crashed.house.stop().success());
}

#[test]
fn a_revocation_outlives_a_crash_and_a_lost_sqlite_file() {
    let mut crashed = crashed(None);
    let away = crashed.house.path("away");
    std::fs::create_dir(&away).unwrap();
    let files = ["house.db", "house.db-wal", "house.db-shm"];
    let place = |name: &str| crashed.house.path("data").join(name);
    for name in files.into_iter().filter(|name| place(name).exists()) {
        std::fs::rename(place(name), away.join(name)).unwrap();
    }
    crashed.house.serve();
    crashed.holds("without its file");
    assert!(!crashed.house.path("data/house.db").exists(), "nothing takes the lost file's place");
    for name in files.into_iter().rev().filter(|name| away.join(name).exists()) {
        std::fs::rename(away.join(name), crashed.house.path("data").join(name)).unwrap();
    }
    crashed.console_works();
    crashed.holds("with its file back");
    crashed.an_older_configuration_opens_nothing();
    // And from the beginning, with nothing but the disk.
    crashed.house.kill();
    crashed.house.serve();
    crashed.holds("after another crash");
}
