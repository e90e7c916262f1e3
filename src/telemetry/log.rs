//! Log lines: JSON in Bunyan's fields for machines, text for a terminal.
//!
//! A line reads alone: what the surrounding spans know (trace id, actor, object) is repeated on each.

use std::io::{self, IsTerminal};

use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_bunyan_formatter::{BunyanFormattingLayer, JsonStorageLayer};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

use super::line;
use super::redact::{LineKind, REDACTED, Redacting, is_secret_field};
use crate::config::LogFormat;

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, for a service.
    Stdout,
    /// Standard error, for a command whose standard output is its answer.
    Stderr,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `telemetry.filter` is no filter.
    #[error("the log filter {0:?} is not valid")]
    Filter(String),
    /// It was started before.
    #[error("logging was started already")]
    Started,
}

/// Starts logging for the whole process, and logs panics from now on. Call it once.
///
/// # Errors
/// [`InitError`].
pub fn init(format: LogFormat, filter: &str, destination: Destination) -> Result<(), InitError> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let on_terminal = match destination {
        Destination::Stdout => stdout.is_terminal(),
        Destination::Stderr => stderr.is_terminal(),
    };
    let dispatch = match destination {
        Destination::Stdout => dispatch(format, on_terminal, filter, io::stdout)?,
        Destination::Stderr => dispatch(format, on_terminal, filter, io::stderr)?,
    };
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| InitError::Started)?;
    if !is_text(format, on_terminal) {
        line::open(destination);
    }
    log_panics();
    Ok(())
}

/// The subscriber behind [`init`], with a writer of the caller's, for tests.
///
/// # Errors
/// [`InitError::Filter`].
pub fn dispatch<W>(
    format: LogFormat,
    on_terminal: bool,
    filter: &str,
    writer: W,
) -> Result<Dispatch, InitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).map_err(|_| InitError::Filter(filter.to_owned()))?;
    Ok(if is_text(format, on_terminal) {
        let fields = debug_fn(|line, field, value| match field.name() {
            "message" => write!(line, "{value:?}"),
            name if is_secret_field(name) => write!(line, "{name}={REDACTED}"),
            name => write!(line, "{name}={value:?}"),
        });
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(on_terminal)
            .with_target(false)
            .fmt_fields(fields.delimited(" "))
            .with_writer(Redacting::new(writer, LineKind::Text));
        Registry::default().with(filter).with(layer).into()
    } else {
        let layer = BunyanFormattingLayer::new("wicketgate".into(), Redacting::new(writer, LineKind::Json));
        Registry::default().with(filter).with(JsonStorageLayer).with(EventsOnly(layer)).into()
    })
}

fn is_text(format: LogFormat, on_terminal: bool) -> bool {
    format == LogFormat::Text || (format == LogFormat::Auto && on_terminal)
}

/// Passes on events but not the beginnings and ends of spans: those would be two more lines a request.
struct EventsOnly<L>(L);

impl<S, L> Layer<S> for EventsOnly<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.0.on_event(event, context);
    }
}

/// A panic becomes one log line, and only that: its text may quote anything, so it must pass the same net
/// as every line.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no text");
        let trace = std::backtrace::Backtrace::capture();
        tracing::error!(panic.at = %at, panic.text = %text, panic.trace = %trace, "A thread panicked");
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{info, info_span};

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, act: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let dispatch = dispatch(format, false, "info", move || writer.clone()).unwrap();
        tracing::dispatcher::with_default(&dispatch, act);
        String::from_utf8(memory.0.lock().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_bunyan_and_repeats_its_span() {
        let lines = logged(LogFormat::Auto, || {
            let span = info_span!("request", trace_id = "4bf92f");
            span.in_scope(|| info!(cert.serial = "0a1b", elapsed_ms = 3, "Issued"));
        });
        assert_eq!(lines.lines().count(), 1, "no lines for the span itself: {lines}");
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        for (field, value) in [("name", "wicketgate"), ("cert.serial", "0a1b"), ("trace_id", "4bf92f")] {
            assert_eq!(line[field], value);
        }
        assert!(line["msg"].as_str().unwrap().ends_with("Issued") && line["level"] == 30, "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn neither_format_lets_a_secret_out() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let lines = logged(format, || {
                let span =
                    info_span!("session", person.email = "anna@example.com", session.token = "hunter2");
                let _inside = span.enter();
                info!(password = "hunter2", api_token = %"hunter2", count = 7, "Signed in as anna@example.com");
                info!(
                    detail = "Bearer hunter2",
                    url = "postgres://w:hunter2@db.example/w",
                    "wkt_hunter2 used"
                );
                info!("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----");
            });
            assert!(!lines.contains("hunter2") && !lines.contains("anna"), "{lines}");
            assert!(lines.contains("Signed in as [redacted]") && lines.contains('7'), "{lines}");
        }
    }

    #[test]
    fn a_senseless_filter_is_refused() {
        assert!(matches!(dispatch(LogFormat::Json, false, "a=b=c", io::sink), Err(InitError::Filter(_))));
    }
}
