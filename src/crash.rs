//! Named points at which a test can end the process as a power cut would. Compiled to nothing but
//! in test builds (feature `test-util`), which no release has.

/// Ends the process at once if the environment names this point in `WICKETGATE_CRASH_AT`.
#[cfg(feature = "test-util")]
pub fn reach(point: &'static str) {
    if std::env::var("WICKETGATE_CRASH_AT").is_ok_and(|wanted| wanted == point) {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(feature = "test-util"))]
#[inline(always)]
pub fn reach(_point: &'static str) {}
