//! The client certificates that connections at the door presented, by connection. The handshake has
//! proven that the peer holds the key; who they are is asked again for every request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;

/// The leaves of open connections. Cheap to clone.
#[derive(Clone, Default)]
pub struct Presented(Arc<Inner>);

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    leaves: Mutex<HashMap<u64, Arc<CertificateDer<'static>>>>,
}

/// The place of one connection's leaf, given up when dropped.
pub struct Kept {
    presented: Presented,
    connection: u64,
}

impl Presented {
    /// Keeps the leaf of a connection for as long as the answer lives.
    pub fn keep(&self, leaf: CertificateDer<'static>) -> Kept {
        let connection = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.leaves.lock().insert(connection, Arc::new(leaf));
        Kept { presented: self.clone(), connection }
    }

    /// The leaf of this connection, if it presented one and is still open.
    pub fn leaf(&self, connection: u64) -> Option<Arc<CertificateDer<'static>>> {
        self.0.leaves.lock().get(&connection).cloned()
    }
}

impl Kept {
    /// The connection's number.
    pub fn connection(&self) -> u64 {
        self.connection
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.presented.0.leaves.lock().remove(&self.connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_forgotten_with_its_connection() {
        let presented = Presented::default();
        let (a, b) = (presented.keep(vec![1].into()), presented.keep(vec![2].into()));
        assert_eq!(presented.leaf(b.connection()).unwrap().as_ref().as_ref(), [2]);
        let gone = a.connection();
        drop(a);
        assert!(presented.leaf(gone).is_none());
    }
}
