//! PKCS#12 files in the programs that people import them with: OpenSSL 3, NSS (Firefox,
//! Thunderbird, Chromium on Linux) and Java.

use std::path::Path;

use wicketgate::pki::Certificate;
use wicketgate::pki::pkcs12::{Encoding, Password, write};

use super::house::{House, System};
use super::peers::{openssl, peer};

/// A folder with `anna.p12` and what is in it.
struct File {
    folder: tempfile::TempDir,
    password: Password,
    leaf: Certificate,
    house: House,
}

fn file(encoding: Encoding, password: Password) -> File {
    let (folder, house) = (tempfile::tempdir().unwrap(), House::new());
    let (leaf, key) = house.anna();
    let chain = [house.issuing.certificate.der(), house.root.certificate.der()];
    let name = "Änna's iPhone";
    let p12 = write(encoding, key.expose(), leaf.der(), &chain, name, &password, &System).unwrap();
    std::fs::write(folder.path().join("anna.p12"), p12).unwrap();
    std::fs::write(folder.path().join("key.der"), key.expose()).unwrap();
    std::fs::write(folder.path().join("leaf.pem"), leaf.pem()).unwrap();
    File { folder, password, leaf, house }
}

fn both() -> Vec<(Encoding, File)> {
    let chosen = Password::new("31 chars, the most: '\"\\$&!%~^#@").unwrap();
    [Encoding::Modern, Encoding::Compat]
        .into_iter()
        .flat_map(|encoding| [(encoding, Password::generate(&System)), (encoding, chosen.clone())])
        .map(|(encoding, password)| (encoding, file(encoding, password)))
        .collect()
}

#[test]
fn openssl_opens_both_encodings_and_finds_everything() {
    let Some(openssl) = openssl() else { return };
    for (encoding, file) in both() {
        let folder = file.folder.path();
        let pass = format!("pass:{}", file.password.expose());
        let info = openssl.ok(folder, &["pkcs12", "-in", "anna.p12", "-passin", &pass, "-info", "-nodes"]);
        let expected: &[&str] = match encoding {
            Encoding::Modern => {
                &["MAC: sha256", "PBES2, PBKDF2, AES-256-CBC, Iteration 100000, PRF hmacWithSHA256"]
            }
            Encoding::Compat => &["MAC: sha1", "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 10000"],
        };
        for words in expected.iter().chain(&["salt length: 8", "friendlyName: ", "localKeyID: "]) {
            assert!(info.contains(words), "{words} is missing in\n{info}");
        }
        assert_eq!(info.matches("-----BEGIN CERTIFICATE-----").count(), 3, "{info}");
        assert!(info.contains(&file.leaf.pem()) && info.contains(&file.house.issuing.certificate.pem()));
        openssl.ok(
            folder,
            &["pkcs12", "-in", "anna.p12", "-passin", &pass, "-nocerts", "-nodes", "-out", "key.pem"],
        );
        let of_file = openssl.ok(folder, &["pkey", "-in", "key.pem", "-pubout"]);
        let of_leaf = openssl.ok(folder, &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
        assert_eq!(of_file, of_leaf);
        // The compat file needs no legacy provider, but must open with it too.
        openssl.ok(folder, &["pkcs12", "-legacy", "-in", "anna.p12", "-passin", &pass, "-noout"]);
        let said = openssl.fails(folder, &["pkcs12", "-in", "anna.p12", "-passin", "pass:wrong", "-noout"]);
        assert!(said.contains("invalid password"), "{said}");
    }
}

#[test]
fn nss_imports_both_encodings_into_a_fresh_database() {
    let Some(pk12util) = peer("pk12util") else { return };
    let Some(certutil) = peer("certutil") else { return };
    for (encoding, file) in both() {
        let folder = file.folder.path();
        std::fs::create_dir(folder.join("db")).unwrap();
        std::fs::write(folder.join("password"), file.password.expose()).unwrap();
        certutil.ok(folder, &["-N", "-d", "sql:db", "--empty-password"]);
        let listed = pk12util.ok(folder, &["-l", "anna.p12", "-w", "password"]);
        let cipher = match encoding {
            Encoding::Modern => "PKCS #5 Password Based Encryption v2",
            Encoding::Compat => "PKCS #12 V2 PBE With SHA-1 And 3KEY Triple DES-CBC",
        };
        assert!(listed.contains(cipher) && listed.contains("Example Client Issuing G1"), "{listed}");
        pk12util.ok(folder, &["-i", "anna.p12", "-d", "sql:db", "-w", "password", "-K", ""]);
        let keys = certutil.ok(folder, &["-K", "-d", "sql:db"]);
        assert!(keys.contains("Änna's iPhone"), "{keys}");
        let certificates = certutil.ok(folder, &["-L", "-d", "sql:db"]);
        assert!(certificates.contains("u,u,u"), "{certificates}");
        wrong_password_fails_in_nss(&pk12util, folder);
    }
}

fn wrong_password_fails_in_nss(pk12util: &super::peers::Peer, folder: &Path) {
    std::fs::write(folder.join("password"), "wrong").unwrap();
    pk12util.fails(folder, &["-l", "anna.p12", "-w", "password"]);
}

#[test]
fn java_lists_both_encodings_with_the_whole_chain() {
    let Some(keytool) = peer("keytool") else { return };
    for (_, file) in both() {
        let folder = file.folder.path();
        let store = ["-list", "-v", "-storetype", "PKCS12", "-keystore", "anna.p12", "-storepass"];
        let listed = keytool.ok(folder, &[&store[..], &[file.password.expose()]].concat());
        for words in ["contains 1 entry", "Entry type: PrivateKeyEntry", "Certificate chain length: 3"] {
            assert!(listed.contains(words), "{words} is missing in\n{listed}");
        }
        keytool.fails(folder, &[&store[..], &["wrong password"]].concat());
    }
}
