//! Sees every signature that an authority's key makes, for tests: how many there were, and whether
//! what was signed was committed first.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::domain::hex::hex;
use crate::keys::{KeyId, SignError, Signer};
use crate::store::Store;

/// Names a file to which a process writes what it signs, one line each, before it signs it.
const FILE: &str = "WICKETGATE_WITNESS";

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The bytes.
    pub tbs: Vec<u8>,
    /// Whether a committed row held them before.
    pub on_record: bool,
}

/// Counts signatures and, once it watches, remembers them.
pub struct Witness {
    store: Store,
    count: AtomicU64,
    watches: AtomicBool,
    signed: Mutex<Vec<Signed>>,
    file: Option<PathBuf>,
}

impl Witness {
    pub(super) fn new(store: Store) -> Arc<Self> {
        let file = std::env::var_os(FILE).map(PathBuf::from);
        let watches = AtomicBool::new(file.is_some());
        Arc::new(Self { store, count: AtomicU64::new(0), watches, signed: Mutex::default(), file })
    }

    /// From now on every signature is remembered, and looked up in the rows.
    pub fn watch(&self) {
        self.watches.store(true, Ordering::SeqCst);
    }

    /// How often an authority's key was used.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// What was signed since it watches.
    pub fn signed(&self) -> Vec<Signed> {
        self.signed.lock().clone()
    }

    /// Reads the lines of another process's witness.
    pub fn read(text: &str) -> Vec<Signed> {
        let octets = |digits: &str| -> Vec<u8> {
            let pairs = digits.as_bytes().chunks_exact(2);
            pairs.filter_map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok()).collect()
        };
        let line = |line: &str| {
            let (tbs, on_record) = line.split_once(' ')?;
            Some(Signed { tbs: octets(tbs), on_record: on_record == "true" })
        };
        text.lines().filter_map(line).collect()
    }

    pub(super) fn watching(self: &Arc<Self>, signer: Arc<dyn Signer>) -> Arc<dyn Signer> {
        Arc::new(Watched { signer, witness: self.clone() })
    }

    async fn see(&self, tbs: &[u8]) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if !self.watches.load(Ordering::SeqCst) {
            return;
        }
        let signed = Signed { tbs: tbs.to_vec(), on_record: self.store.is_on_record(tbs).await };
        if let Some(path) = &self.file {
            let line = format!("{} {}\n", hex(tbs), signed.on_record);
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
        self.signed.lock().push(signed);
    }
}

struct Watched {
    signer: Arc<dyn Signer>,
    witness: Arc<Witness>,
}

#[async_trait]
impl Signer for Watched {
    fn key_id(&self) -> &KeyId {
        self.signer.key_id()
    }

    fn public_key(&self) -> &[u8] {
        self.signer.public_key()
    }

    async fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, SignError> {
        self.witness.see(tbs).await;
        self.signer.sign(tbs).await
    }
}
