//! When a name is asked for again, and what a good, a bad, a partial and a hostile answer leave behind.

use super::*;
use crate::domain::upstream::DiscoveryKind;

const NONE: &[SocketAddr] = &[];

fn server(host: &str, priority: u16) -> Server {
    Server { host: host.into(), port: 80, priority, weight: 1 }
}

fn part(server: Server, ips: &[&str]) -> Part {
    let came: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    Part { server, is_v6: came.iter().any(IpAddr::is_ipv6), came: Ok(came) }
}

fn failed(server: Server, is_v6: bool, fault: LookupFault) -> Part {
    Part { server, is_v6, came: Err(fault) }
}

fn answer(ips: &[&str], ttl: u32) -> Result<Answer, LookupFault> {
    Ok(Answer { parts: vec![part(server("app", 0), ips)], ttl })
}

fn of(parts: Vec<Part>) -> Result<Answer, LookupFault> {
    Ok(Answer { parts, ttl: 60 })
}

fn after(answer: Result<Answer, LookupFault>) -> Found {
    Found::default().next(0, answer, NONE, 0)
}

fn shown(found: &Found) -> Vec<String> {
    found.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn bounds(least: u32, most: u32) -> Discovery {
    Discovery {
        refresh_seconds_min: least,
        refresh_seconds_max: most,
        ..Discovery::of(DiscoveryKind::Addresses)
    }
}

#[test]
fn an_answer_is_used_as_long_as_it_says_within_bounds() {
    assert_eq!(Found::default().due(&bounds(1, 300)), 0, "at once");
    for (ttl, least, most, due) in [
        (0, 1, 300, 1_000),
        (1, 1, 300, 1_000),
        (60, 1, 300, 60_000),
        (60, 90, 300, 90_000),
        (86_400, 1, 300, 300_000),
        (u32::MAX, 1, 86_400, 86_400_000),
    ] {
        let found = Found::default().next(5, answer(&["10.0.0.1"], ttl), NONE, 0);
        assert_eq!(found.due(&bounds(least, most)), 5 + due, "{ttl}");
        for chance in [1, 999, u64::MAX, 0x1234_5678_9abc] {
            let found = Found::default().next(0, answer(&["10.0.0.1"], ttl), NONE, chance);
            let sooner = found.due(&bounds(least, most));
            assert!(sooner <= due && sooner >= due - due / 10 && sooner >= u64::from(least) * 1_000, "{ttl}");
        }
    }
}

#[test]
fn after_bad_answers_the_pause_grows_to_a_minute_and_a_good_one_ends_it() {
    let mut found = after(answer(&["10.0.0.1"], 1));
    let (mut now, mut pauses) = (10_000, Vec::new());
    for _ in 0..9 {
        found = found.next(now, Err(LookupFault::Timeout), NONE, 0);
        assert_eq!((found.fault(), shown(&found)), (Some(LookupFault::Timeout), vec!["10.0.0.1:80".into()]));
        pauses.push(found.due(&bounds(1, 300)) - now);
        now = found.due(&bounds(1, 300));
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    assert_eq!(found.age(now), Some(Duration::from_millis(now)), "as old as the last good answer");
    found = found.next(now, answer(&["10.0.0.2"], 60), NONE, 0);
    assert_eq!((found.fault(), found.due(&bounds(1, 300))), (None, now + 60_000));
    assert_eq!(shown(&found), ["10.0.0.2:80"]);
    let first = Found::default().next(0, Err(LookupFault::Timeout), NONE, u64::MAX);
    assert_eq!((first.due(&bounds(1, 300)), first.age(9), first.is_unheard()), (1_000, None, false));
}

#[test]
fn nothing_is_not_an_answer() {
    let before = after(answer(&["10.0.0.1"], 60));
    for (bad, fault) in [
        (answer(&[], 60), LookupFault::Empty),
        (Ok(Answer { parts: Vec::new(), ttl: 60 }), LookupFault::Empty),
        (of(vec![failed(server("app", 0), false, LookupFault::NoSuchName)]), LookupFault::NoSuchName),
        (
            of(vec![
                failed(server("app", 0), false, LookupFault::Empty),
                failed(server("app", 0), true, LookupFault::Timeout),
            ]),
            LookupFault::Timeout,
        ),
        (Err(LookupFault::Broken), LookupFault::Broken),
    ] {
        let found = before.next(1, bad, NONE, 0);
        assert_eq!((found.fault(), found.endpoints()), (Some(fault), before.endpoints()));
    }
}

#[test]
fn what_failed_to_come_stays_as_it_was_and_what_is_denied_goes() {
    let app = || server("app", 0);
    let before = after(of(vec![part(app(), &["10.0.0.1"]), part(app(), &["fd00::1"])]));
    let partly =
        |fault| before.next(1, of(vec![part(app(), &["10.0.0.2"]), failed(app(), true, fault)]), NONE, 0);
    assert_eq!(shown(&partly(LookupFault::Timeout)), ["10.0.0.2:80", "[fd00::1]:80"]);
    assert_eq!(shown(&partly(LookupFault::Empty)), ["10.0.0.2:80"]);
    // Of two servers, one whose addresses cannot be had, now of another priority.
    let before = after(of(vec![part(server("a", 1), &["10.0.0.1"]), part(server("b", 2), &["10.0.0.2"])]));
    let parts =
        vec![part(server("a", 1), &["10.0.0.3"]), failed(server("b", 0), false, LookupFault::ServerFailure)];
    let found = before.next(1, of(parts), NONE, 0);
    assert_eq!(shown(&found), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(found.endpoints()[0].priority, 0);
}

#[test]
fn addresses_that_no_app_has_are_refused_and_private_ones_are_not() {
    for refused in [
        "169.254.169.254",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "fe80::1",
        "ff02::1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
    ] {
        let found = after(answer(&[refused], 60));
        assert_eq!((found.fault(), found.endpoints()), (Some(LookupFault::Forbidden), &[][..]), "{refused}");
        let found = after(answer(&[refused, "10.0.0.1"], 60));
        assert_eq!((shown(&found), found.refused()), (vec!["10.0.0.1:80".to_owned()], 1), "{refused}");
    }
    for taken in ["127.0.0.1", "127.0.0.2", "10.0.0.1", "192.168.0.1", "100.64.0.1", "::1", "fd00::1"] {
        assert_eq!(after(answer(&[taken], 60)).endpoints().len(), 1, "{taken}");
    }
    assert_eq!(shown(&after(answer(&["::ffff:10.0.0.1"], 60))), ["10.0.0.1:80"]);
    let nowhere =
        Part { server: Server { port: 0, ..server("app", 0) }, ..part(server("app", 0), &["10.0.0.1"]) };
    assert_eq!(after(of(vec![nowhere])).fault(), Some(LookupFault::Forbidden));
}

#[test]
fn no_answer_leads_to_a_listener_of_ours() {
    let own =
        ["127.0.0.1:8443", "0.0.0.0:80", "10.0.0.9:81"].map(|address| address.parse::<SocketAddr>().unwrap());
    let at = |ip: &str, port: u16| {
        let server = Server { port, ..server("app", 0) };
        Found::default().next(0, of(vec![part(server, &[ip])]), &own, 0).fault()
    };
    for (ip, port) in
        [("127.0.0.1", 8443), ("127.0.0.1", 80), ("127.9.9.9", 80), ("::1", 80), ("10.0.0.9", 81)]
    {
        assert_eq!(at(ip, port), Some(LookupFault::Forbidden), "{ip} {port}");
    }
    for (ip, port) in [("127.0.0.2", 8443), ("192.0.2.7", 80), ("127.0.0.1", 81), ("10.0.0.9", 8443)] {
        assert_eq!(at(ip, port), None, "{ip} {port}");
    }
}

#[test]
fn of_too_many_addresses_the_same_ones_are_used_each_time() {
    let mut ips: Vec<String> = (0..1_000).map(|n: u32| format!("10.0.{}.{}", n / 250, 1 + n % 250)).collect();
    let look = |ips: &[String]| {
        let ips: Vec<_> = ips.iter().map(String::as_str).collect();
        after(answer(&ips, 60))
    };
    let found = look(&ips);
    assert_eq!((found.endpoints().len(), found.left_out()), (MOST, 1_000 - MOST));
    ips.reverse();
    assert_eq!(look(&ips), found);
    assert_eq!(after(answer(&["10.0.0.1", "10.0.0.1"], 60)).endpoints().len(), 1, "once each");
}
