//! The gate and what surrounds it, on both databases.

mod backup;
mod crash;
mod fixture;
mod gate;
mod lists;
