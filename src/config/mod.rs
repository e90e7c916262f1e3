//! What the process needs to know before it can ask a database: read, checked, and shown.
//!
//! `raw` mirrors the file; its schema says what is known, of which type and range. [`Config::load`]
//! walks file and environment against that schema, checks the values, and lists every fault at once.
//! [`probe()`] looks at the files that the values name; ports and databases are the caller's to try.
//! Called by `boot` and `cli`. Never prints a secret.

pub mod choices;
pub mod fault;

mod check;
mod checked;
mod effective;
mod environment;
mod load;
mod probe;
mod raw;
mod schema;
mod values;
mod walk;

#[cfg(test)]
mod tests;

pub use checked::{
    Acme, Admin, Config, Database, DatabaseUrl, Dns, Door, Edge, EdgeLimits, Health, KeySource, Keys, Limits,
    Otlp, Pki, Server, Smtp, Telemetry, Tls,
};
pub use choices::{AcmeChallenge, LogFormat, SmtpEncryption, Suite, TlsVersion};
pub use effective::effective;
pub use environment::{Environment, environment};
pub use fault::{ConfigFaults, Fault};
pub use probe::probe;
pub use schema::json_schema;
