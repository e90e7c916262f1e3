//! The door asks for client certificates: devices renew by them there.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        // Doors were made without the question; whoever does not want it asked turns it off afterwards.
        for statement in [
            "UPDATE site SET client_auth = 'request' WHERE kind = 'door' AND client_auth = 'none'",
            "UPDATE configuration_head SET version = version + 1",
        ] {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
