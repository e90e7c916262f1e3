//! What the process says about itself: log lines, trace context, numbers. Used by every room that acts.
//!
//! Never says keys, tokens, signing requests or mail addresses; `redact` stands between every log line
//! and the outside.

pub mod line;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod redact;
pub mod spans;
pub mod trace;

pub use log::{Destination, InitError, init};
pub use metrics::Metrics;
pub use spans::Spans;
pub use trace::TraceContext;
