//! The admin server from outside: over its own streams, with a real authority behind it.

mod fixture;
mod openapi;
mod sign_in;
