//! Every kind of fault, the order in which sources win, and that no input is too odd.

use std::time::Duration;

use proptest::prelude::*;

use super::fault::ConfigFaults;
use super::raw::RawConfig;
use super::*;

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn faults(text: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    match Config::parse(text, &env(pairs)) {
        Ok(_) => Vec::new(),
        Err(ConfigFaults(list)) => list.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn nothing_at_all_gives_the_documented_defaults() {
    let config = Config::parse("", &env(&[])).unwrap();
    assert!(config.admin.listen.ip().is_loopback());
    assert!(config.health.listen.ip().is_loopback());
    assert_eq!(config.edge.max_stale, Duration::from_secs(86_400));
    assert_eq!(config.edge.tls.suites, Suite::MODERN);
    assert!(matches!(&config.database.url, DatabaseUrl::Sqlite(path) if path.ends_with("wicketgate.db")));
    assert!(config.smtp.is_none() && !config.acme.enabled);
}

#[test]
fn limits_of_the_edge_are_generous_unless_they_are_said_and_none_at_zero() {
    let limits = Config::parse("", &env(&[])).unwrap().edge.limits;
    let host = |address: &str| address.parse::<std::net::IpAddr>().unwrap();
    let is_exempt = |address| limits.exempt.contains(host(address));
    assert!(is_exempt("127.0.0.1") && is_exempt("::1") && !is_exempt("192.0.2.1"));
    assert!(limits.connections_per_source.is_some_and(|most| most.get() >= 1_000));
    assert_eq!(limits.requests_per_second_per_person, None);
    let text = "[edge.limits]\nhandshakes_per_second = 0\nexempt = [\"192.0.2.0/24\", \"2001:db8::1\"]";
    let limits = Config::parse(text, &env(&[])).unwrap().edge.limits;
    assert_eq!(limits.handshakes_per_second, None);
    let exempt: Vec<_> = limits.exempt.iter().map(ToString::to_string).collect();
    assert_eq!(exempt, ["192.0.2.0/24", "2001:db8::1"]);
}

/// (file, fault). One row for every kind of fault of a single value.
const FAULTS: &[(&str, &str)] = &[
    ("colour = 1", "colour: unknown key"),
    ("[edge]\nthread = 1", "edge.thread: unknown key (did you mean edge.threads?)"),
    ("[admin]\ndirectory_url = \"x\"", "admin.directory_url: unknown key (did you mean acme.directory_url?)"),
    ("[egde]\nthreads = 1", "egde: unknown key (did you mean edge?)"),
    ("edge = 1", "edge = \"1\": must be a table, is a whole number"),
    ("[edge]\nthreads = \"4\"", "edge.threads = \"4\": must be a whole number, is text"),
    ("[telemetry.otlp]\nsample_ratio = 2", "telemetry.otlp.sample_ratio = \"2\": must be 0..=1"),
    (
        "[telemetry.otlp]\nsample_ratio = \"all\"",
        "telemetry.otlp.sample_ratio = \"all\": must be a number, is text",
    ),
    (
        "[telemetry.otlp]\nendpoint = \"https://a\"",
        "telemetry.otlp.endpoint = \"https://a\": must be http://host or http://host:port, without a path",
    ),
    ("[edge]\nthreads = 0", "edge.threads = \"0\": must be 1..=256"),
    ("[edge]\nthreads = 1.5", "edge.threads = \"1.5\": must be a whole number, is a fraction"),
    ("[admin]\nuid = -1", "admin.uid = \"-1\": must be 0..=4294967295"),
    ("[edge]\nhandshake_timeout_ms = 0", "edge.handshake_timeout_ms = \"0\": must be 100..=60000"),
    ("[edge]\nhttps = \"[::]:443\"", "edge.https = \"[::]:443\": must be a list, is text"),
    ("[edge]\nhttps = []", "edge.https: must name at least one address"),
    (
        "[edge]\nhttps = [\"127.0.0.1:1\", \"x\"]",
        "edge.https[1] = \"x\": must be an IP address and a port, such as 127.0.0.1:8443 or [::]:443",
    ),
    (
        "[edge.limits]\nexempt = [\"10.0.0.1\", \"10.0.0.0/33\"]",
        "edge.limits.exempt[1] = \"10.0.0.0/33\": must be an address or a network such as 10.0.0.0/8 or 2001:db8::/32, with no bit set behind the prefix",
    ),
    (
        "[edge.limits]\nconnections_per_source = 1000001",
        "edge.limits.connections_per_source = \"1000001\": must be 0..=1000000",
    ),
    (
        "[edge]\nproxy_protocol_from = [\"10.0.0.1/8\"]",
        "edge.proxy_protocol_from[0] = \"10.0.0.1/8\": must be a network; perhaps 10.0.0.0/8 is meant",
    ),
    ("[edge]\ntrusted_proxies = [\"::/0\"]", "edge.trusted_proxies[0] = \"::/0\": must not be everybody"),
    ("[edge]\nhttps = [7]", "edge.https[0] = \"7\": must be text in quotes, is a whole number"),
    ("[acme]\nenabled = 1", "acme.enabled = \"1\": must be true or false, is a whole number"),
    (
        "[acme]\nchallenge = \"http01\"",
        "acme.challenge = \"http01\": must be one of http-01, tls-alpn-01 (did you mean http-01?)",
    ),
    ("[acme]\ncontact = \"ops\"", "acme.contact = \"ops\": must be a mail address such as ops@example.com"),
    (
        "[acme]\ndirectory_url = \"http://a/\"",
        "acme.directory_url = \"http://a/\": must be a URL that starts with https://",
    ),
    (
        "[acme]\nenabled = true",
        "acme.terms_agreed = \"false\": must be true for certificates to be ordered: read the terms of the ACME server first",
    ),
    (
        "[database]\nurl = \"mysql://u:hunter2@h/d\"",
        "database.url = \"mysql://u:[redacted]@h/d\": must be sqlite:<path> or postgres://user:password@host/name",
    ),
    (
        "[database]\nurl = \"sqlite::memory:\"",
        "database.url = \"sqlite::memory:\": must be a file; a database in memory forgets who was revoked",
    ),
    (
        "[database]\nurl_file = \"/nonexistent\"",
        "database.url_file = \"/nonexistent\": cannot be read: No such file or directory (os error 2)",
    ),
    (
        "[door]\nhost = \"door:443\"",
        "door.host = \"door:443\": must be a host name such as app.example.com (no port, no IP address; IDNs as xn--…)",
    ),
    (
        "[pki]\nbase_url = \"https://a/\"",
        "pki.base_url = \"https://a/\": must be http://host or http://host:port, without a path",
    ),
    ("[smtp]\npassword = 5", "smtp.password: must be text in quotes, is a whole number"),
    ("[smtp]\npassword = \"hunter2\"", "smtp.password: needs smtp.host"),
    ("[smtp]\nhost = \"m.example\"", "smtp.from: must be set when smtp.host is"),
    (
        "[smtp]\nhost = \"m.example\"\nfrom = \"Gate <>\"",
        "smtp.from = \"Gate <>\": must be a mail address, or a name and an address such as Gate <gate@example.com>",
    ),
    (
        "[smtp]\nhost = \"m.example\"\nfrom = \"a@b.example\"\nusername = \"a\"",
        "smtp.password: must be set when smtp.username is",
    ),
    (
        "[smtp]\nhost = \"m.example\"\nfrom = \"a@b.example\"\nusername = \"a\"\npassword = \"b\"\nencryption = \"none\"",
        "smtp.encryption = \"none\": must be starttls or implicit: the password would travel in the clear",
    ),
    (
        "[keys]\nserver_key = \"a\"\nserver_key_file = \"b\"",
        "keys.server_key: set either this or keys.server_key_file, not both",
    ),
    (
        "[edge.dns]\nservers = [\"10.0.0.2\"]",
        "edge.dns.servers[0] = \"10.0.0.2\": must be an IP address and a port, such as 127.0.0.1:8443 or [::]:443",
    ),
    (
        "[edge.dns]\nservers = [\"0.0.0.0:53\"]",
        "edge.dns.servers: must name addresses that can be asked, with their ports, such as 10.0.0.2:53",
    ),
    ("[edge.tls]\nversions = []", "edge.tls.versions: must name at least one version"),
    (
        "[edge.tls]\nversions = [\"1.1\"]",
        "edge.tls.versions[0] = \"1.1\": must be one of 1.3, 1.2 (did you mean 1.2?)",
    ),
    (
        "[edge.tls]\nsuites = [\"TLS_AES_128_GCM_SHA256\"]",
        "edge.tls.suites: must name a suite of every version; none is of 1.2",
    ),
    (
        "[telemetry]\nfilter = \"wicketgate=loud=\"",
        "telemetry.filter = \"wicketgate=loud=\": must be a filter such as info or info,wicketgate::edge=debug",
    ),
    (
        "[admin]\nlisten = \"127.0.0.1:8081\"",
        "health.listen = \"127.0.0.1:8081\": is the address of admin.listen already",
    ),
    (
        "[server]\nname = \"\"",
        "server.name = \"\": must be 1 to 64 characters, none of them a control character, no space at either end",
    ),
];

#[test]
fn each_fault_names_key_value_and_reason() {
    for (text, expected) in FAULTS {
        let found = faults(text, &[]);
        assert!(found.iter().any(|line| line == expected), "{text}\nfound: {found:#?}\nexpected: {expected}");
    }
}

#[test]
fn all_faults_come_at_once() {
    let text =
        "[edge]\nthreads = 0\nbogus = 1\n[acme]\ncontact = \"ops\"\nenabled = true\n[door]\nhost = \"-\"";
    assert_eq!(faults(text, &[("WICKETGATE_SMTP__PORT", "many")]).len(), 6);
}

#[test]
fn a_broken_file_is_named_by_line_and_shows_none_of_it() {
    let found = faults("[smtp]\npassword = \"hunter2", &[("WICKETGATE_EDGE__THREADS", "0")]);
    assert!(found[0].starts_with("line 2, column "), "{found:?}");
    assert!(!found.concat().contains("hunter2"));
    assert!(found[1].ends_with("(from WICKETGATE_EDGE__THREADS)"), "the rest is checked too: {found:?}");
}

#[test]
fn no_fault_shows_a_secret() {
    let secret = "hunter2-hunter2";
    for text in [
        format!("[smtp]\npasword = \"{secret}\""),
        format!("[smtp]\npassword = [\"{secret}\"]"),
        format!("smtp = \"{secret}"),
        format!("[keys]\nserver_key = {{ text = \"{secret}\" }}"),
        format!("[smtp]\npassword = \"{secret}\"\nusername = 4"),
        format!("[database]\nurl = \"postgre://u:{secret}@h/d\""),
    ] {
        let found = faults(&text, &[]).join("\n");
        assert!(!found.is_empty() && !found.contains(secret), "{text}: {found}");
    }
}

#[test]
fn the_environment_wins_and_is_named_in_faults() {
    let file = "[edge]\nthreads = 2\nhttp = [\"127.0.0.1:80\"]\n[smtp]\nhost = \"m.example\"\nfrom = \"a@b.example\"\nusername = \"u\"\npassword_file = \"/nonexistent\"";
    let config = Config::parse(
        file,
        &env(&[
            ("WICKETGATE_EDGE__THREADS", "8"),
            ("WICKETGATE_EDGE__HTTP", ""),
            ("WICKETGATE_EDGE__HTTPS", "127.0.0.1:1, [::1]:2"),
            ("WICKETGATE_EDGE__TLS__VERSIONS", "1.3"),
            ("WICKETGATE_SMTP__PASSWORD", "p"),
            ("WICKETGATE_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
            ("OTHER__KEY", "1"),
        ]),
    )
    .unwrap();
    assert_eq!((config.edge.threads, config.edge.http.len(), config.edge.https.len()), (Some(8), 0, 2));
    assert_eq!(config.edge.tls.suites.len(), 3, "suites of the version that is left");
    assert_eq!(
        config.smtp.unwrap().login.unwrap().1.expose(),
        "p",
        "the variable replaces the file's password_file"
    );
    assert_eq!(
        faults("", &[("WICKETGATE_EDGE__THREAD", "8")]),
        ["edge.thread: unknown key (did you mean edge.threads?) (from WICKETGATE_EDGE__THREAD)"]
    );
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    std::fs::write(&file, "postgres://u:p@h/d\n").unwrap();
    let config =
        Config::parse("", &env(&[("WICKETGATE_DATABASE__URL_FILE", file.to_str().unwrap())])).unwrap();
    assert!(
        matches!(config.database.url, DatabaseUrl::Postgres(url) if url.expose() == "postgres://u:p@h/d")
    );
}

#[test]
fn key_files_come_from_the_file_then_credentials_then_the_usual_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("server-key"), "k").unwrap();
    let directory = [("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())];
    let server =
        |text: &str, pairs: &[(&str, &str)]| match Config::parse(text, &env(pairs)).unwrap().keys.server {
            KeySource::File(path) => path,
            KeySource::Inline(_) => "inline".into(),
        };
    assert_eq!(server("", &directory).to_str(), Some("inline"), "read at once, whatever its mode");
    assert_eq!(server("[keys]\nserver_key_file = \"/k\"", &directory).to_str(), Some("/k"));
    assert_eq!(server("", &[]).to_str(), Some("/etc/wicketgate/server.key"));
    assert_eq!(server("", &[("WICKETGATE_KEYS__SERVER_KEY", "k")]).to_str(), Some("inline"));
}

#[test]
fn the_file_is_looked_for_where_it_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.toml");
    std::fs::write(&file, "[edge]\nthreads = 3").unwrap();
    let config = Config::load(None, &env(&[("WICKETGATE_CONFIG", file.to_str().unwrap())])).unwrap();
    assert_eq!((config.edge.threads, config.file), (Some(3), Some(file)));
    let missing = Config::load(Some(&dir.path().join("none")), &env(&[])).unwrap_err();
    assert_eq!(missing.0[0].key, "--config");
}

#[test]
fn what_is_in_force_is_shown_without_secrets_and_reads_back() {
    let text = "[database]\nurl = \"postgres://u:hunter2@h/d\"\n[smtp]\nhost = \"m.example\"\nfrom = \"a@b.example\"\nusername = \"u\"\npassword = \"hunter2\"\n[keys]\nserver_key = \"hunter2\"";
    let config = Config::parse(text, &env(&[])).unwrap();
    let shown = toml::to_string(&effective(&config)).unwrap();
    assert!(!shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"), "{shown}");
    let again = Config::parse(&shown, &env(&[])).unwrap();
    assert_eq!(effective(&again), effective(&config));
}

#[test]
fn a_configuration_made_in_code_stays_on_loopback_and_free_ports() {
    let config = Config::for_data_dir(std::path::Path::new("/tmp/x"));
    let listeners = config
        .edge
        .https
        .iter()
        .chain(&config.edge.http)
        .chain([&config.admin.listen, &config.health.listen]);
    assert!(listeners.into_iter().all(|address| address.ip().is_loopback() && address.port() == 0));
    assert_eq!(config.admin_socket().to_str(), Some("/tmp/x/admin.sock"));
    assert_eq!(config.pki_base_url(), "http://localhost");
}

#[test]
fn too_long_a_data_directory_is_refused_for_its_socket() {
    let text = format!("[server]\ndata_dir = \"/{}\"", "x".repeat(97));
    assert!(faults(&text, &[])[0].contains("must be at most 96 bytes"));
    assert_eq!(faults(&text.replacen('x', "", 1), &[]).len(), 1, "97 bytes are one too many");
    assert_eq!(faults(&text.replacen("xx", "", 1), &[]), Vec::<String>::new());
}

#[test]
fn probing_names_missing_and_open_key_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let config = Config::for_data_dir(dir.path());
    assert_eq!(probe(&config).len(), 2, "both key files are missing");
    std::fs::create_dir(dir.path().join("keys")).unwrap();
    for (name, mode) in [("server", 0o640), ("authority", 0o600)] {
        let file = dir.path().join(format!("keys/{name}.key"));
        std::fs::write(&file, "k").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let found = probe(&config);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].key == "keys.server_key_file" && found[0].reason.contains("0640"));
    let elsewhere =
        Config { server: Server { data_dir: "/nonexistent".into(), ..config.server.clone() }, ..config };
    assert!(probe(&elsewhere).iter().any(|fault| fault.key == "server.data_dir"));
}

#[test]
fn suites_carry_their_iana_codes() {
    for suite in Suite::MODERN {
        let name = serde_json::to_value(suite).unwrap();
        let theirs = format!("{:?}", rustls::CipherSuite::from(suite.code()));
        assert_eq!(name.as_str().unwrap(), theirs.replace("TLS13_", "TLS_"));
    }
}

#[test]
fn every_key_of_the_schema_has_a_sentence() {
    fn visit(node: &serde_json::Value, path: &str) {
        for (key, child) in node.get("properties").and_then(|found| found.as_object()).into_iter().flatten() {
            assert!(child.get("description").is_some(), "{path}.{key} has no description");
            visit(child, &format!("{path}.{key}"));
        }
    }
    visit(&json_schema(), "");
}

/// A value of any TOML type.
fn any_value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(toml::Value::Integer),
        any::<bool>().prop_map(toml::Value::Boolean),
        any::<f64>().prop_map(toml::Value::Float),
        ".{0,20}".prop_map(toml::Value::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(toml::Value::Array),
            prop::collection::btree_map("[a-z_]{1,12}", inner, 0..4)
                .prop_map(|map| toml::Value::Table(map.into_iter().collect())),
        ]
    })
}

/// Any known section and key, so that values reach the checks.
fn any_key() -> impl Strategy<Value = (String, String)> {
    let schema = toml::Value::try_from(RawConfig::default()).unwrap();
    let keys: Vec<(String, String)> = schema
        .as_table()
        .unwrap()
        .iter()
        .flat_map(|(section, keys)| {
            keys.as_table().unwrap().keys().map(move |key| (section.clone(), key.clone()))
        })
        .chain(
            [("smtp", "from"), ("smtp", "password"), ("database", "url"), ("pki", "base_url")]
                .map(|(a, b)| (a.into(), b.into())),
        )
        .collect();
    prop::sample::select(keys)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", name in "[A-Z_]{0,20}", value in "\\PC{0,40}") {
        let _ = Config::parse(&text, &env(&[(&format!("WICKETGATE_{name}"), &value)]));
    }

    #[test]
    fn no_value_at_a_known_key_makes_it_panic((section, key) in any_key(), value in any_value(), text in "\\PC{0,40}") {
        let inner = toml::Table::from_iter([(key.clone(), value)]);
        let table = toml::Table::from_iter([(section.clone(), toml::Value::Table(inner))]);
        let _ = Config::parse(&toml::to_string(&table).unwrap(), &env(&[]));
        let _ = Config::parse("", &env(&[(&format!("WICKETGATE_{section}__{key}").to_uppercase(), &text)]));
    }
}
