//! How long a connection may take: poem sets no deadlines on heads and on readers that do not read, so
//! the stream itself does. Every deadline ends in an error, which ends the connection and frees its
//! place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::listener::Stream;

/// How long a connection may take, and how many one source may have at the door.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the accept, or from the first byte of a later request, to the end of its head.
    pub head: Duration,
    /// Silence; and the time from the end of a head to the first byte of the answer.
    pub idle: Duration,
    /// For the other side to take the next byte of an answer.
    pub write: Duration,
    /// After this, a connection takes no further request.
    pub life: Duration,
    /// Connections at the door from one address, or from one /64.
    pub places_by_source: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            life: Duration::from_secs(15 * 60),
            places_by_source: 64,
        }
    }
}

/// Where a connection is.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// A head is being read.
    Head { since: Instant },
    /// A head was read; body and answer are under way.
    Answering { since: Instant },
    /// An answer is being written, or was.
    Answered { last: Instant },
}

/// A stream with deadlines.
pub struct Patient {
    stream: Box<dyn Stream>,
    patience: Patience,
    opened: Instant,
    phase: Phase,
    head: HeadEnd,
    blocked: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl Patient {
    /// Starts the clock of a stream that was just accepted.
    pub fn new(stream: Box<dyn Stream>, patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            stream,
            patience,
            opened: now,
            phase: Phase::Head { since: now },
            head: HeadEnd::default(),
            blocked: None,
            alarm: Box::pin(tokio::time::sleep_until(now + patience.head)),
        }
    }

    fn deadline(&self) -> Instant {
        let in_phase = match self.phase {
            Phase::Head { since } => since + self.patience.head,
            Phase::Answering { since } => since + self.patience.idle,
            Phase::Answered { last } => last + self.patience.idle,
        };
        // Whoever is being answered when life ends still gets the answer.
        let last_day = self.opened + self.patience.life + self.patience.idle;
        let stuck = self.blocked.map(|since| since + self.patience.write);
        stuck.into_iter().fold(in_phase.min(last_day), Instant::min)
    }

    /// Fails once the deadline has passed; else sees to it that the task wakes up then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let deadline = self.deadline();
        if self.alarm.deadline() != deadline {
            self.alarm.as_mut().reset(deadline);
        }
        match self.alarm.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "the connection took too long")),
            Poll::Pending => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        let busy = matches!(self.phase, Phase::Answering { .. });
        !busy && Instant::now() >= self.opened + self.patience.life
    }

    fn has_read(&mut self, octets: &[u8]) {
        let now = Instant::now();
        if let Phase::Answered { .. } = self.phase {
            self.phase = Phase::Head { since: now };
            self.head = HeadEnd::default();
        }
        if let Phase::Head { .. } = self.phase
            && self.head.is_in(octets)
        {
            self.phase = Phase::Answering { since: now };
        }
    }

    /// Notes how a write went: what is stuck, and that there is an answer.
    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
        octets: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let now = Instant::now();
        match &poll {
            Poll::Pending => {
                if self.blocked.is_none() {
                    self.blocked = Some(now);
                    self.check(context)?;
                }
            }
            Poll::Ready(Ok(done)) => {
                self.blocked = None;
                if octets(done) > 0 {
                    self.phase = Phase::Answered { last: now };
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        poll
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        if this.is_over() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.has_read(&buffer.filled()[before..]);
        }
        poll
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        let poll = Pin::new(&mut this.stream).poll_write(context, octets);
        this.wrote(context, poll, |count| *count)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        let poll = Pin::new(&mut this.stream).poll_flush(context);
        this.wrote(context, poll, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        let poll = Pin::new(&mut this.stream).poll_shutdown(context);
        this.wrote(context, poll, |()| 0)
    }
}

/// Finds the empty line that ends a head. Empty lines before it do not count, as for hyper.
#[derive(Debug, Default)]
struct HeadEnd {
    begun: bool,
    newlines: u8,
}

impl HeadEnd {
    fn is_in(&mut self, octets: &[u8]) -> bool {
        for octet in octets {
            match octet {
                b'\n' if self.begun => self.newlines += 1,
                b'\r' | b'\n' => {}
                _ => (self.begun, self.newlines) = (true, 0),
            }
            if self.newlines == 2 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::HeadEnd;

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_is_cut() {
        let head = b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            let mut end = HeadEnd::default();
            assert!(!end.is_in(&head[..cut]), "{cut}");
            assert!(end.is_in(&head[cut..]), "{cut}");
        }
        assert!(HeadEnd::default().is_in(b"GET / HTTP/1.1\n\n"));
        assert!(!HeadEnd::default().is_in(b"\r\n\r\n\r\n"));
    }
}
