//! The gate and what surrounds it, on both databases.

mod acts;
pub(crate) mod agreement;
pub(crate) mod asking;
mod backup;
mod crash;
pub(crate) mod fixture;
mod gate;
pub(crate) mod hold;
mod invitations;
mod lists;
mod ocsp;
mod offline;
mod profiles;
pub(crate) mod race;
mod rollover;
pub(crate) mod third_party;
mod upstream_identity;
