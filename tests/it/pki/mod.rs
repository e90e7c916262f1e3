//! The pure core against other people's programs: what we write must be read by everyone, and what
//! everyone writes must be read by us.

mod artefacts;
mod crl;
mod house;
pub mod peers;
mod pkcs12;
mod requests;
mod verify;
