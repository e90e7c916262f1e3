//! Names of upstreams that DNS is asked for.

use std::sync::Arc;

use parking_lot::RwLock;

use super::instruments::label;
use crate::domain::upstream::NameStatus;

label! {
    /// Why a name could not be resolved.
    LookupFault as "cause" {
        /// There is no such name.
        NoSuchName = "no_such_name",
        /// The name has no addresses.
        Empty = "empty",
        /// The server says that it failed, or that it is not asked by us.
        ServerFailure = "server_failure",
        /// Nothing came in time.
        Timeout = "timeout",
        /// There is no server to ask, or no way to it or to any of the addresses.
        Unreachable = "unreachable",
        /// The name has only addresses that no answer may lead to.
        Forbidden = "forbidden",
        /// What came is not an answer.
        Broken = "broken",
    }
}

/// The names of all upstreams, as they were known a moment ago.
#[derive(Debug, Default)]
pub struct Names(RwLock<Arc<Vec<NameStatus>>>);

impl Names {
    /// This is known now.
    pub fn set(&self, known: Vec<NameStatus>) {
        *self.0.write() = Arc::new(known);
    }

    /// What was known last.
    pub fn known(&self) -> Arc<Vec<NameStatus>> {
        self.0.read().clone()
    }
}
