//! The one integration binary: one link, one PostgreSQL, one folder an area.
#![cfg(test)]

#[macro_use]
mod harness;

mod acme;
mod admin;
mod audit;
mod ca;
mod config;
mod edge;
mod jobs;
mod live;
mod mail;
mod packaging;
mod pki;
mod prove;
mod rollover;
mod store;
mod story;
mod tidy;
