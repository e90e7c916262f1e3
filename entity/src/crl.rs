//! A certificate revocation list.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "crl")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub authority: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub this_update: i64,
    pub next_update: i64,
    pub entries_sha256: String,
    pub tbs: Vec<u8>,
    pub der: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
