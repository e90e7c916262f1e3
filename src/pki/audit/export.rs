//! The text of an export, version 1. One spelling for each line: what is read and written again gives
//! the same bytes, so a check can refuse every other spelling.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::domain::audit_chain::{AuditEvent, ChainHead, Checkpoint, LinkHash, base64_text};
use crate::domain::{Fingerprint, UtcTime};

/// The format's name and version.
pub const FORMAT: &str = "wicketgate-audit-1";
/// Longest line of an export with its newline, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Header(Header),
    /// A link with its event.
    Link(Link),
    /// Behind the link that it is about.
    Checkpoint(Checkpoint),
    /// An event that had no link when the export was made; behind all links.
    Unchained(AuditEvent),
    /// The last.
    End(End),
}

/// What the export is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// Whose audit.
    pub installation_id: String,
    /// When the export was begun, by the clock of whoever made it.
    pub exported_at: UtcTime,
    /// The public halves of the keys that signed checkpoints.
    pub keys: Vec<Key>,
}

/// The public half of a key that signs checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `audit-` and the SHA-256 of the next field.
    pub key_id: String,
    /// SubjectPublicKeyInfo DER; base64 in JSON.
    #[serde(with = "base64_text")]
    pub spki: Vec<u8>,
}

/// A link with its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its number, from 1.
    pub number: u64,
    /// Its hash.
    pub hash: LinkHash,
    /// Its event; absent when the database had the link only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<AuditEvent>,
}

impl Link {
    /// Its place in the chain.
    pub fn head(&self) -> ChainHead {
        ChainHead { number: self.number, hash: self.hash }
    }
}

/// How many lines of each kind there are, and the SHA-256 of all bytes before this line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Links.
    pub links: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Events without a link.
    pub unchained: u64,
    /// Against accidents; whoever tampers can compute it, too.
    pub sha256: String,
}

impl Line {
    /// The line with its newline.
    ///
    /// # Errors
    /// None in practice: there is nothing in a line that JSON cannot say.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        Ok(text)
    }
}

/// Counts and digests lines on their way out, or on their way in.
#[derive(Clone)]
pub struct Export {
    digest: Context,
    links: u64,
    checkpoints: u64,
    unchained: u64,
}

impl Default for Export {
    fn default() -> Self {
        Self { digest: Context::new(&SHA256), links: 0, checkpoints: 0, unchained: 0 }
    }
}

impl Export {
    /// The text of the next line.
    ///
    /// # Errors
    /// As [`Line::to_text`].
    pub fn write(&mut self, line: &Line) -> Result<String, serde_json::Error> {
        let text = line.to_text()?;
        self.count(line, text.as_bytes());
        Ok(text)
    }

    /// Notes a line and its bytes.
    pub fn count(&mut self, line: &Line, bytes: &[u8]) {
        self.digest.update(bytes);
        match line {
            Line::Link(_) => self.links += 1,
            Line::Checkpoint(_) => self.checkpoints += 1,
            Line::Unchained(_) => self.unchained += 1,
            Line::Header(_) | Line::End(_) => {}
        }
    }

    /// The end that belongs behind the lines so far.
    pub fn end(&self) -> End {
        let mut octets = [0; 32];
        octets.copy_from_slice(self.digest.clone().finish().as_ref());
        let sha256 = Fingerprint(octets).to_string();
        End { links: self.links, checkpoints: self.checkpoints, unchained: self.unchained, sha256 }
    }
}
