//! What is wrong with an export, and what else is to be said of it.

use super::export::MAX_LINE;
use crate::domain::UtcTime;
use crate::domain::audit_chain::{ChainHead, Checkpoint};

/// Something that is wrong with an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON, or not a line of this format.
    #[error("the line cannot be read: {0}")]
    Unreadable(String),
    /// Longer than any line of an export.
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// It says what an export may say, in other bytes.
    #[error("the line is not spelled as exports are: it was edited")]
    Spelling,
    /// The first line is something else.
    #[error("an export begins with its header, which is missing")]
    NoHeader,
    /// A version that this program does not know.
    #[error("the format {0:?} is not known to this program")]
    Format(String),
    /// A line where its kind cannot be.
    #[error("a {0} cannot stand here")]
    Misplaced(&'static str),
    /// A key whose id is not its own.
    #[error("the key {0} is not the one that its id names")]
    Key(String),
    /// Numbers that are not there.
    #[error("links {from} to {to} are missing")]
    Gap {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A number that should have been earlier.
    #[error("link {found} stands behind link {after}")]
    Order {
        /// The link before.
        after: u64,
        /// This one.
        found: u64,
    },
    /// A link alone.
    #[error("the event of link {0} is not there: it was deleted")]
    EventMissing(u64),
    /// The hash is not that of this event behind the link before.
    #[error("link {0} does not fit: its event was changed, or what stands before it")]
    Hash(u64),
    /// A checkpoint that is not about the link before it.
    #[error("the checkpoint for link {0} is of another chain")]
    CheckpointHash(u64),
    /// Of another installation.
    #[error("the checkpoint for link {0} is of another installation")]
    Installation(u64),
    /// Signed by a key that nobody vouches for.
    #[error("the checkpoint for link {number} is signed by {key_id}, which is not trusted here")]
    UntrustedKey {
        /// For which link.
        number: u64,
        /// By which key.
        key_id: String,
    },
    /// A signature that is none.
    #[error("the signature of the checkpoint for link {0} is not valid: it was forged or changed")]
    Signature(u64),
    /// Nothing signed covers the end.
    #[error(
        "links {from} to {to} are covered by no signed checkpoint; export again, or something was cut off or added"
    )]
    Unsigned {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// The export is shorter than what the reader knows of.
    #[error("the export ends at link {end}, before the given checkpoint for link {pinned}: it was cut off")]
    Short {
        /// Its last link.
        end: u64,
        /// The link of the given checkpoint.
        pinned: u64,
    },
    /// The chain is not the one that the reader knows of.
    #[error("link {0} is not the one of the given checkpoint: the audit was rewritten")]
    Rewritten(u64),
    /// No link has the given hash.
    #[error("no link has the hash of the given checkpoint: the audit was rewritten or cut off")]
    NoSuchHash,
    /// The given checkpoint is not a checkpoint.
    #[error("the given checkpoint is not valid: no trusted key signed it")]
    Given,
    /// An event that should have a link by now.
    #[error("event {id} of {at} is not in the chain: it was taken out of it, or was never chained")]
    Unchained {
        /// Which.
        id: String,
        /// Of when.
        at: UtcTime,
    },
    /// No end.
    #[error("the export has no end: it was cut off")]
    NoEnd,
    /// The end counts something else, or other bytes.
    #[error("the end of the export does not fit what stands before it")]
    End,
}

/// A fault and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The line, from 1; the one behind the last when something is missing at the end.
    pub line: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Whose audit it says it is.
    pub installation_id: Option<String>,
    /// When it was exported, by the exporter's clock.
    pub exported_at: Option<UtcTime>,
    /// Links.
    pub links: u64,
    /// The last link.
    pub head: Option<ChainHead>,
    /// Checkpoints that are valid.
    pub checkpoints: u64,
    /// The last valid one.
    pub signed: Option<Checkpoint>,
    /// Whether a key or checkpoint from outside vouches for the signatures.
    pub key_is_trusted: bool,
    /// The link at which the given checkpoint was found.
    pub pinned_at: Option<u64>,
    /// Events that are too young to have a link.
    pub unchained: u64,
    /// Acts that were started and not finished: under way, or cut off by a crash.
    pub open_acts: u64,
    /// The first of them, by the identity of the act.
    pub first_open_acts: Vec<String>,
    /// The first faults.
    pub faults: Vec<Found>,
    /// How many faults there are in all.
    pub fault_count: u64,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.fault_count == 0
    }

    /// Whether anything from outside vouches for the export. If not, someone may have made it up whole.
    pub fn is_vouched_for(&self) -> bool {
        self.key_is_trusted || self.pinned_at.is_some()
    }
}
