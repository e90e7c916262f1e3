//! The gate and what surrounds it, on both databases.

mod fixture;
mod gate;
mod lists;
