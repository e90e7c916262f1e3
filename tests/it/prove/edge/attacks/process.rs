//! The processes of the proof: this binary again, each in a part of its own, told what to do by lines of
//! JSON. One ends when its standard input does, so none outlives us.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::prove::is_full;

/// Names the part that a process plays.
const PART: &str = "WICKETGATE_TEST_ATTACKS_PART";
/// How long a process may take over one line.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The edge.
    Victim,
    /// Those who attack it.
    Attacker,
    /// The app behind it.
    Origin,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::Attacker => "attacker",
            Self::Origin => "origin",
        }
    }

    /// What this process is told, if this is its part.
    pub(super) fn orders(self) -> Option<Orders> {
        let is_mine = std::env::var(PART).is_ok_and(|part| part == self.name());
        is_mine.then(|| Orders(BufReader::new(tokio::io::stdin()).lines()))
    }
}

/// What a process is told, and by whom it is heard.
pub(super) struct Orders(Lines<BufReader<Stdin>>);

impl Orders {
    /// The next one; none when there is nothing left to do.
    pub(super) async fn next(&mut self) -> Option<Value> {
        let line = self.0.next_line().await.ok().flatten()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Says something to whoever started this process. The test runner has begun the line.
    pub(super) fn say(&self, value: &Value) {
        println!("\n{value}");
    }

    /// Waits until there is nothing left to do.
    pub(super) async fn end(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// A process that plays a part.
pub(super) struct Process {
    pub(super) pid: u32,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Process {
    /// Starts one.
    pub(super) fn start(part: Part) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), part)
    }

    /// Starts one that takes what processor time the others leave. At the lowest priority, it takes a processor for
    /// ten milliseconds now and then from an edge that has much to do; in the full size, only an idle one, which in
    /// the small size it might never find.
    pub(super) fn start_behind_others(part: Part) -> Self {
        let lowest: &[&str] = if is_full() { &["chrt", "--idle", "0"] } else { &["nice", "-n", "19"] };
        let mut command = Command::new(lowest[0]);
        command.args(&lowest[1..]).arg(std::env::current_exe().unwrap());
        Self::spawn(command, part)
    }

    fn spawn(mut command: Command, part: Part) -> Self {
        let test = format!("prove::edge::attacks::{0}::{0}", part.name());
        let mut child = command
            .args(["--exact", &test, "--nocapture", "--test-threads=1"])
            .env(PART, part.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { pid: child.id().unwrap(), input, output, child }
    }

    /// Tells it something.
    pub(super) async fn tell(&mut self, value: &Value) {
        self.input.write_all(format!("{value}\n").as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }

    /// What it says next.
    pub(super) async fn hear(&mut self) -> Value {
        let next = async {
            loop {
                let line = self.output.next_line().await.unwrap().expect("it has not ended");
                if line.starts_with('{') {
                    return serde_json::from_str::<Value>(&line).unwrap();
                }
            }
        };
        timeout(PATIENCE, next).await.expect("it says something in time")
    }

    /// Ends it.
    pub(super) async fn end(self) {
        let Self { input, output, mut child, .. } = self;
        drop(input);
        let ended = timeout(PATIENCE, child.wait()).await.expect("it ends in time");
        drop(output);
        assert!(ended.unwrap().success(), "it failed");
    }
}
