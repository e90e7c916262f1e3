//! The gate and what surrounds it, on both databases.

mod crash;
mod fixture;
mod gate;
mod lists;
mod profiles;
