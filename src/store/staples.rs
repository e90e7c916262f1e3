//! OCSP answers that are stapled to server certificates.

use entity::server_certificate::{self, Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{StoreError, Transaction, at};
use crate::domain::UtcTime;

/// A verified OCSP answer that says `good`, as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staple {
    /// The OCSPResponse, DER.
    pub der: Vec<u8>,
    /// Since when it is known to be so.
    pub this_update: UtcTime,
    /// The first second in which it does not count any more.
    pub until: UtcTime,
}

impl Staple {
    /// From when on the next one is asked for: half of its time is over.
    pub fn refresh_at(&self) -> UtcTime {
        self.this_update.plus(self.until.since(self.this_update) / 2)
    }
}

impl Transaction {
    /// Gives the server certificate of row `id` another staple, or none. Edges learn of it.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn staple(&self, id: &str, staple: Option<&Staple>) -> Result<(), StoreError> {
        let update = Entity::update_many()
            .col_expr(Column::Staple, Expr::value(staple.map(|staple| staple.der.clone())))
            .col_expr(
                Column::StapleThisUpdate,
                Expr::value(staple.map(|staple| staple.this_update.as_unix())),
            )
            .col_expr(Column::StapleUntil, Expr::value(staple.map(|staple| staple.until.as_unix())))
            .filter(Column::Id.eq(id));
        if update.exec(self.connection()).await?.rows_affected != 1 {
            return Err(StoreError::Missing { what: "server certificate" });
        }
        self.touch_configuration().await
    }
}

/// The staple in a row; all three columns are there or none.
pub(super) fn read_staple(row: &server_certificate::Model) -> Option<Staple> {
    let (der, this_update, until) = (row.staple.clone()?, row.staple_this_update?, row.staple_until?);
    Some(Staple { der, this_update: at(this_update), until: at(until) })
}
