//! Rows of the database, one file a table, no logic. Times are Unix seconds in UTC, ids and names text.
//! What the columns mean stands in `migration` and beside the functions of `store`.
#![expect(missing_docs, reason = "columns are named after their meaning; a sentence each would repeat it")]

pub mod acme_account;
pub mod acme_challenge;
pub mod acme_order;
pub mod acme_renewal;
pub mod alert;
pub mod audit_checkpoint;
pub mod audit_event;
pub mod audit_link;
pub mod authority;
pub mod blocked_key;
pub mod ceremony;
pub mod certificate;
pub mod configuration_head;
pub mod crl;
pub mod crl_head;
pub mod data_key;
pub mod device;
pub mod expiry_notice;
pub mod idempotency_key;
pub mod intent;
pub mod internal_certificate;
pub mod invitation;
pub mod issuance_request;
pub mod job_run;
pub mod lease;
pub mod outbox;
pub mod person;
pub mod profile;
pub mod profile_version;
pub mod register_change;
pub mod register_head;
pub mod route;
pub mod serial;
pub mod server_certificate;
pub mod session;
pub mod setting;
pub mod setup_link;
pub mod signing_key;
pub mod site;
pub mod token;
pub mod upstream;
