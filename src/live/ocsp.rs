//! Signed OCSP answers as an edge keeps them: asked for once, served to everyone, forgotten the moment
//! the register says that a status changed. Since a revocation answers only when the register here has
//! it, no answer from before it is served after it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::register::Register;
use crate::domain::{Change, Delta, Fingerprint, Serial, UtcTime};
use crate::pki::ocsp::OcspRequest;

/// Certificates whose answers are kept; an answer takes about 1,200 octets.
const MAX_KEPT: usize = 20_000;
/// Ways to write one question (hash, parameters) that are kept apart.
const MAX_SPELLINGS: usize = 4;
/// How long an edge waits for a signature.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What a visitor is asked to wait when nobody can sign.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A signed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspAnswer {
    /// The OCSPResponse, DER.
    pub der: Bytes,
    /// From when it speaks.
    pub this_update: UtcTime,
    /// Until when it may be used.
    pub next_update: UtcTime,
    /// Whether it answers everyone who asks this, until the register says otherwise.
    pub lasting: bool,
    /// Names these very bytes: 32 hexadecimal digits.
    pub tag: Arc<str>,
}

impl OcspAnswer {
    /// An answer with its tag.
    pub fn new(der: Bytes, this_update: UtcTime, next_update: UtcTime, lasting: bool) -> Self {
        let tag = Fingerprint::of(&der).to_string()[..32].into();
        Self { der, this_update, next_update, lasting, tag }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspRefusal {
    /// The certificates are not of one authority of ours.
    #[error("the certificates are not of one authority of ours")]
    Unauthorized,
    /// This source asks too often.
    #[error("too many questions that need a signature")]
    Limited {
        /// When to ask again.
        wait: Duration,
    },
    /// Nobody can sign now.
    #[error("nobody can sign an answer now")]
    Unavailable {
        /// When to ask again.
        wait: Duration,
    },
}

/// Who signs answers: the admin role, in this process or elsewhere.
#[async_trait]
pub trait OcspResponder: Send + Sync {
    /// Signs an answer from what is committed now, for a question from `source`.
    ///
    /// # Errors
    /// As [`OcspRefusal`] says.
    async fn answer(&self, request: &OcspRequest, source: IpAddr) -> Result<OcspAnswer, OcspRefusal>;
}

/// The answers that one edge keeps, and where it gets more.
pub struct OcspAnswers {
    responder: RwLock<Option<Arc<dyn OcspResponder>>>,
    kept: Mutex<Kept>,
    capacity: usize,
}

impl Default for OcspAnswers {
    fn default() -> Self {
        Self::with_capacity(MAX_KEPT)
    }
}

#[derive(Default)]
struct Kept {
    by_serial: HashMap<Serial, Vec<(Vec<u8>, OcspAnswer)>>,
    /// Oldest first; what was forgotten meanwhile may still be in here.
    order: VecDeque<Serial>,
    /// Counts what was forgotten: an answer that was asked for before is not kept after.
    forgotten: u64,
}

impl OcspAnswers {
    /// Keeps answers for at most so many certificates.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { responder: RwLock::default(), kept: Mutex::default(), capacity: capacity.max(1) }
    }

    /// Says who signs from now on.
    pub fn connect(&self, responder: Arc<dyn OcspResponder>) {
        *self.responder.write() = Some(responder);
    }

    /// The kept answer if there is one that is fresh, else a new one. While nobody signs, a kept one
    /// serves until its nextUpdate.
    ///
    /// # Errors
    /// As [`OcspRefusal`] says.
    pub async fn answer(
        &self,
        request: &OcspRequest,
        source: IpAddr,
        now: UtcTime,
    ) -> Result<OcspAnswer, OcspRefusal> {
        let question = request.plain().and_then(|id| Some((id.serial()?, id.der())));
        let (kept, forgotten) = match question {
            Some((serial, id)) => self.kept.lock().find(serial, id, now),
            None => (None, 0),
        };
        if let Some(kept) = kept.as_ref().filter(|kept| is_fresh(kept, now)) {
            return Ok(kept.clone());
        }
        let responder = self.responder.read().clone();
        let unavailable = OcspRefusal::Unavailable { wait: TRY_AGAIN };
        let asked = async {
            let responder = responder.ok_or(unavailable)?;
            let signed = tokio::time::timeout(ANSWER_WITHIN, responder.answer(request, source)).await;
            signed.unwrap_or(Err(unavailable))
        };
        match (asked.await, kept) {
            (Ok(answer), _) => {
                if let Some((serial, id)) = question.filter(|_| answer.lasting) {
                    self.kept.lock().keep(serial, id, &answer, forgotten, self.capacity);
                }
                Ok(answer)
            }
            (Err(OcspRefusal::Limited { .. } | OcspRefusal::Unavailable { .. }), Some(kept)) => Ok(kept),
            (Err(refusal), _) => Err(refusal),
        }
    }

    /// Forgets what these changes made untrue. The register has them already.
    pub(super) fn forget(&self, changes: &[&Change], register: &Register) {
        for change in changes {
            let (Delta::Revoked { fingerprint, .. } | Delta::Released { fingerprint }) = &change.delta else {
                continue;
            };
            let mut kept = self.kept.lock();
            kept.forgotten += 1;
            match register.look_up(fingerprint) {
                Some(standing) => drop(kept.by_serial.remove(&standing.serial)),
                // Of what is not in the register we cannot tell the serial.
                None => kept.by_serial.clear(),
            }
        }
    }

    /// How many certificates' answers are kept.
    pub fn len(&self) -> usize {
        self.kept.lock().by_serial.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kept {
    /// What is kept and may be used at `now`, and how much was forgotten so far.
    fn find(&self, serial: Serial, id: &[u8], now: UtcTime) -> (Option<OcspAnswer>, u64) {
        let spellings = self.by_serial.get(&serial);
        let found = spellings.and_then(|all| all.iter().find(|(known, _)| known == id));
        let usable = |answer: &&OcspAnswer| answer.this_update <= now && now < answer.next_update;
        (found.map(|(_, answer)| answer).filter(usable).cloned(), self.forgotten)
    }

    fn keep(&mut self, serial: Serial, id: &[u8], answer: &OcspAnswer, forgotten: u64, capacity: usize) {
        if self.forgotten != forgotten {
            return; // it may have been read before what was forgotten meanwhile
        }
        match self.by_serial.get_mut(&serial) {
            Some(spellings) => {
                spellings.retain(|(known, _)| known != id);
                spellings.truncate(MAX_SPELLINGS - 1);
                spellings.push((id.to_vec(), answer.clone()));
            }
            None => {
                while self.order.len() >= capacity
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.by_serial.remove(&oldest);
                }
                self.order.push_back(serial);
                self.by_serial.insert(serial, vec![(id.to_vec(), answer.clone())]);
            }
        }
    }
}

/// Kept answers are renewed at half of their life, so that one that cannot be renewed still serves.
fn is_fresh(answer: &OcspAnswer, now: UtcTime) -> bool {
    now < answer.this_update.plus(answer.next_update.since(answer.this_update) / 2)
}

#[cfg(test)]
mod tests;
