//! The pure core against other people's programs: what we write must be read by everyone, and what
//! everyone writes must be read by us.

pub(crate) mod artefacts;
mod crl;
pub(crate) mod house;
pub(crate) mod peers;
mod pkcs12;
mod requests;
mod verify;
