//! Which of our own client certificates edges show to upstreams. The certificates themselves are internal
//! ones; one setting says which is in use and its generation, so that both are read at once.

use std::num::NonZeroU64;

use super::certificates::IntentPurpose;
use super::internal_certificates::InternalCertificate;
use super::settings::UPSTREAM_IDENTITY;
use super::{Store, StoreError, Transaction, parse};
use crate::domain::Serial;

/// The client certificate that edges show to upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamIdentity {
    /// Strictly increasing; 1 for the first.
    pub generation: u64,
    /// The certificate.
    pub certificate: InternalCertificate,
}

impl Store {
    /// The one in use, if there ever was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn upstream_identity(&self) -> Result<Option<UpstreamIdentity>, StoreError> {
        let Some(value) = self.setting(UPSTREAM_IDENTITY).await? else { return Ok(None) };
        let (generation, serial) = read(&value)?;
        let certificate = self.internal_certificate(serial).await?;
        let certificate =
            certificate.ok_or(StoreError::Missing { what: "client certificate of the edge's own" })?;
        Ok(Some(UpstreamIdentity { generation, certificate }))
    }

    /// The last generation, as far as it can be told where [`Store::upstream_identity`] cannot be read; 0 if there
    /// was none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_upstream_generation(&self) -> Result<u64, StoreError> {
        let value = self.setting(UPSTREAM_IDENTITY).await?.unwrap_or_default();
        match value.split(' ').next().and_then(|generation| generation.parse().ok()) {
            Some(generation) => Ok(generation),
            // Each has left a certificate.
            None => self.count_internal_certificates(&IntentPurpose::UpstreamClient).await,
        }
    }
}

impl Transaction {
    /// Adds a signed one, and gives edges that one from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_upstream_identity(&self, new: &UpstreamIdentity) -> Result<(), StoreError> {
        self.insert_internal_certificate(&new.certificate).await?;
        self.set_setting(UPSTREAM_IDENTITY, &format!("{} {}", new.generation, new.certificate.serial))
            .await?;
        // The configuration carries it, so it moves with it.
        self.touch_configuration().await
    }
}

fn read(value: &str) -> Result<(u64, Serial), StoreError> {
    let (generation, serial) = value.split_once(' ').unwrap_or((value, ""));
    let generation: NonZeroU64 = parse("the generation of the edge's own client certificate", generation)?;
    Ok((generation.get(), parse("the serial of the edge's own client certificate", serial)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_and_serial_are_read_together_or_not_at_all() {
        assert_eq!(read("12 0a0b").unwrap(), (12, "0a0b".parse().unwrap()));
        for bad in ["", "12", "12 ", " 0a0b", "0 0a0b", "-1 0a0b", "12 0a0b ", "12  0a0b", "x 0a0b"] {
            assert!(matches!(read(bad), Err(StoreError::Corrupt { .. })), "{bad:?}");
        }
    }
}
