use proptest::prelude::*;

use super::v2::{FIXED, SIGNATURE};
use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn visitor(source: &str, destination: &str) -> Said {
    Said::Visitor { source: address(source), destination: address(destination) }
}

/// Version 2 with these octets behind the signature, and the right length before the body.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 1, 187];

#[test]
fn a_line_says_who_visits() {
    let whole = |line: &str| parse(line.as_bytes()).unwrap();
    let line = "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\nGET";
    assert_eq!(whole(line), Parsed::Whole(visitor("192.0.2.7:12345", "10.0.0.1:443"), line.len() - 3));
    let line = "PROXY TCP6 2001:db8::7 ::ffff:10.0.0.1 0 65535\r\n";
    assert_eq!(whole(line), Parsed::Whole(visitor("[2001:db8::7]:0", "10.0.0.1:65535"), line.len()));
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 what ever\t\r\n"] {
        assert_eq!(whole(line), Parsed::Whole(Said::Nothing, line.len()), "{line:?}");
    }
}

#[test]
fn a_line_that_could_be_read_in_two_ways_is_refused() {
    for (line, why) in [
        ("PROXY\tTCP4 192.0.2.7 10.0.0.1 1 2\r\n", BadHeader::Missing),
        ("proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n", BadHeader::Missing),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n", BadHeader::Line),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\r\n", BadHeader::Port),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", BadHeader::Line),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n", BadHeader::Line),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n", BadHeader::Line),
        ("PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n", BadHeader::Line),
        ("PROXY TCP4 192.0.2.7  10.0.0.1 1 2\r\n", BadHeader::Line),
        ("PROXY TCP4 192.0.2.7\t10.0.0.1 1 2 3\r\n", BadHeader::Address),
        ("PROXY TCP4 192.0.2.007 10.0.0.1 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n", BadHeader::Address),
        ("PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n", BadHeader::Address),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", BadHeader::Address),
        ("PROXY TCP6 fe80::1%1 ::1 1 2\r\n", BadHeader::Address),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n", BadHeader::Port),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n", BadHeader::Port),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n", BadHeader::Port),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n", BadHeader::Port),
        ("PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n", BadHeader::Family),
        ("PROXY UNKNOWNS 192.0.2.7 10.0.0.1 1 2\r\n", BadHeader::Family),
        ("PROXY UNKNOWN \rPROXY\r\n", BadHeader::Line),
        ("GET / HTTP/1.1\r\n", BadHeader::Missing),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(why), "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!((long.len(), parse(long.as_bytes())), (107, Ok(Parsed::Whole(Said::Nothing, 107))));
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15));
    assert_eq!(parse(longer.as_bytes()), Err(BadHeader::TooLong));
    assert_eq!(parse(format!("PROXY UNKNOWN {}", "x".repeat(93)).as_bytes()), Err(BadHeader::TooLong));
}

#[test]
fn version_2_says_who_visits_or_nothing() {
    let header = v2(0x21, 0x11, &FOUR);
    let said = visitor("192.0.2.7:12345", "10.0.0.1:443");
    assert_eq!(parse(&[&header[..], b"\x16\x03"].concat()), Ok(Parsed::Whole(said, header.len())));
    for (command, family, body) in [
        (0x20, 0x00, &[][..]),
        // A health check of haproxy's, with whatever it has in its pockets.
        (0x20, 0x11, &FOUR),
        (0x20, 0xff, &[1, 2, 3]),
        (0x21, 0x00, &[]),
        (0x21, 0x31, &[7; 216]),
    ] {
        let header = v2(command, family, body);
        assert_eq!(parse(&header), Ok(Parsed::Whole(Said::Nothing, header.len())), "{command:x} {family:x}");
    }
}

#[test]
fn version_2_that_lies_about_itself_is_refused() {
    let extended = |extensions: &[u8]| v2(0x21, 0x11, &[&FOUR[..], extensions].concat());
    for (header, why) in [
        (v2(0x11, 0x11, &FOUR), BadHeader::Version),
        (v2(0x22, 0x11, &FOUR), BadHeader::Command),
        (v2(0x21, 0x12, &FOUR), BadHeader::Family),
        (v2(0x21, 0x13, &FOUR), BadHeader::Family),
        (v2(0x21, 0x41, &FOUR), BadHeader::Family),
        (v2(0x21, 0x11, &FOUR[..11]), BadHeader::Length),
        (v2(0x21, 0x21, &FOUR), BadHeader::Length),
        (v2(0x21, 0x31, &[7; 215]), BadHeader::Length),
        (v2(0x20, 0x00, &[0; 4097]), BadHeader::TooLong),
        (extended(&[4]), BadHeader::Extension),
        (extended(&[4, 0]), BadHeader::Extension),
        (extended(&[4, 0, 1]), BadHeader::Extension),
        (extended(&[4, 0, 0, 2, 0xff, 0xff]), BadHeader::Extension),
        (extended(&[0x20, 0, 4, 1, 0, 0, 0]), BadHeader::Extension),
        (extended(&[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 1]), BadHeader::Extension),
        (extended(&[3, 0, 3, 0, 0, 0]), BadHeader::Extension),
        (extended(&[3, 0, 4, 0, 0, 0, 0]), BadHeader::Checksum),
        ([&SIGNATURE[..11], b"\r"].concat(), BadHeader::Missing),
    ] {
        assert_eq!(parse(&header), Err(why), "{header:x?}");
        // Nor is it ever thought to be whole earlier.
        for cut in 0..header.len() {
            assert!(!matches!(parse(&header[..cut]), Ok(Parsed::Whole(..))), "{header:x?} at {cut}");
        }
    }
    // What cannot become right is refused before its body is there.
    assert_eq!(parse(&v2(0x21, 0x12, &FOUR)[..FIXED]), Err(BadHeader::Family));
    assert_eq!(parse(&v2(0x20, 0, &[0; 4097])[..FIXED]), Err(BadHeader::TooLong));
}

#[test]
fn a_checksum_counts_wherever_it_stands() {
    for (before, behind) in [(&[][..], &[][..]), (&[4, 0, 1, 9], &[]), (&[4, 0, 0], &[2, 0, 1, b'a'])] {
        let at = FIXED + FOUR.len() + before.len() + 3;
        let mut header = v2(0x21, 0x11, &[&FOUR[..], before, &[3, 0, 4, 0, 0, 0, 0], behind].concat());
        let sum = crc32c::of([&header, b"", b""]);
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        assert!(matches!(parse(&header), Ok(Parsed::Whole(Said::Visitor { .. }, _))));
        header[FIXED] ^= 1;
        assert_eq!(parse(&header), Err(BadHeader::Checksum));
    }
}

#[test]
fn a_certificate_goes_along_unless_it_is_too_long_for_others() {
    let (from, to) = (address("192.0.2.7:1"), address("[2001:db8::1]:443"));
    let write = |length: usize| {
        let certificate = vec![0x30; length];
        let client = Client { common_name: "a device", certificate: &certificate };
        write_v2(from, to, Some(Tls { version: "TLSv1.3", client: Some(client) }))
    };
    for (length, is_there) in [(900, true), (4000, true), (4050, false), (100_000, false)] {
        let header = write(length);
        let said = Said::Visitor { source: from, destination: to };
        assert_eq!(parse(&header), Ok(Parsed::Whole(said, header.len())), "{length}");
        assert_eq!(header.len() > length, is_there, "{length}");
        assert!(header.windows(8).any(|octets| octets == b"a device"));
    }
    let anonymous = write_v2(from, from, Some(Tls { version: "TLSv1.2", client: None }));
    // SSL, not verified, the version; no certificate.
    assert_eq!(anonymous[FIXED + 12..], *b"\x20\0\x0f\x01\0\0\0\x01\x21\0\x07TLSv1.2");
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same_however_it_is_cut(
        source in any_address(),
        destination in any_address(),
        behind in proptest::collection::vec(any::<u8>(), 0..64),
        cut in any::<proptest::sample::Index>(),
    ) {
        let said = Said::Visitor { source, destination };
        let tls = Tls { version: "TLSv1.3", client: None };
        for header in [
            write_v1(source, destination).into_bytes(),
            write_v2(source, destination, None),
            write_v2(source, destination, Some(tls)),
        ] {
            prop_assert_eq!(parse(&header[..cut.index(header.len())]), Ok(Parsed::Partial));
            let whole = [&header[..], &behind].concat();
            prop_assert_eq!(parse(&whole), Ok(Parsed::Whole(said, header.len())));
        }
    }

    #[test]
    fn any_octets_have_one_verdict_that_more_of_them_do_not_change(
        begins in 0..3_usize,
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let octets = [[&b""[..], b"PROXY TCP4 ", &SIGNATURE][begins], &rest[..]].concat();
        let whole = parse(&octets);
        for cut in 0..octets.len() {
            match parse(&octets[..cut]) {
                Ok(Parsed::Partial) => {}
                early => prop_assert_eq!(early, whole),
            }
        }
    }
}
