//! What the program logs, as lines for machines.

use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde_json::Value;
use wicketgate::config::LogFormat;

/// The log lines of the current thread, for as long as this lives. In a test on tokio's current-thread
/// runtime that is every task of it.
pub struct Captured {
    memory: Memory,
    _guard: tracing::dispatcher::DefaultGuard,
}

impl Captured {
    /// From here on, what passes `filter` is kept.
    pub fn start(filter: &str) -> Self {
        let memory = Memory::default();
        let writer = memory.clone();
        // While there is one subscriber only, tracing asks the subscriber of the thread that happens to come
        // by first whether anyone wants a span: that of another test, which has none. With two it asks all.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| {
            wicketgate::telemetry::log::dispatch(LogFormat::Json, false, "off", io::sink).unwrap()
        });
        let dispatch =
            wicketgate::telemetry::log::dispatch(LogFormat::Json, false, filter, move || writer.clone());
        let guard = tracing::dispatcher::set_default(&dispatch.unwrap());
        Self { memory, _guard: guard }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let bytes = self.memory.0.lock().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The lines whose message contains `words`.
    pub fn saying(&self, words: &str) -> Vec<Value> {
        let says = |line: &Value| line["msg"].as_str().is_some_and(|msg| msg.contains(words));
        self.lines().into_iter().filter(says).collect()
    }
}

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
