//! The one integration binary: one link, one PostgreSQL, one folder an area.
#![cfg(test)]

#[macro_use]
mod harness;

mod admin;
mod ca;
mod config;
mod edge;
mod live;
mod packaging;
mod pki;
mod tidy;
