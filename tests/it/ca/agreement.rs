//! List, OCSP and edge say the same of every serial, issued or not.

use std::collections::HashMap;
use std::time::Duration;

use wicketgate::domain::{Fingerprint, RevocationReason, Serial};
use wicketgate::keys::SystemEntropy;

use super::asking::Told;
use super::fixture::World;
use super::lists::listed;
use crate::on_both_databases;

/// Makes `serials` serials, a fifth of them never issued, gives the others a history, and returns how
/// many times `good` was said of one that is not.
pub(crate) async fn false_goods(world: &World, serials: u64, progress: impl Fn(u64)) -> u64 {
    let issuer = world.issuer().await;
    let mut all: Vec<(Serial, Option<Fingerprint>)> = Vec::new();
    for at in 0..serials {
        progress(at);
        if at % 5 == 4 {
            let never = Serial::random(&SystemEntropy);
            if at % 2 == 0 {
                world.store.reserve_serial(never, "test", world.now()).await.unwrap();
            }
            all.push((never, None));
            continue;
        }
        let issued = world.issue("a device").await.certificate;
        all.push((issued.serial, Some(issued.fingerprint)));
        assert_eq!(world.ask(&issuer, issued.serial).await, Told::Good, "kept at the edge from now on");
        world.clock.advance(Duration::from_secs(at % 3));
        let history: &[&str] = match at % 7 {
            0 => &["superseded"],
            1 => &["certificateHold"],
            2 => &["certificateHold", "release"],
            3 => &["affiliationChanged", "keyCompromise"],
            4 => &["unspecified"],
            _ => &[],
        };
        for step in history {
            if *step == "release" {
                let act = world.act("certificate.release").await;
                world.ca.release(issued.serial, &act, world.now()).await.unwrap();
            } else {
                world.revoke(issued.serial, step).await.unwrap();
            }
        }
    }
    world.ca.publish_crls(world.now()).await.unwrap();
    let on_list: HashMap<Serial, (i64, RevocationReason)> =
        listed(world).await.into_iter().map(|(serial, at, reason)| (serial, (at, reason))).collect();
    let mut false_goods = 0;
    for (serial, fingerprint) in all {
        let told = world.ask(&issuer, serial).await;
        let list = on_list.get(&serial).copied();
        let edge = fingerprint.and_then(|it| world.holder.register().look_up(&it));
        match fingerprint {
            None => {
                assert!(list.is_none() && edge.is_none());
                false_goods += u64::from(told != Told::Unknown);
            }
            Some(_) => {
                let revoked = edge.unwrap().revoked.map(|(at, reason)| (at.as_unix(), reason));
                assert_eq!(revoked, list, "{serial}: edge and list");
                let expected = list.map_or(Told::Good, |(at, reason)| Told::Revoked(at, reason));
                false_goods += u64::from(told == Told::Good && expected != Told::Good);
                assert_eq!(told, expected, "{serial}: OCSP and list");
            }
        }
    }
    false_goods
}

on_both_databases! {
    async fn list_ocsp_and_edge_give_one_answer_for_every_serial(database) {
        let world = World::over(database).await;
        assert_eq!(false_goods(&world, 35, |_| {}).await, 0);
    }
}
