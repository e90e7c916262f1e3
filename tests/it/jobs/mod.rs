//! Leases, runs and warnings, on both databases.

mod expiry;
mod leases;
mod orphans;
mod refresh;
mod runs;
