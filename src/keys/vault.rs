//! Data keys, and the sealing of columns with them.
//!
//! A sealed column is `data key id (4) | nonce | ciphertext | tag`; its associated data is table, column,
//! row id and data key id, so a blob that is moved to another row or column does not open.

use std::collections::HashMap;
use std::fmt;

use parking_lot::RwLock;

use super::kek::{KEY_OCTETS, Kek, KeyFault, Purpose};
use crate::domain::{Entropy, Seal, SealBroken, Secret};

/// Where a sealed value lives.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row's primary key.
    pub row: &'a str,
}

/// A data key as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its id; unique among both purposes.
    pub id: u32,
    /// Which key-encryption key wraps it.
    pub purpose: Purpose,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

/// Seals and opens columns for one purpose.
pub struct Vault {
    kek: Kek,
    keys: RwLock<Keys>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<u32, Kek>,
    newest: Option<u32>,
}

impl Vault {
    /// A vault under `kek`, without data keys yet.
    pub fn new(kek: Kek) -> Self {
        Self { kek, keys: RwLock::default() }
    }

    /// The key-encryption key itself, for what must open without a database.
    pub fn kek(&self) -> &Kek {
        &self.kek
    }

    /// Makes a data key with this id, wrapped and ready to be stored. It is not in use before
    /// [`Self::add`].
    pub fn make_key(&self, id: u32, entropy: &dyn Entropy) -> WrappedKey {
        let mut octets = [0; KEY_OCTETS];
        entropy.fill(&mut octets);
        let octets = Secret::new(octets.to_vec());
        let wrapped = self.kek.seal(&wrap_place(id, self.kek.purpose()), octets.expose());
        WrappedKey { id, purpose: self.kek.purpose(), wrapped }
    }

    /// Takes a stored data key into use; the one with the highest id seals.
    ///
    /// # Errors
    /// [`KeyFault::Wrong`] when our key-encryption key did not wrap it.
    pub fn add(&self, wrapped: &WrappedKey) -> Result<(), KeyFault> {
        let octets = Secret::new(self.unwrap(wrapped)?);
        let text = Secret::new(format!("wicketgate-key-1:{}", base64_of(octets.expose())));
        let key = Kek::from_text(self.kek.purpose(), &text, "the database")?;
        let mut keys = self.keys.write();
        keys.by_id.insert(wrapped.id, key);
        keys.newest = keys.newest.max(Some(wrapped.id));
        Ok(())
    }

    /// The same data key, wrapped under the newest key-encryption key; `None` if it already is.
    ///
    /// # Errors
    /// [`KeyFault::Wrong`].
    pub fn rewrap(&self, wrapped: &WrappedKey) -> Result<Option<WrappedKey>, KeyFault> {
        if self.kek.is_newest(&wrapped.wrapped) {
            return Ok(None);
        }
        let octets = Secret::new(self.unwrap(wrapped)?);
        let again = self.kek.seal(&wrap_place(wrapped.id, wrapped.purpose), octets.expose());
        Ok(Some(WrappedKey { wrapped: again, ..wrapped.clone() }))
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Vec<u8>, KeyFault> {
        let wrong = |_| KeyFault::Wrong { purpose: self.kek.purpose() };
        self.kek.open(&wrap_place(wrapped.id, wrapped.purpose), &wrapped.wrapped).map_err(wrong)
    }

    /// Seals a column value.
    ///
    /// # Errors
    /// [`KeyFault::Wrong`] before any data key is in use.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let keys = self.keys.read();
        let none = || KeyFault::Wrong { purpose: self.kek.purpose() };
        let id = keys.newest.ok_or_else(none)?;
        let key = keys.by_id.get(&id).ok_or_else(none)?;
        let mut sealed = id.to_be_bytes().to_vec();
        sealed.extend(key.seal(&column_place(place, id), plain));
        Ok(sealed)
    }

    /// Opens a column value.
    ///
    /// # Errors
    /// [`SealBroken`] when it was changed or moved, or its data key is not ours.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret<Vec<u8>>, SealBroken> {
        let (id, body) = sealed.split_first_chunk::<4>().ok_or(SealBroken)?;
        let id = u32::from_be_bytes(*id);
        let keys = self.keys.read();
        keys.by_id.get(&id).ok_or(SealBroken)?.open(&column_place(place, id), body).map(Secret::new)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.kek.purpose())
    }
}

/// The vaults of a process. An edge on its own host has only the first.
#[derive(Debug)]
pub struct Vaults {
    /// Under the server key.
    pub server: Vault,
    /// Under the authority key.
    pub authority: Vault,
}

impl Vaults {
    /// The vault of this purpose.
    pub fn of(&self, purpose: Purpose) -> &Vault {
        match purpose {
            Purpose::Server => &self.server,
            Purpose::Authority => &self.authority,
        }
    }
}

fn wrap_place(id: u32, purpose: Purpose) -> Vec<u8> {
    format!("data_key\nwrapped\n{id}\n{purpose}").into_bytes()
}

fn column_place(place: Place<'_>, key: u32) -> Vec<u8> {
    format!("{}\n{}\n{}\n{key}", place.table, place.column, place.row).into_bytes()
}

fn base64_of(octets: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SystemEntropy;

    fn vault() -> Vault {
        let text = Kek::fresh_text(&SystemEntropy);
        let vault = Vault::new(Kek::from_text(Purpose::Authority, &text, "test").unwrap());
        vault.add(&vault.make_key(1, &SystemEntropy)).unwrap();
        vault
    }

    #[test]
    fn a_blob_that_moved_to_another_row_does_not_open() {
        let vault = vault();
        let here = Place { table: "signing_key", column: "sealed", row: "a" };
        let sealed = vault.seal(here, b"key").unwrap();
        assert_eq!(vault.open(here, &sealed).unwrap().expose(), b"key");
        for there in [Place { row: "b", ..here }, Place { column: "x", ..here }, Place { table: "x", ..here }]
        {
            assert_eq!(vault.open(there, &sealed).unwrap_err(), SealBroken);
        }
    }

    #[test]
    fn rewrapping_changes_the_wrapping_and_not_the_key() {
        let old = Kek::fresh_text(&SystemEntropy);
        let before = Vault::new(Kek::from_text(Purpose::Server, &old, "test").unwrap());
        let wrapped = before.make_key(1, &SystemEntropy);
        before.add(&wrapped).unwrap();
        let place = Place { table: "t", column: "c", row: "r" };
        let sealed = before.seal(place, b"x").unwrap();
        let new = Kek::fresh_text(&SystemEntropy);
        let both = Secret::new(format!("{}{}", new.expose(), old.expose()));
        let during = Vault::new(Kek::from_text(Purpose::Server, &both, "test").unwrap());
        let again = during.rewrap(&wrapped).unwrap().unwrap();
        assert_eq!(during.rewrap(&again).unwrap(), None);
        let after = Vault::new(Kek::from_text(Purpose::Server, &new, "test").unwrap());
        assert!(matches!(after.add(&wrapped), Err(KeyFault::Wrong { .. })));
        after.add(&again).unwrap();
        assert_eq!(after.open(place, &sealed).unwrap().expose(), b"x");
    }
}
