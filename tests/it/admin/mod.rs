//! The admin server from outside: over its own streams, with a real authority behind it.

mod by_certificate;
mod configuration;
mod connections;
mod enrolment;
mod est;
mod fixture;
mod openapi;
mod requests;
mod roles;
mod secrets;
mod sign_in;
