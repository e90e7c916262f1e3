//! A real ACME server: Pebble, with its own DNS (`pebble-challtestsrv`), both on loopback.

use std::process::{Command, Stdio};

use super::guarded::{Guarded, Scratch};
use super::{accepts, free_port, peers, wait_for};

/// How this Pebble behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where it validates HTTP-01, on the host that DNS says.
    pub http_port: u16,
    /// Where it validates TLS-ALPN-01.
    pub tls_port: u16,
    /// Lifetime of what it issues.
    pub validity_seconds: u64,
    /// Share of good nonces that it refuses, in percent; 0 is kind, 5 is Pebble's own habit.
    pub nonce_rejections: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self { http_port: 0, tls_port: 0, validity_seconds: 7_776_000, nonce_rejections: 5 }
    }
}

/// The server and its DNS. Dropping it stops both.
pub struct Pebble {
    _pebble: Guarded,
    _dns: Guarded,
    port: u16,
    management_port: u16,
    dns_port: u16,
    scratch: Scratch,
}

impl Pebble {
    /// Starts both; none when one of them is missing.
    pub fn start(options: Options) -> Option<Self> {
        let (pebble, dns) = (peers::peer_text("pebble")?, peers::peer_text("pebble-challtestsrv")?);
        peers::peer("curl")?;
        for _ in 0..5 {
            if let Some(started) = Self::try_start(&pebble, &dns, options) {
                return Some(started);
            }
        }
        panic!("Pebble does not start")
    }

    fn try_start(pebble: &str, dns: &str, options: Options) -> Option<Self> {
        let scratch = Scratch::new("wicketgate-pebble-");
        let [port, management_port, dns_port, control_port] = [(); 4].map(|()| free_port());
        let dns_address = format!("127.0.0.1:{dns_port}");
        let control = format!("127.0.0.1:{control_port}");
        let command = [
            dns,
            "-dnsserver",
            &dns_address,
            "-management",
            &control,
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-doh",
            "",
        ];
        let dns = Guarded::start(&scratch, "dns", "KILL", &command, &[]);
        let config = Self::config(&scratch, port, management_port, options);
        let command = [pebble, "-config", &config, "-dnsserver", &dns_address, "-strict"];
        let rejections = options.nonce_rejections.to_string();
        let environment = [
            ("PEBBLE_VA_NOSLEEP", "1"),
            ("PEBBLE_WFE_NONCEREJECT", &*rejections),
            ("PEBBLE_AUTHZREUSE", "0"),
        ];
        let pebble = Guarded::start(&scratch, "pebble", "KILL", &command, &environment);
        let up = wait_for("Pebble to start", || {
            if [port, management_port, control_port].into_iter().all(accepts) {
                return Some(true);
            }
            (!pebble.is_running() || !dns.is_running()).then_some(false)
        });
        if !up {
            eprintln!("{}\n{}", pebble.log(), dns.log());
            return None;
        }
        Some(Self { _pebble: pebble, _dns: dns, port, management_port, dns_port: control_port, scratch })
    }

    /// Writes Pebble's configuration and the certificate of its own API.
    fn config(scratch: &Scratch, port: u16, management_port: u16, options: Options) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters =
            rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        // An authority of its own: a leaf that is its own root is refused by some verifiers.
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Root of this Pebble's API");
        let authority = rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap();
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&leaf_key, &authority).unwrap();
        scratch.write("api-root.pem", authority.pem());
        let validity = options.validity_seconds;
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management_port}"),
            "certificate": scratch.write("api.pem", leaf.pem()),
            "privateKey": scratch.write("api.key", leaf_key.serialize_pem()),
            "httpPort": options.http_port,
            "tlsPort": options.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "domainBlocklist": ["blocked.example"],
            "retryAfter": { "authz": 1, "order": 1 },
            "profiles": {
                "default": { "description": "The profile of every order that names none", "validityPeriod": validity },
                "shortlived": { "description": "Six days", "validityPeriod": 518_400 },
            },
        }});
        scratch.write("pebble.json", config.to_string())
    }

    /// URL of the directory.
    pub fn directory_url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// PEM file with the root under which the API itself is verified.
    pub fn api_root_file(&self) -> std::path::PathBuf {
        self.scratch.path().join("api-root.pem")
    }

    /// PEM of the root under which it issues; a new one each start.
    pub fn issuing_root_pem(&self) -> String {
        self.curl(&format!("https://127.0.0.1:{}/roots/0", self.management_port), None)
    }

    /// From now on `host` resolves to nothing but an error.
    pub fn break_dns(&self, host: &str) {
        self.dns("set-servfail", host);
    }

    /// Undoes [`Pebble::break_dns`].
    pub fn mend_dns(&self, host: &str) {
        self.dns("clear-servfail", host);
    }

    fn dns(&self, act: &str, host: &str) {
        let body = serde_json::json!({ "host": format!("{host}.") }).to_string();
        self.curl(&format!("http://127.0.0.1:{}/{act}", self.dns_port), Some(&body));
    }

    fn curl(&self, url: &str, body: Option<&str>) -> String {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--cacert"])
            .arg(self.api_root_file())
            .args(body.map(|body| ["--data", body]).into_iter().flatten())
            .arg(url)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn pebble_comes_up_with_a_root_and_a_dns() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    assert!(pebble.issuing_root_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    let directory = pebble.curl(&pebble.directory_url(), None);
    assert!(directory.contains("newOrder") && directory.contains("renewalInfo"), "{directory}");
    pebble.break_dns("app.example");
    pebble.mend_dns("app.example");
}
