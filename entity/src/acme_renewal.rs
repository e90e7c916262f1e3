//! What is known of a name's renewal between orders.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "acme_renewal")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host: String,
    pub failures: i64,
    pub jitter: i64,
    pub last_failed_at: Option<i64>,
    pub blocked_until: Option<i64>,
    pub requested_at: Option<i64>,
    pub succeeded_at: Option<i64>,
    pub last_error: Option<String>,
    pub window_certificate: Option<String>,
    pub window_start: Option<i64>,
    pub window_end: Option<i64>,
    pub window_selected: Option<i64>,
    pub window_next_look: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
