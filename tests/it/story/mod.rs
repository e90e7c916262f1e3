//! The whole program as a process, against real peers: what is promised, end to end.

mod acme;
mod agent;
mod backend;
mod demo;
mod device;
mod est;
mod house;
mod restart;
mod schema;
mod secrets;
mod whole;
mod wire;
