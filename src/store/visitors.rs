//! Certificates and devices of those who would come: what questions to policies are asked about.

use std::collections::HashMap;

use entity::{certificate, device};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::certificates::{Certificate, read};
use super::{Store, StoreError, parse};
use crate::domain::{DeviceId, Serial};

/// Rows that are asked for by name in one query; databases bound what one may hold.
const MOST_AT_ONCE: usize = 500;

impl Store {
    /// Those of these certificates that there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificates_by_serial(
        &self,
        serials: &[Serial],
    ) -> Result<HashMap<Serial, Certificate>, StoreError> {
        let mut found = HashMap::new();
        for some in serials.chunks(MOST_AT_ONCE) {
            let serials = some.iter().map(ToString::to_string);
            let query = certificate::Entity::find().filter(certificate::Column::Serial.is_in(serials));
            for row in query.all(self.reader()).await? {
                let one = read(row)?;
                found.insert(one.serial, one);
            }
        }
        Ok(found)
    }

    /// The certificate that a device would present: of those that are not revoked the one that lasts longest,
    /// else what it has left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn current_certificate(&self, device: DeviceId) -> Result<Option<Certificate>, StoreError> {
        use certificate::Column;
        let all = certificate::Entity::find()
            .filter(Column::DeviceId.eq(device.to_string()))
            .order_by_desc(Column::NotAfter)
            .order_by_desc(Column::Serial);
        let valid = all.clone().filter(Column::RevokedAt.is_null()).one(self.reader()).await?;
        let found = match valid {
            Some(valid) => Some(valid),
            None => all.one(self.reader()).await?,
        };
        found.map(read).transpose()
    }

    /// The names of those of these devices that there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn names_of_devices(&self, ids: &[DeviceId]) -> Result<HashMap<DeviceId, String>, StoreError> {
        let mut names = HashMap::new();
        for some in ids.chunks(MOST_AT_ONCE) {
            let ids = some.iter().map(ToString::to_string);
            let query = device::Entity::find().filter(device::Column::Id.is_in(ids));
            for row in query.all(self.reader()).await? {
                names.insert(parse("a device's id", &row.id)?, row.name);
            }
        }
        Ok(names)
    }
}
