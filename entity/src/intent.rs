//! What we are about to sign.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "intent")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub serial: String,
    pub authority: String,
    pub tbs: Vec<u8>,
    pub person_id: String,
    pub device_id: String,
    pub profile: String,
    pub not_after: i64,
    pub created_at: i64,
    pub resolved_at: Option<i64>,
    pub outcome: Option<String>,
    pub purpose: String,
    pub lineage: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
