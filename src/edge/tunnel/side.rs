//! The visitor's side of a tunnel, with an eye on it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::edge::io::Activity;
use crate::edge::stream::Delivery;

/// What a tunnel has carried.
#[derive(Debug, Default)]
pub(super) struct Octets {
    from_visitor: Cell<u64>,
    to_visitor: Cell<u64>,
}

impl Octets {
    /// Those that the visitor took.
    pub(super) fn to_visitor(&self) -> u64 {
        self.to_visitor.get()
    }

    /// Those of both directions.
    pub(super) fn moved(&self) -> u64 {
        self.from_visitor.get() + self.to_visitor.get()
    }
}

/// A stream to a visitor whose octets are counted.
pub(super) struct Side<S> {
    stream: S,
    activity: Rc<Activity>,
    /// Its own of a connection (HTTP/2).
    own: Option<Rc<Delivery>>,
    octets: Rc<Octets>,
}

impl<S> Side<S> {
    pub(super) fn new(stream: S, activity: &Rc<Activity>, own: Option<Rc<Delivery>>) -> Self {
        Self { stream, activity: activity.clone(), own, octets: Rc::default() }
    }

    pub(super) fn octets(&self) -> Rc<Octets> {
        self.octets.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let octets = (buffer.filled().len() - before) as u64;
        self.octets.from_visitor.set(self.octets.from_visitor.get() + octets);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        if let Poll::Ready(Ok(octets)) = &polled {
            let octets = *octets as u64;
            self.octets.to_visitor.set(self.octets.to_visitor.get() + octets);
            // There is room for it because what came a few pieces before has been taken.
            self.activity.taken(1, octets);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.own.as_ref().inspect(|own| own.say_all());
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
