//! What carries a visitor's octets: a TCP connection, or a pipe in memory by which a candidate configuration
//! is tried (`probe`). One type for both, so that what is tried is what serves.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use super::cork::Holds;

/// One side of a connection.
#[derive(Debug)]
pub(super) struct Carrier {
    kind: Kind,
    /// Nothing is taken.
    is_held: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream, Option<Box<Tape>>),
    Pipe(DuplexStream),
}

/// Everything that a visitor has said, for somebody who has to hear it from the beginning.
#[derive(Debug, Default)]
pub(super) struct Tape(Vec<u8>);

/// Octets of a tape at most: a ClientHello of 16 KiB in records of one octet is 96 KiB, and none is longer.
const LONGEST_TAPE: usize = 128 * 1024;

impl Tape {
    fn keep(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.0.len() + octets.len() > LONGEST_TAPE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the ClientHello is too long"));
        }
        self.0.extend_from_slice(octets);
        Ok(())
    }
}

impl Carrier {
    /// From here on, what the visitor says is kept.
    pub(super) fn start_tape(&mut self) {
        if let Kind::Tcp(_, tape) = &mut self.kind {
            *tape = Some(Box::default());
        }
    }

    /// What was kept is of no use any more.
    pub(super) fn stop_tape(&mut self) {
        if let Kind::Tcp(_, tape) = &mut self.kind {
            *tape = None;
        }
    }

    /// The socket, and all that was said on it since the tape was started.
    ///
    /// # Errors
    /// The carrier itself, if there is no tape.
    pub(super) fn into_taped(self) -> Result<(TcpStream, Vec<u8>), Self> {
        match self.kind {
            Kind::Tcp(stream, Some(tape)) => Ok((stream, tape.0)),
            kind => Err(Self { kind, ..self }),
        }
    }

    /// Which address of ours was called, if it was one.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream, _) => stream.local_addr().ok(),
            Kind::Pipe(_) => None,
        }
    }
}

impl From<TcpStream> for Carrier {
    fn from(stream: TcpStream) -> Self {
        Self { kind: Kind::Tcp(stream, None), is_held: false }
    }
}

impl From<DuplexStream> for Carrier {
    fn from(stream: DuplexStream) -> Self {
        Self { kind: Kind::Pipe(stream), is_held: false }
    }
}

impl Holds for Carrier {
    fn hold(&mut self, is_on: bool) {
        self.is_held = is_on;
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream, None) => Pin::new(stream).poll_read(cx, buffer),
            Kind::Tcp(stream, Some(tape)) => {
                let before = buffer.filled().len();
                ready!(Pin::new(stream).poll_read(cx, buffer))?;
                Poll::Ready(tape.keep(&buffer.filled()[before..]))
            }
            Kind::Pipe(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_held {
            return Poll::Pending;
        }
        match &mut self.get_mut().kind {
            Kind::Tcp(stream, _) => Pin::new(stream).poll_write(cx, octets),
            Kind::Pipe(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_held {
            return Poll::Pending;
        }
        match &mut self.get_mut().kind {
            Kind::Tcp(stream, _) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Kind::Pipe(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream, _) => stream.is_write_vectored(),
            Kind::Pipe(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream, _) => Pin::new(stream).poll_flush(cx),
            Kind::Pipe(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Kind::Pipe(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
