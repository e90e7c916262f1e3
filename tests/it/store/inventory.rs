//! Certificates are found by how they begin, and every page follows the one before.

use std::time::Duration;

use wicketgate::ca::DeviceChoice;
use wicketgate::store::certificates::Standing;
use wicketgate::store::inventory::{Inquiry, Place, Sort};

use crate::ca::fixture::World;
use crate::on_both_databases;

fn everything(standing: Option<Standing>) -> Inquiry {
    Inquiry { standing, person: None, device: None, search: None, sort: Sort::of(standing)[0], after: None }
}

/// Serials, page by page of `limit`, through cursors as text.
async fn pages(world: &World, inquiry: &Inquiry, limit: u64) -> Vec<String> {
    let (mut inquiry, mut serials) = (inquiry.clone(), Vec::new());
    loop {
        let page = world.store.inventory(&inquiry, limit, world.now()).await.unwrap();
        let Some(last) = page.last() else { return serials };
        let place: Place = last.place.to_string().parse().unwrap();
        assert!(place.belongs_to(&inquiry));
        inquiry.after = Some(place);
        serials.extend(page.iter().map(|listed| listed.certificate.serial.to_string()));
    }
}

/// Names of devices that a search finds, sorted.
async fn found(world: &World, inquiry: &Inquiry, text: &str) -> Vec<String> {
    let inquiry = Inquiry { search: Some(text.to_owned()), ..inquiry.clone() };
    let listed = world.store.inventory(&inquiry, 100, world.now()).await.unwrap();
    let mut names: Vec<_> = listed.into_iter().map(|listed| listed.device_name).collect();
    names.sort();
    names
}

/// Some devices, one certificate each, a minute apart; the first is revoked.
async fn world(database: &crate::harness::database::TestDatabase) -> World {
    let world = World::over(database).await;
    for name in ["Phone", "Laptop 1", "Laptop 2", "Übersee", "100% mine"] {
        world.clock.advance(Duration::from_secs(60));
        world.issue(name).await;
    }
    let first = found_serial(&world, "Phone").await;
    world.revoke(first.parse().unwrap(), "superseded").await.unwrap();
    world
}

async fn found_serial(world: &World, device: &str) -> String {
    let inquiry = Inquiry { search: Some(device.to_owned()), ..everything(None) };
    let listed = world.store.inventory(&inquiry, 10, world.now()).await.unwrap();
    assert_eq!(listed.len(), 1, "{device}");
    listed[0].certificate.serial.to_string()
}

on_both_databases! {
    async fn a_search_finds_beginnings_of_subject_address_device_and_serial(database) {
        let world = world(database).await;
        let all = everything(None);
        assert_eq!(found(&world, &all, "lap").await, ["Laptop 1", "Laptop 2"]);
        assert_eq!(found(&world, &all, "LAPTOP 2").await, ["Laptop 2"]);
        assert_eq!(found(&world, &all, "über").await, ["Übersee"]);
        assert_eq!(found(&world, &all, "100%").await, ["100% mine"], "no letter is a wildcard");
        assert_eq!(found(&world, &all, "top").await, [""; 0]);
        assert_eq!(found(&world, &all, "anna exam").await.len(), 5);
        assert_eq!(found(&world, &all, "anna@ex").await.len(), 5, "by address");
        let serial = found_serial(&world, "Phone").await;
        assert_eq!(found(&world, &all, &serial[..20]).await, ["Phone"]);
        assert_eq!(found(&world, &all, &serial.to_uppercase()).await, ["Phone"]);
        let own = Inquiry { person: Some(world.anna), ..all };
        assert_eq!(found(&world, &own, "lap").await, ["Laptop 1", "Laptop 2"]);
        let revoked = Inquiry { person: None, ..everything(Some(Standing::Revoked)) };
        assert_eq!(found(&world, &revoked, "anna").await, ["Phone"]);
    }

    async fn pages_of_every_order_show_each_certificate_once(database) {
        let world = world(database).await;
        for standing in [None, Some(Standing::Active), Some(Standing::Revoked), Some(Standing::Expired)] {
            for sort in Sort::of(standing) {
                let inquiry = Inquiry { sort: *sort, ..everything(standing) };
                let whole = pages(&world, &inquiry, 100).await;
                assert_eq!(pages(&world, &inquiry, 2).await, whole, "{inquiry:?}");
                let expected = match standing {
                    None => 5,
                    Some(Standing::Active) => 4,
                    Some(Standing::Revoked) => 1,
                    Some(Standing::Expired) => 0,
                };
                assert_eq!(whole.len(), expected, "{inquiry:?}");
            }
        }
        for text in ["anna", "lap", "a", "1"] {
            let inquiry = Inquiry { search: Some(text.to_owned()), ..everything(None) };
            let whole = pages(&world, &inquiry, 100).await;
            assert_eq!(pages(&world, &inquiry, 1).await, whole, "{text}");
            let mut once = whole.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), whole.len(), "{text}: shown twice");
        }
    }

    async fn orders_are_what_they_say(database) {
        let world = world(database).await;
        let by_issue = Inquiry { sort: Sort::of(None)[3], ..everything(None) };
        let listed = world.store.inventory(&by_issue, 10, world.now()).await.unwrap();
        let names: Vec<_> = listed.iter().map(|listed| listed.device_name.as_str()).collect();
        assert_eq!(names, ["100% mine", "Übersee", "Laptop 2", "Laptop 1", "Phone"], "newest first");
        world.clock.advance(Duration::from_secs(400 * 86_400));
        let expired = world.store.inventory(&everything(Some(Standing::Expired)), 10, world.now()).await.unwrap();
        assert_eq!(expired.len(), 4, "the revoked one is revoked, not expired");
    }

    async fn a_renamed_device_is_found_by_its_new_name(database) {
        let world = world(database).await;
        let issued = world.try_issue(DeviceChoice::New { name: "Tablet".to_owned() }).await.unwrap();
        let mut device = world.store.device(issued.certificate.device).await.unwrap().unwrap();
        device.name = "Slate".to_owned();
        let transaction = world.store.begin().await.unwrap();
        transaction.update_device(&device).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(found(&world, &everything(None), "slate").await, ["Slate"]);
        assert_eq!(found(&world, &everything(None), "tablet").await, [""; 0]);
    }
}

#[test]
fn what_is_no_place_of_a_listing_is_refused() {
    for text in ["", "serial", "serial 41", "colour 41 red", "issued_at 41 yesterday", "serial nonsense "] {
        assert!(text.parse::<Place>().is_err(), "{text:?}");
    }
}
