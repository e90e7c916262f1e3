//! The whole program as a process, against real peers: what is promised, end to end.

mod backend;
mod device;
mod house;
mod schema;
mod whole;
mod wire;
