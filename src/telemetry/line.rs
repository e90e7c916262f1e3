//! The quick way to a log line, for the one that every request has: the fields of a Bunyan line, written as they
//! come into a buffer of the thread, which goes out when it is full, and whenever [`flush`] is called.
//!
//! For what is ours; a peer's text goes through [`Line::foreign`], and so through the net of every other line.

use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::log::Destination;
use super::redact::redact;
use crate::domain::UtcTime;

/// Octets that a thread keeps before it writes them.
const KEPT: usize = 16 * 1024;
/// Bunyan's number for a line of level info.
const INFO: u8 = 30;

/// Where lines go, once the process logs JSON.
static SINK: OnceLock<Sink> = OnceLock::new();
/// Whether lines go out one by one: the process is about to end.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

struct Sink {
    /// What every line begins with.
    head: String,
    destination: Destination,
}

thread_local! {
    static KEEPER: Keeper = const { Keeper(RefCell::new(String::new())) };
    /// The second of the last line, and how it is written.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((-1, String::new())) };
}

/// The lines of one thread that have not gone out.
struct Keeper(RefCell<String>);

impl Drop for Keeper {
    fn drop(&mut self) {
        write(self.0.get_mut());
    }
}

/// Lines of JSON go to `destination` from now on. Called once, by whoever starts logging.
pub(super) fn open(destination: Destination) {
    let _ = SINK.set(Sink { head: head(), destination });
}

/// The fields that are the same on every line of the process.
fn head() -> String {
    let name = rustix::system::uname();
    let mut head = String::from("{\"v\":0,\"name\":\"wicketgate\",\"level\":");
    let _ = write!(head, "{INFO},\"hostname\":");
    put_text(&mut head, &name.nodename().to_string_lossy());
    let _ = write!(head, ",\"pid\":{}", std::process::id());
    head
}

/// Writes what the thread has kept.
pub fn flush() {
    KEEPER.with(|keeper| write(&mut keeper.0.borrow_mut()));
}

/// From here on every line goes out at once: the process is about to end.
pub fn end() {
    IS_ENDING.store(true, Ordering::Release);
    flush();
}

fn write(lines: &mut String) {
    if let Some(sink) = SINK.get().filter(|_| !lines.is_empty()) {
        // Nobody is left to be told where a log cannot be written.
        let _ = match sink.destination {
            Destination::Stdout => io::stdout().lock().write_all(lines.as_bytes()),
            Destination::Stderr => io::stderr().lock().write_all(lines.as_bytes()),
        };
    }
    lines.clear();
}

/// A line that is being written.
pub struct Line(String);

impl Line {
    /// Begins a line of level info, if lines go out this way. Whoever is told no uses `tracing`.
    ///
    /// * `unix_ms` — milliseconds since 1970, as the host's clock shows them.
    pub fn begin(target: &'static str, message: &'static str, unix_ms: impl FnOnce() -> u64) -> Option<Self> {
        let sink = SINK.get()?;
        let mut line = Self(KEEPER.with(|keeper| std::mem::take(&mut *keeper.0.borrow_mut())));
        line.begin_with(&sink.head, target, message, unix_ms());
        Some(line)
    }

    fn begin_with(&mut self, head: &str, target: &str, message: &str, unix_ms: u64) {
        self.0.push_str(head);
        self.0.push_str(",\"time\":\"");
        let (seconds, millis) = (i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX), unix_ms % 1_000);
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != seconds {
                *second = seconds;
                *text = UtcTime::from_unix(seconds).to_string();
            }
            self.0.push_str(text.trim_end_matches('Z'));
        });
        let _ = write!(self.0, ".{millis:03}Z\",\"target\":\"{target}\",\"msg\":\"{message}\"");
    }

    fn name(&mut self, name: &'static str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    /// Text of ours.
    pub fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.name(name);
        put_text(&mut self.0, text);
        self
    }

    /// A peer's text: escaped, and without what must not be in a log.
    pub fn foreign(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.text(name, &redact(text))
    }

    /// A value of ours whose text needs no escape.
    pub fn value(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.name(name);
        let _ = write!(self.0, "\"{value}\"");
        self
    }

    /// A number or a truth value.
    pub fn bare(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.name(name);
        let _ = write!(self.0, "{value}");
        self
    }

    /// The line is whole.
    pub fn end(mut self) {
        self.0.push_str("}\n");
        if self.0.len() >= KEPT || IS_ENDING.load(Ordering::Acquire) {
            write(&mut self.0);
        }
        KEEPER.with(|keeper| {
            let mut kept = keeper.0.borrow_mut();
            // Another line may have been written meanwhile.
            if !kept.is_empty() {
                self.0.push_str(&kept);
            }
            *kept = self.0;
        });
    }
}

#[cfg(test)]
impl Line {
    /// A line with these fields, as it would go out.
    pub(crate) fn written(write: impl FnOnce(&mut Self)) -> String {
        let mut line = Self(String::new());
        line.begin_with("{\"v\":0", "access", "request", 1_700_000_000_007);
        write(&mut line);
        line.0.push('}');
        line.0
    }
}

/// RFC 8259 §7.
fn put_text(out: &mut String, text: &str) {
    let is_plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    out.push('"');
    if is_plain {
        out.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_one_object_with_the_time_to_the_millisecond() {
        let text = Line::written(|line| {
            line.text("method", "GET").bare("status", 200).bare("whole", true).value("serial", "0a");
        });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20.007Z");
        assert_eq!(value["msg"], "request");
        assert_eq!((&value["status"], &value["whole"]), (&200.into(), &true.into()));
        assert_eq!(value["serial"], "0a");
    }

    #[test]
    fn what_a_peer_wrote_goes_through_the_net() {
        let text = Line::written(|line| {
            line.foreign("path", "/u/anna@example.test/wkt_abc\"\n");
        });
        assert!(!text.contains("anna") && !text.contains("wkt_abc") && !text.contains('\n'), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in any::<String>()) {
            let whole = Line::written(|line| {
                line.text("path", &text);
            });
            let value: serde_json::Value = serde_json::from_str(&whole).unwrap();
            prop_assert_eq!(value["path"].as_str(), Some(&*text));
        }
    }
}
