//! Lists and OCSP answers, fetched where certificates say and judged by OpenSSL, Java and Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use wicketgate::pki::pem;
use wicketgate::store::certificates::Certificate;

use super::fixture::World;
use crate::harness::database::TestDatabase;
use crate::harness::peers::peer;

/// A folder with the certificates and lists of a world.
struct Papers {
    folder: tempfile::TempDir,
    ocsp_url: String,
}

impl Papers {
    async fn of(world: &World, leaves: &[(&str, &Certificate)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let mut chain = String::new();
        for (file, name) in [("root", "client-root-g1"), ("issuing", "client-issuing-g1")] {
            let authority = world.store.authority(&name.parse().unwrap()).await.unwrap().unwrap();
            let text = pem::block("CERTIFICATE", &authority.certificate.unwrap());
            write(&format!("{file}.pem"), text.as_bytes());
            chain.push_str(&text);
        }
        write("chain.pem", chain.as_bytes());
        for (name, leaf) in leaves {
            write(&format!("{name}.pem"), pem::block("CERTIFICATE", &leaf.der).as_bytes());
        }
        Self { folder, ocsp_url: world.ca.ocsp_url() }
    }

    /// Writes the lists as they are now.
    fn lists(&self, world: &World) {
        let mut both = String::new();
        for name in ["client-root-g1", "client-issuing-g1"] {
            let list = world.holder.document(&format!("{name}.crl")).unwrap().body;
            std::fs::write(self.folder.path().join(format!("{name}.crl")), &list).unwrap();
            both.push_str(&pem::block("X509 CRL", &list));
        }
        std::fs::write(self.folder.path().join("crls.pem"), both).unwrap();
    }

    /// Runs a program here, without holding up the runtime that answers it.
    async fn run(&self, program: &Path, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env("LC_ALL", "C");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }
}

fn script(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name);
    path.to_str().unwrap().to_owned()
}

/// A world with one good certificate, one revoked for keyCompromise, and one on hold.
async fn world_and_papers() -> (World, Papers, TestDatabase) {
    let database = TestDatabase::sqlite();
    let world = World::online(&database).await;
    let mut leaves = Vec::new();
    for (name, reason) in
        [("good", None), ("compromised", Some("keyCompromise")), ("held", Some("certificateHold"))]
    {
        let certificate = world.issue(name).await.certificate;
        if let Some(reason) = reason {
            world.revoke(certificate.serial, reason).await.unwrap();
        }
        leaves.push((name, certificate));
    }
    world.ca.publish_crls(world.now()).await.unwrap();
    let leaves: Vec<_> = leaves.iter().map(|(name, certificate)| (*name, certificate)).collect();
    let papers = Papers::of(&world, &leaves).await;
    papers.lists(&world);
    (world, papers, database)
}

/// Returns how many verdicts were the expected ones; none when the peer is missing.
pub(crate) async fn by_openssl() -> u64 {
    let Some(openssl) = peer("openssl") else { return 0 };
    let (world, papers, _database) = world_and_papers().await;
    let mut verdicts = 0;
    let url = papers.ocsp_url.clone();
    for (leaf, status) in [("good", "good"), ("compromised", "revoked"), ("held", "revoked")] {
        let file = format!("{leaf}.pem");
        for more in [&["-sha256"][..], &["-sha1", "-no_nonce"]] {
            let asked = ["ocsp", "-CAfile", "chain.pem", "-url", &url, "-issuer", "issuing.pem"];
            let asked = [&asked[..], more, &["-cert", &file]].concat();
            let (done, said) = papers.run(&openssl, &asked).await;
            assert!(done && said.contains("Response verify OK"), "{leaf}: {said}");
            assert!(said.contains(&format!("{file}: {status}")), "{leaf}: {said}");
            verdicts += 1;
        }
        let checked =
            ["verify", "-x509_strict", "-crl_check_all", "-CRLfile", "crls.pem", "-purpose", "sslclient"];
        let chain = ["-CAfile", "root.pem", "-untrusted", "issuing.pem", &file];
        let (passes, said) = papers.run(&openssl, &[&checked[..], &chain].concat()).await;
        assert_eq!(passes, status == "good", "{leaf}: {said}");
        verdicts += 1;
    }
    // A certificate of this authority that nobody ever issued.
    let never = ["ocsp", "-CAfile", "chain.pem", "-url", &url, "-issuer", "issuing.pem", "-serial", "0x1234"];
    let (_, said) = papers.run(&openssl, &never).await;
    assert!(said.contains("Response verify OK") && said.contains("0x1234: unknown"), "{said}");
    // The root answers by its list alone.
    let of_root =
        ["ocsp", "-CAfile", "chain.pem", "-url", &url, "-issuer", "root.pem", "-cert", "issuing.pem"];
    let (_, said) = papers.run(&openssl, &of_root).await;
    assert!(said.contains("unauthorized (6)"), "{said}");
    verdicts += 2;
    drop(world);
    verdicts
}

/// Returns how many verdicts were the expected ones; none when the peer is missing.
pub(crate) async fn by_java() -> u64 {
    let Some(java) = peer("java") else { return 0 };
    let (world, papers, _database) = world_and_papers().await;
    let mut verdicts = 0;
    let program = script("RevocationCheck.java");
    for (leaf, status) in
        [("good", "good"), ("compromised", "revoked KEY_COMPROMISE"), ("held", "revoked CERTIFICATE_HOLD")]
    {
        let file = format!("{leaf}.pem");
        for way in ["ocsp", "crl"] {
            let lists = ["client-root-g1.crl", "client-issuing-g1.crl"];
            let asked = [&[program.as_str(), way, "root.pem", "issuing.pem", &file], &lists[..]].concat();
            let (done, said) = papers.run(&java, &asked).await;
            assert!(done && said.trim() == status, "{leaf} by {way}: {said}");
            verdicts += 1;
        }
    }
    drop(world);
    verdicts
}

/// Returns how many verdicts were the expected ones; none when the peer is missing.
pub(crate) async fn by_python() -> u64 {
    let Some(python) = peer("lint_pkix_cert").map(|tool| tool.with_file_name("python3")) else { return 0 };
    let (world, papers, _database) = world_and_papers().await;
    let mut verdicts = 0;
    let program = script("revocation_check.py");
    for (leaf, status) in
        [("good", "good"), ("compromised", "revoked keyCompromise"), ("held", "revoked certificateHold")]
    {
        let asked = [program.clone(), "issuing.pem".to_owned(), format!("{leaf}.pem")];
        let (done, said) = papers.run(&python, &asked.each_ref().map(String::as_str)).await;
        let all: Vec<_> = said.lines().collect();
        assert!(done && all == [status; 3], "{leaf}: {said}");
        verdicts += 3;
    }
    drop(world);
    verdicts
}
