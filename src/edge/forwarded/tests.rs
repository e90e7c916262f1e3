use http::HeaderName;

use super::*;

const PEER: &str = "10.0.0.1";

fn ask(lines: &[(HeaderName, &str)]) -> Result<Option<Chain>, BadChain> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let trusted: Networks = ["10.0.0.0/8", "fd00::/8"]
        .iter()
        .map(|text| text.parse::<crate::domain::Network>().unwrap())
        .collect();
    read(&headers, PEER.parse().unwrap(), &trusted)
}

fn chain(visitor: &str, forwarded: &str, forwarded_for: &str) -> Option<Chain> {
    let visitor = visitor.parse().unwrap();
    Some(Chain { visitor, forwarded: forwarded.into(), forwarded_for: forwarded_for.into() })
}

#[test]
fn the_nearest_address_that_is_no_proxys_is_the_visitors() {
    for (value, visitor, forwarded, forwarded_for) in [
        ("for=192.0.2.7", "192.0.2.7", "for=192.0.2.7", "192.0.2.7"),
        ("for=192.0.2.7, for=10.0.0.9", "192.0.2.7", "for=192.0.2.7, for=10.0.0.9", "192.0.2.7, 10.0.0.9"),
        // What the visitor has written before its proxy ends here.
        ("for=198.51.100.1, For=192.0.2.7;Proto=http", "192.0.2.7", "for=192.0.2.7", "192.0.2.7"),
        (
            "for=\"[2001:db8::7]:4711\";by=10.0.0.9;host=\"a, \\\"b;\"\t,\tfor=\"[fd00::1]\"",
            "2001:db8::7",
            "for=\"[2001:db8::7]\", for=\"[fd00::1]\"",
            "2001:db8::7, fd00::1",
        ),
        ("for=\"192.0.2.7:80\"", "192.0.2.7", "for=192.0.2.7", "192.0.2.7"),
        ("for=\"[::ffff:192.0.2.7]\"", "192.0.2.7", "for=192.0.2.7", "192.0.2.7"),
        // Nobody but proxies: the farthest.
        ("for=10.9.9.9, for=10.0.0.9", "10.9.9.9", "for=10.9.9.9, for=10.0.0.9", "10.9.9.9, 10.0.0.9"),
        // A name hides what is behind it.
        (
            "for=192.0.2.7, for=_gazonk, for=10.0.0.9",
            "10.0.0.9",
            "for=_gazonk, for=10.0.0.9",
            "unknown, 10.0.0.9",
        ),
        ("for=192.0.2.7, for=unknown", PEER, "for=unknown", "unknown"),
        ("for=192.0.2.7, proto=https", PEER, "for=unknown", "unknown"),
    ] {
        assert_eq!(ask(&[(FORWARDED, value)]), Ok(chain(visitor, forwarded, forwarded_for)), "{value}");
    }
    for (value, visitor, forwarded_for) in [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("198.51.100.1,192.0.2.7:4711 , 10.0.0.9", "192.0.2.7", "192.0.2.7, 10.0.0.9"),
        ("[2001:db8::7]:80, fd00::1", "2001:db8::7", "2001:db8::7, fd00::1"),
        ("2001:db8::7, [fd00::1]", "2001:db8::7", "2001:db8::7, fd00::1"),
        ("192.0.2.7, unknown", PEER, "unknown"),
    ] {
        let found = ask(&[(X_FORWARDED_FOR, value)]).unwrap().unwrap();
        assert_eq!(found.visitor.to_string(), visitor, "{value}");
        assert_eq!(found.forwarded_for, forwarded_for, "{value}");
    }
    assert_eq!(ask(&[]), Ok(None));
}

#[test]
fn a_field_in_several_lines_is_one_chain() {
    let lines =
        [(X_FORWARDED_FOR, "198.51.100.1"), (X_FORWARDED_FOR, "192.0.2.7"), (X_FORWARDED_FOR, "10.0.0.9")];
    assert_eq!(ask(&lines).unwrap().unwrap().visitor.to_string(), "192.0.2.7");
}

#[test]
fn a_malformed_hop_that_has_to_be_read_names_nobody() {
    for value in [
        "",
        ",",
        "for=192.0.2.7,",
        ",for=10.0.0.9",
        "for=192.0.2.7,,for=10.0.0.9",
        "for",
        "for=",
        "for =192.0.2.7",
        "for= 192.0.2.7",
        "for=192.0.2.7; proto=http",
        "for=192.0.2.7;",
        "for=192.0.2.7;for=198.51.100.1",
        "for=192.0.2.7;FOR=198.51.100.1",
        "for=192.0.2.7 for=198.51.100.1",
        "for=[2001:db8::7]",
        "for=2001:db8::7",
        "for=\"2001:db8::7\"",
        "for=\"[2001:db8::7]80\"",
        "for=\"[2001:db8::7\"",
        "for=\"[192.0.2.7]\"",
        "for=\"[fe80::1%1]\"",
        "for=\"192.0.2.7",
        "for=\"192.0.2.7\\",
        "for=\"192.0.2.\\7\"",
        "for=192.0.2.07",
        "for=\"192.0.2.7:\"",
        "for=\"192.0.2.7:65536\"",
        "for=\"192.0.2.7:+80\"",
        "for=\"192.0.2.7:000080\"",
        "for=_",
        "for=hidden",
        "for=\"_a b\"",
    ] {
        let good = (X_FORWARDED_FOR, "192.0.2.7");
        assert_eq!(ask(&[(FORWARDED, value), good]), Err(BadChain::Malformed), "{value:?}");
    }
    for value in
        ["", ",", "192.0.2.7,", "192.0.2.7;10.0.0.9", "192.0.2.7 10.0.0.9", "192.0.2.7:", "_a", "::1]"]
    {
        assert_eq!(ask(&[(X_FORWARDED_FOR, value)]), Err(BadChain::Malformed), "{value:?}");
    }
    let many = vec!["10.0.0.9"; MOST_HOPS + 1].join(",");
    assert_eq!(ask(&[(X_FORWARDED_FOR, &many)]), Err(BadChain::TooLong));
    let parameters: Vec<_> = (0..=MOST_PARAMETERS).map(|number| format!("x{number}=1")).collect();
    assert_eq!(ask(&[(FORWARDED, &parameters.join(";"))]), Err(BadChain::TooLong));
}

#[test]
fn two_fields_count_only_where_they_agree() {
    let forwarded = (FORWARDED, "for=192.0.2.7;proto=https");
    let agreed = ask(&[forwarded.clone(), (X_FORWARDED_FOR, "203.0.113.5, 192.0.2.7")]);
    assert_eq!(agreed, Ok(chain("192.0.2.7", "for=192.0.2.7", "192.0.2.7")));
    let spoofed = ask(&[forwarded, (X_FORWARDED_FOR, "203.0.113.5")]);
    assert_eq!(spoofed, Err(BadChain::Contradiction));
}

#[test]
fn what_stands_left_of_the_visitor_is_of_no_matter() {
    let many = vec!["1"; 10 * MOST_HOPS].join(",");
    for left in ["", ",", "for=\"", "\"", "\\\"", "for=_;for=_", "\u{fc}", "for=\"a, b\\\"", many.as_str()] {
        let (standard, older) =
            (format!("{left}, for=\"192.0.2.7:80\";host=\"a,\\\",b\", for=10.0.0.9"), left);
        let expected = Ok(chain("192.0.2.7", "for=192.0.2.7, for=10.0.0.9", "192.0.2.7, 10.0.0.9"));
        assert_eq!(ask(&[(FORWARDED, &standard)]), expected, "{left}");
        let older = format!("{older},192.0.2.7:80, 10.0.0.9");
        assert_eq!(ask(&[(X_FORWARDED_FOR, &older)]), expected, "{left}");
        let lines = [(FORWARDED, left), (FORWARDED, "for=192.0.2.7, for=10.0.0.9")];
        assert_eq!(ask(&lines), expected, "{left}");
    }
}

#[test]
fn what_stands_left_of_a_proxy_counts() {
    for left in ["for=\"", "for=\"192.0.2.7", "for=192.0.2.7\"", "\u{fc}"] {
        let standard = format!("{left}, for=10.0.0.9");
        assert_eq!(ask(&[(FORWARDED, &standard)]), Err(BadChain::Malformed), "{left}");
    }
}
