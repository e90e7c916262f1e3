//! EST with a client that is not ours: curl and OpenSSL against the running program.

use std::os::unix::fs::DirBuilderExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use wicketgate::activate::{Activation, Enforce};
use wicketgate::ca::{Ca, DeviceChoice, IssueRequest};
use wicketgate::clock::{Clock, SystemClock};
use wicketgate::domain::{Actor, Enforced, PersonId, Role};
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::pki::{keygen, pem, transfer};
use wicketgate::store::Store;
use wicketgate::store::people::Person;

use super::backend;
use super::device::Device;
use super::house::{DOOR, House, Plan};
use super::whole::run;
use crate::harness::peers;
use crate::prove::Proof;
use crate::prove::seed::Seed;

/// A machine that knows curl and OpenSSL only.
struct Machine<'a> {
    house: &'a House,
    folder: String,
    /// Its address: every one has its own budget at the door.
    address: String,
}

/// What was sent and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Certificates.
    pub(crate) issued: u64,
    /// Requests that were refused with the right status and sentence.
    pub(crate) refused: u64,
    /// Anything that must not be, in words.
    pub(crate) wrong: Vec<String>,
}

/// What curl got.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl<'a> Machine<'a> {
    fn new(house: &'a House, name: &str) -> Self {
        let folder = house.path(name);
        std::fs::create_dir(&folder).unwrap();
        Self { house, folder: folder.to_str().unwrap().to_owned(), address: "127.0.0.1".to_owned() }
    }

    /// The same machine, known to the door by another address.
    fn at(&self, number: u64) -> Self {
        let address = format!("127.0.{}.{}", 1 + number / 250, 1 + number % 250);
        Self { house: self.house, folder: self.folder.clone(), address }
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        run("openssl", arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Makes `<name>.key` and, with this subject, `<name>.req` in base64.
    fn request(&self, name: &str, subject: &str) -> String {
        let [key, der, req] = ["key", "der", "req"].map(|kind| self.file(&format!("{name}.{kind}")));
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
        self.openssl(&["req", "-new", "-key", &key, "-subj", subject, "-outform", "DER", "-out", &der]);
        self.openssl(&["base64", "-in", &der, "-out", &req]);
        req
    }

    /// Makes `<name>.key` and a request that repeats the names of the certificate `of`.
    fn renewal(&self, name: &str, of: &str) -> String {
        let [key, csr, der, req] =
            ["key", "csr", "der", "req"].map(|kind| self.file(&format!("{name}.{kind}")));
        let certificate = self.file(&format!("{of}.pem"));
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
        let copy =
            ["x509", "-x509toreq", "-in", &certificate, "-signkey", &key, "-copy_extensions", "copyall"];
        self.openssl(&[&copy[..], &["-out", &csr]].concat());
        self.openssl(&["req", "-in", &csr, "-outform", "DER", "-out", &der]);
        self.openssl(&["base64", "-in", &der, "-out", &req]);
        req
    }

    fn curl(&self, operation: &str, arguments: &[&str]) -> Got {
        let port = self.house.https;
        let (head, body) = (self.file("answer.head"), self.file("answer.body"));
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--dump-header", &head, "--output", &body, "--cacert"])
            .arg(self.house.path("authority.pem"))
            .args(["--resolve", &format!("{DOOR}:{port}:127.0.0.1"), "--write-out", "%{http_code}"])
            .args(["--interface", &self.address])
            .args(arguments)
            .arg(format!("https://{DOOR}:{port}/.well-known/est/{operation}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Got {
            status: String::from_utf8(output.stdout).unwrap().parse().unwrap(),
            head: std::fs::read_to_string(&head).unwrap().to_lowercase(),
            body: std::fs::read(&body).unwrap_or_default(),
        }
    }

    fn post(&self, operation: &str, req: &str, arguments: &[&str]) -> Got {
        let data = format!("@{req}");
        let kind = "Content-Type: application/pkcs10";
        self.curl(operation, &[&["--data-binary", &data, "--header", kind], arguments].concat())
    }

    /// Enrols with the secret of an invitation.
    fn enrol(&self, req: &str, secret: &str) -> Got {
        self.post("simpleenroll", req, &["--user", &format!("pump-7:{secret}")])
    }

    /// Re-enrols under the certificate and key of this name.
    fn reenrol(&self, req: &str, under: &str) -> Got {
        let [certificate, key] = ["pem", "key"].map(|kind| self.file(&format!("{under}.{kind}")));
        self.post("simplereenroll", req, &["--cert", &certificate, "--key", &key])
    }

    /// Writes the certificates of an answer to `<name>.pem`.
    fn keep(&self, got: &Got, name: &str) -> String {
        let text = String::from_utf8_lossy(&got.body);
        assert_eq!(got.status, 200, "{text}");
        assert!(
            got.head.contains("content-type: application/pkcs7-mime; smime-type=certs-only"),
            "{}",
            got.head
        );
        let [b64, p7, pem] = ["b64", "p7", "pem"].map(|kind| self.file(&format!("{name}.{kind}")));
        std::fs::write(&b64, &got.body).unwrap();
        self.openssl(&["base64", "-d", "-in", &b64, "-out", &p7]);
        self.openssl(&["pkcs7", "-inform", "DER", "-in", &p7, "-print_certs", "-out", &pem]);
        self.read(&format!("{name}.pem"))
    }

    /// OpenSSL verifies the certificate of this name under what `cacerts` gave.
    fn verify(&self, name: &str) {
        let [above, leaf] = [self.file("above.pem"), self.file(&format!("{name}.pem"))];
        let chain = ["verify", "-purpose", "sslclient", "-CAfile", &above, "-untrusted", &above, &leaf];
        assert!(self.openssl(&chain).contains("OK"));
    }

    fn device(&self, name: &str) -> Device {
        Device { key_pem: self.read(&format!("{name}.key")), chain_pem: self.read(&format!("{name}.pem")) }
    }
}

impl Tally {
    /// Counts what was refused as it should be.
    fn refused(&mut self, got: &Got, status: u16, word: &str) {
        let text = String::from_utf8_lossy(&got.body);
        if got.status == status && got.head.contains("content-type: text/plain") && text.contains(word) {
            self.refused += 1;
        } else {
            self.wrong.push(format!("not {status} with {word:?}: {} {text}", got.status));
        }
    }
}

fn count(house: &House, person: &str) -> usize {
    house.get(&format!("/certificates?person_id={person}&limit=200"))["items"].as_array().unwrap().len()
}

struct NoEdges;

#[async_trait::async_trait]
impl Enforce for NoEdges {
    async fn bring_up_to_date(&self) -> Enforced {
        Enforced::default()
    }
}

/// An installation that began a hundred days ago, and a device that was enrolled then.
fn long_ago(house: &House) -> Device {
    let keys = house.path("keys");
    for folder in [&keys, &house.path("data")] {
        std::fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
    }
    let vault = |purpose, name: &str| {
        Kek::create_file(purpose, &keys.join(name), &SystemEntropy).unwrap();
        Vault::new(Kek::from_file(purpose, &keys.join(name)).unwrap())
    };
    let vaults = Arc::new(Vaults {
        server: vault(Purpose::Server, "server.key"),
        authority: vault(Purpose::Authority, "authority.key"),
    });
    let past = SystemClock.now().minus(Duration::from_secs(100 * 86_400));
    let work = async {
        let url = format!("sqlite:{}", house.path("data/house.db").display());
        let store = Store::create(&url, 2).await.unwrap();
        store.migrate(None).await.unwrap();
        store.open_vaults(&vaults, &SystemEntropy, past).await.unwrap();
        let base_url = format!("http://127.0.0.1:{}", house.http);
        let (entropy, lists) = (Arc::new(SystemEntropy), Activation::new("publish_crls"));
        let ca = Ca::new(store.clone(), vaults.clone(), entropy, Arc::new(NoEdges), lists, base_url);
        ca.init("House", past).await.unwrap();
        let person = Person {
            id: PersonId::new(),
            email: "otto@example.org".to_owned(),
            name: "Otto Alt".to_owned(),
            role: Role::Member,
            groups: Default::default(),
            disabled: false,
            has_password: false,
            created_at: past,
            version: 1,
        };
        let act =
            async |action| store.begin_act(Actor::System("test"), action, None, None, past).await.unwrap();
        ca.create_person(&person, &act("person.add").await, past).await.unwrap();
        let (key, _) = keygen::generate_p256();
        let csr_pem = keygen::client_csr_pem(key.expose(), "old").unwrap();
        let device = DeviceChoice::New { name: "old".to_owned() };
        let request = IssueRequest {
            person: person.id,
            device,
            profile: "device".parse().unwrap(),
            csr_pem,
            dns_names: Default::default(),
        };
        let issued = ca.issue(&request, &act("certificate.issue").await, past).await.unwrap();
        store.clone().close().await;
        Device {
            key_pem: keygen::private_key_pem(key.expose()).expose().clone(),
            chain_pem: pem::block("CERTIFICATE", &issued.certificate.der),
        }
    };
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// The whole of it, with this many damaged bodies and contests for a secret; nothing when a peer is missing.
pub(crate) fn with_curl_and_openssl(proof: &Proof, damaged: u64, contests: u64) -> Option<Tally> {
    for program in ["curl", "openssl"] {
        peers::peer(program)?;
    }
    let mut tally = Tally::default();
    let plan = Plan { database: None, more: "", edge: None };
    let mut old = None;
    let mut house = House::open_after(&plan, &backend::start(), |house| old = Some(long_ago(house)));
    let cleo = house.person("Cleo Martín", "cleo@example.org");
    let (secret, unused) = (house.invite(&cleo), house.invite(&cleo));
    let machine = Machine::new(&house, "machine");

    // What stands above, and what is wished for.
    let above = machine.keep(&machine.curl("cacerts", &[]), "above");
    assert_eq!(above.matches("BEGIN CERTIFICATE").count(), 2, "{above}");
    let wishes = machine.curl("csrattrs", &[]);
    assert!(
        wishes.status == 200 && wishes.head.contains("content-type: application/csrattrs"),
        "{}",
        wishes.head
    );
    let [b64, der] = ["b64", "der"].map(|kind| machine.file(&format!("wishes.{kind}")));
    std::fs::write(&b64, &wishes.body).unwrap();
    machine.openssl(&["base64", "-d", "-in", &b64, "-out", &der]);
    let wishes = machine.openssl(&["asn1parse", "-inform", "DER", "-in", &der]);
    assert!(wishes.contains("id-ecPublicKey") && wishes.contains("prime256v1"), "{wishes}");

    // A first certificate, once.
    let req = machine.request("first", "/CN=whatever it says");
    let no_secret = machine.post("simpleenroll", &req, &[]);
    tally.refused(&no_secret, 401, "works once");
    assert!(no_secret.head.contains("www-authenticate: basic"), "{}", no_secret.head);
    tally.refused(&machine.enrol(&req, "wrong"), 401, "unknown");
    assert_eq!(count(&house, &cleo), 0);
    machine.keep(&machine.enrol(&req, &secret), "first");
    machine.verify("first");
    assert_eq!(house.visit(Some(&machine.device("first")), "/"), (200, String::new()));
    tally.refused(&machine.enrol(&req, &secret), 401, "used");
    tally.refused(&machine.enrol(&machine.request("thief", "/CN=thief"), &secret), 401, "used");
    assert_eq!(count(&house, &cleo), 1);

    // Its successor, under the certificate alone.
    let req = machine.renewal("second", "first");
    machine.keep(&machine.reenrol(&req, "first"), "second");
    machine.verify("second");
    let subject = |name: &str| {
        let file = machine.file(&format!("{name}.pem"));
        machine.openssl(&["x509", "-in", &file, "-noout", "-subject", "-ext", "subjectAltName"])
    };
    assert_eq!(subject("first"), subject("second"));
    assert_ne!(machine.read("first.key"), machine.read("second.key"));
    assert_eq!(house.visit(Some(&machine.device("second")), "/"), (200, String::new()));
    let issued = count(&house, &cleo);
    assert_eq!(issued, 2);

    // What cannot be certified: nothing is issued, and the other secret stays good.
    let write = |name: &str, content: &[u8]| {
        std::fs::write(machine.file(name), content).unwrap();
        machine.file(name)
    };
    tally.refused(&machine.reenrol(&machine.request("other", "/CN=Somebody Else"), "second"), 400, "subject");
    tally.refused(&machine.post("simplereenroll", &req, &[]), 403, "handshake");
    for (name, content, status, word) in [
        ("empty", &b""[..], 400, "empty"),
        ("noise", b"!!!!", 400, "base64"),
        ("malformed", b"MAAwAA==", 400, "PKCS#10"),
        (
            "armoured",
            b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----",
            400,
            "PEM",
        ),
        ("long", &[b'A'; 20 * 1024], 413, "at most"),
        ("oversized", &[b'A'; 512 * 1024], 413, "at most"),
    ] {
        tally.refused(&machine.enrol(&write(name, content), &unused), status, word);
        tally.refused(&machine.reenrol(&write(name, content), "second"), status, word);
    }
    let secret_of_other = format!("pump-7:{unused}");
    let as_json =
        ["--data-binary", "{}", "--header", "Content-Type: application/json", "--user", &secret_of_other];
    tally.refused(&machine.curl("simpleenroll", &as_json), 415, "application/pkcs10");

    // Who may not renew: the expired and the revoked.
    let old = old.unwrap();
    write("old.pem", old.chain_pem.as_bytes());
    write("old.key", old.key_pem.as_bytes());
    tally.refused(&machine.reenrol(&machine.renewal("late", "old"), "old"), 403, "expired");
    let listed = house.get(&format!("/certificates?person_id={cleo}&limit=200"));
    let second: &Value =
        listed["items"].as_array().unwrap().iter().find(|one| one["replaced_by"].is_null()).unwrap();
    house.revoke(second);
    tally.refused(&machine.reenrol(&machine.renewal("third", "second"), "second"), 403, "revoked");
    assert_eq!(count(&house, &cleo), issued);
    tally.issued += issued as u64;

    damaged_bodies(proof, &machine, &unused, damaged, &mut tally);
    assert_eq!(count(&house, &cleo), issued);
    // Whatever was refused left the secret open.
    machine.keep(&machine.at(0).enrol(&machine.request("at last", "/CN=pump"), &unused), "at last");
    tally.issued += 1;
    let secrets: Vec<_> = (0..contests).map(|_| house.invite(&cleo)).collect();
    for (number, secret) in secrets.iter().enumerate() {
        contest(&house, secret, number as u64, &mut tally);
    }
    assert_eq!(count(&house, &cleo), issued + 1 + secrets.len());
    Some(tally)
}

/// Sends a good request that was cut off, or has one octet changed or too many: none is certified.
fn damaged_bodies(proof: &Proof, machine: &Machine<'_>, secret: &str, count: u64, tally: &mut Tally) {
    let good = machine.request("damaged", "/CN=pump");
    let good = transfer::decode(&std::fs::read(good).unwrap()).unwrap();
    for number in 0..count {
        let mut seed = Seed::of(0xe57 + number);
        let mut bad = good.clone();
        let at = seed.below(bad.len() as u64) as usize;
        match seed.below(4) {
            0 => bad.truncate(at.max(1)),
            1 => bad.insert(at, seed.below(256) as u8),
            _ => bad[at] ^= 1 << seed.below(8),
        }
        let file = machine.file("damaged.b64");
        std::fs::write(&file, transfer::encode(&bad)).unwrap();
        let machine = machine.at(1 + number);
        tally.refused(&machine.enrol(&file, secret), 400, "request");
        proof.progress(number + 1, count);
    }
}

/// Four machines at once with one secret: one of them gets a certificate.
fn contest(house: &House, secret: &str, number: u64, tally: &mut Tally) {
    let machines: Vec<_> =
        (0..4).map(|at| Machine::new(house, &format!("contest-{number}-{at}")).at(700 + number)).collect();
    let requests: Vec<_> = machines.iter().map(|machine| machine.request("own", "/CN=pump")).collect();
    let answers: Vec<Got> = std::thread::scope(|scope| {
        let asking = machines.iter().zip(&requests);
        let asking: Vec<_> =
            asking.map(|(machine, request)| scope.spawn(|| machine.enrol(request, secret))).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (machine, got) in machines.iter().zip(&answers) {
        if got.status == 200 {
            machine.keep(got, "own");
            tally.issued += 1;
        } else {
            tally.refused(got, 401, "works once");
        }
    }
    let given = answers.iter().filter(|got| got.status == 200).count();
    assert_eq!(given, 1, "machines that got a certificate for one secret");
}
