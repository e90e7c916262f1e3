//! Signs OCSP answers for edges: from committed rows, with the delegate's key that only this role can
//! open, and within limits, because everyone may ask.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::auth::limits::{Allowance, Limiter, source_key};
use crate::ca::{Ca, OcspError};
use crate::clock::SharedClock;
use crate::live::{OcspAnswer, OcspRefusal, OcspResponder};
use crate::pki::ocsp::OcspRequest;

/// What somebody is asked to wait whose answer could not be signed.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// How many answers are signed. Kept answers are not counted: they cost nothing.
#[derive(Clone, Copy, Debug)]
pub struct OcspLimits {
    /// For one source, a second; twice as many at once.
    pub per_source: NonZeroU32,
    /// For everyone, a second; twice as many at once.
    pub in_all: NonZeroU32,
}

/// The desk at which edges have answers signed.
pub struct OcspDesk {
    ca: Ca,
    clock: SharedClock,
    /// Where rows are read: edges ask from threads whose sockets are their own.
    runtime: Handle,
    by_source: Limiter,
    in_all: Limiter,
}

impl OcspDesk {
    /// A desk of this authority. Work is done on the runtime that this is called on.
    pub fn new(ca: Ca, clock: SharedClock, limits: OcspLimits) -> Self {
        let (by_source, in_all) = (limiter(limits.per_source), limiter(limits.in_all));
        Self { ca, clock, runtime: Handle::current(), by_source, in_all }
    }
}

#[async_trait]
impl OcspResponder for OcspDesk {
    async fn answer(&self, request: &OcspRequest, source: IpAddr) -> Result<OcspAnswer, OcspRefusal> {
        self.by_source.draw(source_key(source)).map_err(|wait| OcspRefusal::Limited { wait })?;
        self.in_all.draw([0; 16]).map_err(|wait| OcspRefusal::Limited { wait })?;
        let (ca, request, now) = (self.ca.clone(), request.clone(), self.clock.now());
        let signed = self.runtime.spawn(async move { ca.answer_ocsp(&request, now).await });
        match signed.await {
            Ok(Ok(answer)) => {
                let (from, to) = (answer.this_update, answer.next_update);
                Ok(OcspAnswer::new(answer.der.into(), from, to, answer.lasting))
            }
            Ok(Err(OcspError::Unauthorized)) => Err(OcspRefusal::Unauthorized),
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "An OCSP answer was not signed");
                Err(OcspRefusal::Unavailable { wait: TRY_AGAIN })
            }
            Err(_) => Err(OcspRefusal::Unavailable { wait: TRY_AGAIN }),
        }
    }
}

fn limiter(per_second: NonZeroU32) -> Limiter {
    let refill = Duration::from_secs(1) / per_second.get();
    Limiter::new(Allowance { burst: per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)), refill })
}
