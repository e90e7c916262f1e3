//! A client certificate that the gate issued.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "certificate")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub serial: String,
    pub authority: String,
    pub person_id: String,
    pub device_id: String,
    pub profile: String,
    pub lineage: String,
    pub replaces: Option<String>,
    pub fingerprint: String,
    pub spki_sha256: String,
    pub subject: String,
    pub email: Option<String>,
    pub not_before: i64,
    pub not_after: i64,
    pub issued_at: i64,
    pub der: Vec<u8>,
    pub revoked_at: Option<i64>,
    pub revocation_reason: Option<i64>,
    pub invalid_since: Option<i64>,
    pub profile_version: i64,
    pub supersede_at: Option<i64>,
    pub subject_key: String,
    pub email_key: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
