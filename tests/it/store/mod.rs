//! What holds of the rows on both databases.

mod inventory;
mod issuance;
mod register;
mod writer;
