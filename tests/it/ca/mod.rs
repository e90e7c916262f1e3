//! The gate and what surrounds it, on both databases.

mod agreement;
mod asking;
mod backup;
mod crash;
pub(crate) mod fixture;
mod gate;
mod hold;
mod lists;
mod ocsp;
mod profiles;
mod race;
mod rollover;
mod third_party;

/// How many times something is tried: few in every run, many when `PROVE_SCALE` (a factor) is set.
fn count((every_run, full): (u32, u32)) -> u32 {
    match std::env::var("PROVE_SCALE").ok().and_then(|scale| scale.parse::<f64>().ok()) {
        None => every_run,
        Some(scale) => (f64::from(full) * scale).max(f64::from(every_run)) as u32,
    }
}
