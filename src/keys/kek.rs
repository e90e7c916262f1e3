//! Key-encryption keys: where they come from, and what a wrong one is told.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::{Entropy, Seal, SealBroken, Secret};

/// Octets of a key.
pub const KEY_OCTETS: usize = 32;
/// How a key file's lines begin, so that a file of another kind is noticed.
const PREFIX: &str = "wicketgate-key-1:";
/// A key file is a line or a few; more is another file.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Which of the two keys: what it opens is different (design, decision 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Site keys, assertion key, upstream client key, edge snapshot.
    Server,
    /// Authority keys, ACME accounts, third-party secrets, outbox.
    Authority,
}

impl Purpose {
    /// The name in rows and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Authority => "authority",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key-encryption key, with predecessors that still open what has not been re-wrapped.
pub struct Kek {
    purpose: Purpose,
    /// The first one seals; all open.
    keys: Vec<OneKey>,
    entropy: fn(&mut [u8]),
}

struct OneKey {
    id: [u8; 8],
    key: LessSafeKey,
}

/// Why a key cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file is not there or cannot be read.
    #[error("the {purpose} key file {path} cannot be read; `wicketgate init` makes one")]
    Unreadable {
        /// Which key.
        purpose: Purpose,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Others may read the file.
    #[error("the {purpose} key file {path} has mode {mode:03o}: others may read it; run `chmod 600 {path}`")]
    Exposed {
        /// Which key.
        purpose: Purpose,
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is not a key.
    #[error(
        "the {purpose} key from {origin} is not a wicketgate key (a line `{PREFIX}` and 32 octets in base64)"
    )]
    Malformed {
        /// Which key.
        purpose: Purpose,
        /// File or variable.
        origin: String,
    },
    /// The key does not open what is in the database.
    #[error(
        "the {purpose} key is not the one that this installation's data was sealed with; bring back the old key file"
    )]
    Wrong {
        /// Which key.
        purpose: Purpose,
    },
}

impl Kek {
    /// Reads a key file: one key a line, the newest first. Refuses a file that group or others may
    /// read, unless root owns it read-only for us as systemd's credentials are.
    ///
    /// # Errors
    /// [`KeyFault::Unreadable`], [`KeyFault::Exposed`], [`KeyFault::Malformed`].
    pub fn from_file(purpose: Purpose, path: &Path) -> Result<Self, KeyFault> {
        let unreadable = |cause| KeyFault::Unreadable { purpose, path: path.to_owned(), cause };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFault::Exposed { purpose, path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
        Self::from_text(purpose, &Secret::new(text), &path.display().to_string())
    }

    /// Reads a key from text, as an environment secret holds it. `origin` is named in messages.
    ///
    /// # Errors
    /// [`KeyFault::Malformed`].
    pub fn from_text(purpose: Purpose, text: &Secret<String>, origin: &str) -> Result<Self, KeyFault> {
        let malformed = || KeyFault::Malformed { purpose, origin: origin.to_owned() };
        let mut keys = Vec::new();
        for line in
            text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let encoded = line.strip_prefix(PREFIX).ok_or_else(malformed)?;
            let octets = Secret::new(STANDARD.decode(encoded).map_err(|_| malformed())?);
            keys.push(OneKey::new(octets.expose()).ok_or_else(malformed)?);
        }
        if keys.is_empty() {
            return Err(malformed());
        }
        Ok(Self { purpose, keys, entropy: |buffer| super::SystemEntropy.fill(buffer) })
    }

    /// Makes a new key file, mode 0600. An existing file is left alone.
    ///
    /// # Errors
    /// [`KeyFault::Unreadable`] with the cause.
    pub fn create_file(purpose: Purpose, path: &Path, entropy: &dyn Entropy) -> Result<(), KeyFault> {
        use std::io::Write;
        let fault = |cause| KeyFault::Unreadable { purpose, path: path.to_owned(), cause };
        // Whole or not at all, and durable before anything is sealed under it: a link never replaces
        // a key that is there, and a crash leaves only the draft.
        let draft = path.with_extension("draft");
        let _ = std::fs::remove_file(&draft);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(fault)?;
        file.write_all(Self::fresh_text(entropy).expose().as_bytes()).map_err(fault)?;
        file.sync_all().map_err(fault)?;
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft).map_err(fault)?;
        linked.map_err(fault)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(fault)
    }

    /// The text of a new key.
    pub fn fresh_text(entropy: &dyn Entropy) -> Secret<String> {
        let mut octets = [0; KEY_OCTETS];
        entropy.fill(&mut octets);
        let text = Secret::new(format!("{PREFIX}{}\n", STANDARD.encode(octets)));
        zeroize::Zeroize::zeroize(&mut octets);
        text
    }

    /// Which key this is.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether `sealed` was sealed under the newest key.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        sealed.get(..8) == Some(&self.keys[0].id)
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({}, [redacted])", self.purpose)
    }
}

impl OneKey {
    fn new(octets: &[u8]) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, octets).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
        let id = digest.as_ref().first_chunk::<8>().copied()?;
        Some(Self { id, key: LessSafeKey::new(key) })
    }
}

/// Sealed bytes: key id (8), nonce (12), AES-256-GCM ciphertext and tag.
impl Seal for Kek {
    #[expect(
        clippy::expect_used,
        reason = "sealing fails only above 64 GiB, which no caller holds in memory"
    )]
    fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let newest = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        (self.entropy)(&mut nonce);
        let mut sealed = Vec::with_capacity(8 + NONCE_LEN + plain.len() + 16);
        sealed.extend_from_slice(&newest.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let mut body = sealed.split_off(8 + NONCE_LEN);
        newest
            .key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body)
            .expect("plain text under 64 GiB");
        sealed.extend_from_slice(&body);
        sealed
    }

    fn is_outdated(&self, sealed: &[u8]) -> bool {
        !self.is_newest(sealed)
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealBroken> {
        let (id, rest) = sealed.split_first_chunk::<8>().ok_or(SealBroken)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealBroken)?;
        let key = self.keys.iter().find(|key| key.id == *id).ok_or(SealBroken)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.key.open_in_place(nonce, Aad::from(place), &mut body).map_err(|_| SealBroken)?;
        Ok(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SystemEntropy;

    #[test]
    fn what_was_sealed_for_one_place_does_not_open_in_another() {
        let kek = Kek::from_text(Purpose::Server, &Kek::fresh_text(&SystemEntropy), "test").unwrap();
        let sealed = kek.seal(b"here", b"secret");
        assert_eq!(kek.open(b"here", &sealed).unwrap(), b"secret");
        assert_eq!(kek.open(b"there", &sealed), Err(SealBroken));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(kek.open(b"here", &changed), Err(SealBroken), "octet {at}");
        }
    }

    #[test]
    fn an_older_key_behind_a_newer_one_still_opens() {
        let old = Kek::fresh_text(&SystemEntropy);
        let sealed = Kek::from_text(Purpose::Server, &old, "test").unwrap().seal(b"p", b"x");
        let both = format!("{}{}", Kek::fresh_text(&SystemEntropy).expose(), old.expose());
        let both = Kek::from_text(Purpose::Server, &Secret::new(both), "test").unwrap();
        assert_eq!(both.open(b"p", &sealed).unwrap(), b"x");
        assert!(!both.is_newest(&sealed) && both.is_newest(&both.seal(b"p", b"x")));
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.key");
        Kek::create_file(Purpose::Server, &path, &SystemEntropy).unwrap();
        assert!(Kek::from_file(Purpose::Server, &path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let fault = Kek::from_file(Purpose::Server, &path).unwrap_err();
        assert!(fault.to_string().contains("chmod 600"), "{fault}");
    }

    #[test]
    fn debug_shows_no_key() {
        let text = Kek::fresh_text(&SystemEntropy);
        let kek = Kek::from_text(Purpose::Authority, &text, "test").unwrap();
        assert_eq!(format!("{kek:?} {text:?}"), "Kek(authority, [redacted]) [redacted]");
    }
}
