//! The gate and what surrounds it, on both databases.

mod crash;
pub mod fixture;
mod gate;
mod lists;
mod profiles;
mod rollover;
