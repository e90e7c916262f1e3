//! An SMTP server with TLS, on Python's standard library: its TLS is OpenSSL's, not ours.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use super::peers;

/// The login that the server takes.
pub const LOGIN: [&str; 2] = ["gate", "seven quiet otters"];

/// How it speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// After STARTTLS (RFC 3207); nothing is taken before.
    Starttls,
    /// From the first byte (RFC 8314).
    Implicit,
    /// Not at all, as if somebody on the way had removed the offer.
    Stripped,
}

/// The server, which ends with this value.
pub struct TlsServer {
    process: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// The root of its certificate, PEM.
    pub root_pem: Vec<u8>,
    folder: TempDir,
}

impl TlsServer {
    /// Starts it with a certificate for `name`; none when Python is missing.
    pub fn start(mode: Mode, name: &str) -> Option<Self> {
        let python = peers::peer_text("python3")?;
        let folder = tempfile::tempdir().unwrap();
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).unwrap().pem().into_bytes();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
        leaf.use_authority_key_identifier_extension = true;
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
        let path = |file: &str| folder.path().join(file);
        std::fs::write(path("server.pem"), leaf.pem() + &key.serialize_pem()).unwrap();
        std::fs::write(path("server.py"), include_str!("smtp_tls.py")).unwrap();
        let mode = match mode {
            Mode::Starttls => "starttls",
            Mode::Implicit => "implicit",
            Mode::Stripped => "stripped",
        };
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", &python])
            .arg(path("server.py"))
            .args([mode, folder.path().to_str().unwrap()])
            .args(LOGIN)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the port it listens on");
        Some(Self { process, port, root_pem, folder })
    }

    /// The mails that arrived, oldest first: `tls`, `user`, `to`, `data`.
    pub fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("mails")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The commands that clients sent, without arguments.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
