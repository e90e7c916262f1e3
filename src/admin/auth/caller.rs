//! Who is asking, once it is established, and what handlers know of the request besides.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use poem::{FromRequest, Request, RequestBody};

use crate::admin::error::{Outcome, Problem};
use crate::admin::listener::Entrance;
use crate::domain::audit::Act;
use crate::domain::{Actor, PersonId, Role, Serial, UtcTime};
use crate::live::Identity;
use crate::store::people::Person;
use crate::store::sessions::{Session, SessionKind};
use crate::store::tokens::Token;

/// How a caller proved who they are.
#[derive(Clone, Debug)]
pub enum Proof {
    /// With the cookie of a session.
    Session(Session),
    /// With a token.
    Token(Token),
    /// With the client certificate of the connection.
    Certificate(Identity),
    /// By being a process of this host.
    Host {
        /// Its user id.
        uid: u32,
    },
}

/// Whoever is signed in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// How they proved it.
    pub proof: Proof,
    /// Who they are; nobody for a process of this host.
    pub person: Option<Person>,
    /// What they may do: the least of their own role, their token's, and the entrance's.
    pub role: Role,
}

impl Caller {
    /// The subject of the audit.
    pub fn actor(&self) -> Actor {
        match (&self.proof, &self.person) {
            (Proof::Token(token), _) => Actor::Token { token: token.id, person: token.person },
            (Proof::Session(session), _) => Actor::Person(session.person),
            (Proof::Certificate(identity), _) => {
                Actor::Device { device: identity.device(), person: identity.person().id }
            }
            (Proof::Host { uid }, _) => Actor::Host { uid: *uid },
        }
    }

    /// Whether they may do everything.
    pub fn is_administrator(&self) -> bool {
        self.role == Role::Administrator
    }

    /// Whether they are in the middle of an enrolment.
    pub fn enrolment(&self) -> Option<&Session> {
        match &self.proof {
            Proof::Session(session) if session.kind == SessionKind::Enrolment => Some(session),
            _ => None,
        }
    }

    /// Whether they may reach what belongs to `person`.
    pub fn reaches(&self, person: PersonId) -> bool {
        self.is_administrator() || self.is(person)
    }

    /// Whether they are this person.
    pub fn is(&self, person: PersonId) -> bool {
        self.person.as_ref().is_some_and(|own| own.id == person)
    }

    /// Goes on only if they may reach what belongs to `owner`. To others it is not there at all.
    ///
    /// # Errors
    /// 404.
    pub fn reach(&self, owner: PersonId, what: &str) -> Outcome<()> {
        if self.reaches(owner) { Ok(()) } else { Err(Problem::not_found(what)) }
    }

    /// Goes on only if they may renew the certificate `serial` of `owner`: a certificate renews itself
    /// and no other, not even the same person's.
    ///
    /// # Errors
    /// 404.
    pub fn reach_renewal(&self, owner: PersonId, serial: Serial) -> Outcome<()> {
        match &self.proof {
            Proof::Certificate(own) if own.serial() != serial => Err(Problem::not_found("certificate")),
            _ => self.reach(owner, "certificate"),
        }
    }

    /// Whom a listing is narrowed to: what was asked for, or nobody but themselves.
    ///
    /// # Errors
    /// 404 when a member asks for another person's.
    pub fn narrow(&self, wanted: Option<PersonId>) -> Outcome<Option<PersonId>> {
        if self.is_administrator() {
            return Ok(wanted);
        }
        let own = self.own()?.id;
        match wanted {
            Some(wanted) if wanted != own => Err(Problem::not_found("person")),
            _ => Ok(Some(own)),
        }
    }

    /// The person they are.
    ///
    /// # Errors
    /// 409 for a process of this host, which is nobody.
    pub fn own(&self) -> Outcome<&Person> {
        let detail = "This is only for people: use a token or sign in.";
        self.person.as_ref().ok_or_else(|| Problem::conflict("no_person", detail))
    }
}

/// A request that the guard let through. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Call(Arc<CallData>);

/// What a call carries.
#[derive(Debug)]
pub struct CallData {
    /// When it came.
    pub now: UtcTime,
    /// Through which entrance.
    pub entrance: Entrance,
    /// Whoever is signed in, if anyone is.
    pub caller: Option<Caller>,
    /// Its act in the audit, if it changes something.
    pub act: Option<OpenAct>,
}

/// An act that was opened and has to be closed once.
#[derive(Debug)]
pub struct OpenAct {
    act: Act,
    closed: AtomicBool,
    note: Mutex<Option<String>>,
}

impl OpenAct {
    /// An act that has begun.
    pub fn new(act: Act) -> Self {
        Self { act, closed: AtomicBool::new(false), note: Mutex::default() }
    }

    /// The act.
    pub fn act(&self) -> &Act {
        &self.act
    }

    /// Whether it was closed in the transaction that holds its effect.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What is to be said when it is closed.
    pub fn note(&self) -> Option<String> {
        self.note.lock().clone()
    }
}

impl Deref for Call {
    type Target = CallData;
    fn deref(&self) -> &CallData {
        &self.0
    }
}

impl Call {
    /// A call with what the guard found out.
    pub fn new(data: CallData) -> Self {
        Self(Arc::new(data))
    }

    /// Whoever is signed in.
    ///
    /// # Errors
    /// 401.
    pub fn caller(&self) -> Outcome<&Caller> {
        self.caller.as_ref().ok_or_else(Problem::not_signed_in)
    }

    /// The act under which something may be changed.
    ///
    /// # Errors
    /// 500 in an operation that the table calls a mere reading.
    pub fn act(&self) -> Outcome<&Act> {
        let open = self.act.as_ref().ok_or_else(|| Problem::internal("a change without an act"))?;
        Ok(open.act())
    }

    /// Says that the act was closed in the transaction that holds its effect.
    pub fn closed(&self) {
        if let Some(open) = &self.act {
            open.closed.store(true, Ordering::Release);
        }
    }

    /// What the audit is to say besides, when the guard closes the act. No names, no addresses.
    pub fn note(&self, note: String) {
        if let Some(open) = &self.act {
            *open.note.lock() = Some(note);
        }
    }
}

impl<'a> FromRequest<'a> for Call {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let call = request.data::<Self>().cloned();
        Ok(call.ok_or_else(|| Problem::internal("a handler ran without its guard"))?)
    }
}
