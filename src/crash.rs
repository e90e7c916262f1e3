//! Named points at which a test can end the process as a power cut would, or take the database away.
//! Compiled to nothing but in test builds (feature `test-util`), which no release has.

#[cfg(feature = "test-util")]
mod plan;

#[cfg(feature = "test-util")]
pub use plan::{AtCommit, Blow, Killed, Plan, Under, at_commit, is_database_away};

/// Does what a test planned for this point.
///
/// * The task's own [`Plan`], if it runs under one.
/// * `WICKETGATE_CRASH_AT` names the point: the process ends itself at once.
/// * `WICKETGATE_STOP_AT` names it: the process says `stopped at <point>` on its standard output and
///   waits there to be killed.
#[cfg(feature = "test-util")]
pub fn reach(point: &'static str) {
    plan::reach(point);
    let named = |variable| std::env::var(variable).is_ok_and(|wanted| wanted == point);
    if named("WICKETGATE_CRASH_AT") {
        std::process::abort();
    }
    if named("WICKETGATE_STOP_AT") {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "stopped at {point}");
        let _ = out.flush();
        loop {
            std::thread::park();
        }
    }
}

/// There are no plans.
#[cfg(not(feature = "test-util"))]
#[derive(Clone, PartialEq)]
pub struct Under;

#[cfg(not(feature = "test-util"))]
impl Under {
    /// None.
    #[inline(always)]
    pub fn this() -> Self {
        Self
    }

    /// `future` as it is.
    #[inline(always)]
    pub fn carry<F: Future>(self, future: F) -> F {
        future
    }
}

/// Does nothing.
#[cfg(not(feature = "test-util"))]
#[inline(always)]
pub fn reach(_point: &'static str) {}
