//! The journal of one ACME order.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "acme_order")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub host: String,
    pub directory: String,
    pub state: String,
    pub challenge: String,
    pub order_url: Option<String>,
    pub csr: Vec<u8>,
    pub sealed_key: Vec<u8>,
    pub chain_pem: Option<String>,
    pub certificate_id: Option<String>,
    pub previous_certificate_id: Option<String>,
    pub last_error: Option<String>,
    pub fencing: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
