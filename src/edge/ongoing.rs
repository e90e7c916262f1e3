//! What was permitted and goes on: asked about again whenever the policy changes, or whoever is behind the
//! connection. An exchange that would not be permitted now ends, and nothing else of its connection.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use http::{Method, Uri};

use super::connection::Visit;
use super::facts::Approach;
use super::index::Ending;
use super::respond::{Code, Problem};
use super::stream::{Delivery, remember, wake};
use crate::domain::Hostname;
use crate::live::route_table;

/// The exchanges of one connection that were permitted.
#[derive(Debug, Default)]
pub(super) struct Register(RefCell<Vec<Rc<Ongoing>>>);

/// An exchange that was permitted.
#[derive(Debug)]
struct Ongoing {
    host: Hostname,
    method: Method,
    uri: Uri,
    source: IpAddr,
    /// Whether the head of the upstream's answer has gone out.
    is_answering: Cell<bool>,
    is_lost: Cell<bool>,
    is_tunnel: Cell<bool>,
    /// Whether it has to end before its answer begins, and who waits for that.
    is_over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Its stream (HTTP/2); HTTP/1 has no other exchange on its connection.
    stream: Option<Rc<Delivery>>,
}

/// Keeps an exchange among those that are asked about.
pub(super) struct Permitted {
    visit: Rc<Visit>,
    ongoing: Rc<Ongoing>,
}

impl Permitted {
    /// From the permission on. Called without a pause after the policy was asked, so that a change in
    /// between is seen by [`ask_again`], which runs on the same thread.
    pub(super) fn begin(
        visit: &Rc<Visit>,
        host: Hostname,
        (method, uri): (Method, Uri),
        source: IpAddr,
    ) -> Self {
        let ongoing = Rc::new(Ongoing {
            host,
            method,
            uri,
            source,
            is_answering: Cell::new(false),
            is_lost: Cell::new(false),
            is_tunnel: Cell::new(false),
            is_over: Cell::new(false),
            waker: RefCell::new(None),
            stream: visit.activity.stream(),
        });
        visit.ongoing.0.borrow_mut().push(ongoing.clone());
        Self { visit: visit.clone(), ongoing }
    }

    /// `exchange`, unless the permission is lost before its answer begins.
    ///
    /// # Errors
    /// Its own, or why it may not go on.
    pub(super) async fn over<T>(
        &self,
        exchange: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            if self.ongoing.is_over.get() {
                // It may have come back; this exchange is over all the same.
                let why = self.ongoing.ask(&self.visit).err();
                return Poll::Ready(Err(why.unwrap_or(Problem::new(Code::AccessDenied))));
            }
            let polled = exchange.as_mut().poll(cx);
            if polled.is_pending() {
                remember(&self.ongoing.waker, cx);
            }
            polled
        })
        .await
    }

    /// The head of the answer goes out: from now on there is nothing left to say.
    pub(super) fn answers(&self) {
        self.ongoing.is_answering.set(true);
        if self.ongoing.is_lost.get() {
            self.ongoing.end(&self.visit);
        }
    }

    /// It has no end of its own to wait for.
    pub(super) fn set_tunnel(&self) {
        self.ongoing.is_tunnel.set(true);
    }

    /// Whether it is permitted now.
    pub(super) fn holds(&self) -> bool {
        !self.ongoing.is_lost.get() && self.ongoing.ask(&self.visit).is_ok()
    }
}

impl Drop for Permitted {
    fn drop(&mut self) {
        let mut all = self.visit.ongoing.0.borrow_mut();
        if let Some(at) = all.iter().position(|one| Rc::ptr_eq(one, &self.ongoing)) {
            all.swap_remove(at);
        }
    }
}

impl Ongoing {
    fn ask(&self, visit: &Visit) -> Result<(), Problem> {
        let approach = Approach { method: &self.method, path: self.uri.path(), source: self.source };
        ask(visit, &self.host, approach)
    }

    fn end(&self, visit: &Visit) {
        match (self.is_answering.get(), &self.stream) {
            (false, _) => {
                self.is_over.set(true);
                wake(&self.waker);
            }
            (true, Some(stream)) => stream.end(),
            (true, None) => visit.signal().end(Ending::Cut),
        }
    }
}

/// Asks again about everything that goes on, and ends what may not.
pub(super) fn ask_again(visit: &Visit) {
    for ongoing in visit.ongoing.0.borrow().iter().filter(|ongoing| !ongoing.is_lost.get()) {
        if ongoing.ask(visit).is_err() {
            ongoing.is_lost.set(true);
            ongoing.end(visit);
        }
    }
}

/// Ends the tunnels among the streams: a connection that is to be left would wait for them.
pub(super) fn end_tunnels(visit: &Visit) {
    let all = visit.ongoing.0.borrow();
    let streams =
        all.iter().filter(|ongoing| ongoing.is_tunnel.get()).filter_map(|ongoing| ongoing.stream.as_ref());
    streams.for_each(|stream| stream.end());
}

/// Asks the same questions as a request would, of the configuration and register in force now.
///
/// # Errors
/// What the visitor would be told.
pub(super) fn ask(visit: &Visit, host: &Hostname, approach: Approach<'_>) -> Result<(), Problem> {
    let shared = &visit.worker.shared;
    let snapshot = shared.holder.snapshot().ok_or(Problem::new(Code::Overloaded))?;
    let site = visit.admitted(snapshot.configuration.site(host.as_str()))?;
    let route = route_table::select(site, approach.path)?.ok_or(Problem::new(Code::NotFound))?;
    let now = shared.clock.now();
    visit.permit(route, &visit.who(now), approach, now)?;
    Ok(())
}
