//! jobs
pub mod refresh_live;
