//! How one process takes over from another without a dropped request. They speak over a Unix socket in the data
//! directory, and share what the kernel queues for them.
//!
//! `give` is the side that serves, `take` the one that comes; `wire` has their words. In order:
//!
//! 1. The new process reads its configuration and its keys. It gets copies of all listening sockets.
//! 2. *Stand back*: the old one stops its control plane, closes the database and lets go of the edge's copy on disk.
//!    Its edge goes on. From here on nobody answers a revocation, until there is a control plane again.
//! 3. The new one starts: snapshot, edge, control plane. Its control plane treats the old edge as one of its own:
//!    whoever is revoked now has the answer when both edges enforce it.
//! 4. *Ready*: the old one accepts no more, the new one begins. What came in between waits in the shared queues.
//! 5. The old edge lets its connections go, within `edge.drain_timeout_ms`, and hears of every change until then.
//!    Nobody takes over from the new process before that: it would not know of that edge.
//!
//! There are never two control planes, and never two writers of one copy: the old one's starts again only when the
//! line to the new one breaks, which the new one holds for as long as it may use either.

mod give;
mod take;
mod wire;

pub(super) use give::{Estate, Place, give};
pub use take::{Predecessor, TakeOverError};
