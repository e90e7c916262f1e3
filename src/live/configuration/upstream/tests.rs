//! What is written about upstreams, and what is not taken.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;
use crate::domain::upstream::{Protocol, TlsOptions};
use crate::live::TlsPolicy;

fn authority() -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn compiled(targets: &[&str], options: UpstreamOptions) -> Result<Upstream, String> {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    let data = UpstreamData { name: "app".parse().unwrap(), targets, options };
    let policy = TlsPolicy::modern();
    compile(&data, &mut Roots::new(&policy)).map_err(|fault| fault.to_string())
}

#[test]
fn targets_are_read_as_they_are_written() {
    let read = |text: &str| {
        let target = parse_target(text).unwrap();
        (target.place, target.tls_name.is_some(), target.authority.to_str().unwrap().to_owned())
    };
    let tcp = |host: &str, port| Place::Tcp { host: host.to_owned(), port };
    assert_eq!(read("http://app"), (tcp("app", 80), false, "app".into()));
    assert_eq!(read("http://app:443"), (tcp("app", 443), false, "app:443".into()));
    assert_eq!(read("https://app"), (tcp("app", 443), true, "app".into()));
    assert_eq!(read("https://app:80/"), (tcp("app", 80), true, "app:80".into()));
    assert_eq!(read("https://[::1]:8443"), (tcp("::1", 8443), true, "[::1]:8443".into()));
    let socket = Place::Unix("/run/app/app.sock".into());
    assert_eq!(read("unix:/run/app/app.sock"), (socket, false, "localhost".into()));
}

#[test]
fn what_is_no_target_is_said_to_be_none() {
    let long = format!("unix:/{}", "a".repeat(LONGEST_PATH));
    for text in [
        "",
        "app:80",
        "ftp://app",
        "https://",
        "https://app/path",
        "https://app?query",
        "https://user@app",
        "https://app#part",
        "unix:run/app.sock",
        "unix://run/app.sock",
        "unix:/run/",
        "unix:/",
        "unix:",
        "unix:/run/app\0.sock",
        "unix:/run/app\n.sock",
        &long,
    ] {
        let why = parse_target(text).unwrap_err();
        assert!(why.contains(&format!("{text:?}")), "{text:?}: {why}");
    }
}

#[test]
fn authorities_are_certificates_in_pem() {
    let with = |ca: &str| {
        let tls = TlsOptions { ca: Some(ca.to_owned()), ..TlsOptions::default() };
        compiled(&["https://app"], UpstreamOptions { tls: Some(tls), ..UpstreamOptions::default() })
    };
    let one = authority();
    assert!(with(&one).is_ok());
    assert!(with(&format!("{one}{}", authority())).is_ok());
    let noise = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for ca in ["", "no certificate", noise, &format!("{one}{noise}"), &one[..one.len() / 2]] {
        assert!(with(ca).unwrap_err().contains("/tls/ca"), "{ca}");
    }
}

#[test]
fn tls_follows_from_the_targets_and_is_not_compared() {
    let tls = TlsOptions { ca: Some(authority()), present_certificate: true, ..TlsOptions::default() };
    let options = UpstreamOptions { tls: Some(tls), protocol: Protocol::Http2, ..UpstreamOptions::default() };
    let upstream = compiled(&["https://app"], options.clone()).unwrap();
    assert!(upstream.presents_certificate());
    assert!(
        upstream.tls.as_ref().is_some_and(|tls| tls.anonymous().is_none()),
        "never without a certificate"
    );
    assert_eq!(upstream, compiled(&["https://app"], options.clone()).unwrap());
    assert_ne!(upstream, compiled(&["https://app:444"], options.clone()).unwrap());
    let plain = compiled(&["http://app", "unix:/run/app"], UpstreamOptions::default()).unwrap();
    assert!(plain.tls.is_none());
    assert!(compiled(&["https://app", "http://app"], options).unwrap_err().contains("/tls"));
}

#[test]
fn the_name_to_prove_is_the_hosts_or_the_one_that_is_said() {
    let name = |server_name: Option<&str>| {
        let server_name = server_name.map(str::to_owned);
        let tls = TlsOptions { ca: Some(authority()), server_name, ..TlsOptions::default() };
        let options = UpstreamOptions { tls: Some(tls), ..UpstreamOptions::default() };
        let upstream = compiled(&["https://10.0.0.1:8443"], options).unwrap();
        upstream.tls.unwrap().name(&upstream.targets[0]).unwrap().to_str().into_owned()
    };
    assert_eq!(name(None), "10.0.0.1");
    assert_eq!(name(Some("app.internal")), "app.internal");
}
