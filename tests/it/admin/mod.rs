//! The admin server from outside: over its own streams, with a real authority behind it.

mod apply;
mod authorities;
mod by_certificate;
mod configuration;
mod connections;
mod enrolment;
mod est;
pub(crate) mod fixture;
mod inventory;
mod openapi;
mod policies;
mod requests;
mod roles;
mod secrets;
mod sign_in;
mod traces;
