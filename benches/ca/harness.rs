//! The tests' PostgreSQL, which ends with this process however it ends.
#![expect(dead_code, reason = "of what tests stand on, this needs a part")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "written for tests, in which a fault may end the process"
)]

#[path = "../../tests/it/harness/guarded.rs"]
pub mod guarded;
#[path = "../../tests/it/harness/ocsp.rs"]
pub mod ocsp;
#[path = "../../tests/it/harness/peers.rs"]
pub mod peers;
#[path = "../../tests/it/harness/postgres.rs"]
pub mod postgres;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a peer may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether someone accepts connections there.
pub fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(1)).is_ok()
}
