//! The ways to a certificate.

use async_trait::async_trait;
use serde_json::{Value, json};
use wicketgate::domain::{PersonId, Role};

use super::asked::{Asked, Who};
use super::line::{As, Line};
use super::verdict::Verdict;
use crate::admin::fixture::{App, DOOR, Way, csr};

/// One of them.
#[async_trait]
pub(super) trait Path: Send {
    fn name(&self) -> &'static str;

    /// What it says; nothing when it has no words for what is asked.
    ///
    /// * `number` — its own, among the paths.
    async fn submit(&mut self, asked: &Asked, number: usize) -> Option<Verdict>;
}

/// A person of each standing, and what stood before they came to stand so.
#[derive(Clone)]
struct Somebody {
    who: Who,
    person: PersonId,
    /// A certificate that can be renewed.
    serial: String,
    /// The cookie of an enrolment that has not given its certificate yet.
    cookie: Option<String>,
    /// The token of an invitation that nobody used yet.
    secret: Option<String>,
}

/// Every path, over one house, with people of their own.
///
/// * `token` — an administrator's.
/// * `lane` — tells these people from others.
pub(super) async fn paths<'a>(app: &'a App, token: &str, lane: u64) -> Vec<Box<dyn Path + 'a>> {
    let mut people = Vec::new();
    for who in Who::ALL {
        people.push(somebody(app, token, who, lane).await);
    }
    let known = |people: &[Somebody]| people.iter().map(|one| (one.who, one.person)).collect::<Vec<_>>();
    let renewals = people.iter().map(|one| (one.who, one.serial.clone())).collect();
    vec![
        Box::new(Api {
            line: Line::new(app, Way::Console),
            who: As::Token(token.to_owned()),
            people: known(&people),
            name: "API",
        }),
        Box::new(Api {
            line: Line::new(app, Way::Socket),
            who: As::Nobody,
            people: known(&people),
            name: "command line",
        }),
        Box::new(Renewal { line: Line::new(app, Way::Socket), serials: renewals }),
        Box::new(Invitation {
            host: Line::new(app, Way::Socket),
            door: Line::new(app, Way::Door),
            people: people.clone(),
        }),
        Box::new(Est { host: Line::new(app, Way::Socket), door: Line::new(app, Way::Door), people }),
    ]
}

async fn somebody(app: &App, token: &str, who: Who, lane: u64) -> Somebody {
    let person = app.person(&format!("{who:?} {lane}"), Role::Member).await;
    let body = json!({ "csr": csr(), "device_name": "old", "person_id": person.to_string() });
    let issued = app.post("/api/v1/certificates", &body).token(token).send().await.expect(201);
    let cookie = enrol(app, token, person).await;
    let (_, secret) = app.invite(token, person).await;
    let mut row = app.store.person(person).await.unwrap().unwrap();
    match who {
        Who::Good => {}
        Who::Disabled => row.disabled = true,
        Who::LongName => row.name = "x".repeat(65),
        Who::HiddenName => row.name = "Ada\u{202e}nimda".to_owned(),
        Who::StrangeAddress => row.email = format!("\u{e4}da{lane}@example.com"),
    }
    if who != Who::Good {
        let now = app.clock_now();
        let actor = wicketgate::domain::Actor::System("test");
        let act = app.store.begin_act(actor, "person.edit", None, None, now).await.unwrap();
        app.ca.update_person(&row, &act, now).await.unwrap();
    }
    let serial = issued.body["serial"].as_str().unwrap().to_owned();
    // Whoever is disabled loses their sessions, so their old enrolment opens nothing.
    Somebody { who, person, serial, cookie: Some(cookie), secret: Some(secret) }
}

async fn enrol(app: &App, token: &str, person: PersonId) -> String {
    let (_, link) = app.invite(token, person).await;
    let accept = app.post("/api/v1/invitations/acceptance", &json!({ "token": link }));
    accept.through(Way::Door).send().await.expect(200).cookie()
}

/// `POST /certificates` by an administrator, or by the command line over its socket.
struct Api<'a> {
    line: Line<'a>,
    who: As,
    people: Vec<(Who, PersonId)>,
    name: &'static str,
}

#[async_trait]
impl Path for Api<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn submit(&mut self, asked: &Asked, number: usize) -> Option<Verdict> {
        let person = self.people.iter().find(|(who, _)| *who == asked.who).unwrap().1;
        let mut body = new(asked, number);
        body["person_id"] = json!(person.to_string());
        let reply = self.line.post("/api/v1/certificates", &self.who, &body).await;
        Some(Verdict::of(reply.status, &reply.body))
    }
}

fn new(asked: &Asked, number: usize) -> Value {
    let mut body = json!({ "csr": asked.csr(number), "device_name": asked.device });
    if let Some(profile) = asked.profile {
        body["profile"] = json!(profile);
    }
    body
}

/// The successor of a certificate. It has no words for device and profile: they are its predecessor's.
struct Renewal<'a> {
    line: Line<'a>,
    serials: Vec<(Who, String)>,
}

#[async_trait]
impl Path for Renewal<'_> {
    fn name(&self) -> &'static str {
        "renewal"
    }

    async fn submit(&mut self, asked: &Asked, number: usize) -> Option<Verdict> {
        if !asked.is_about_key_and_person_alone() {
            return None;
        }
        let serial = &self.serials.iter().find(|(who, _)| *who == asked.who).unwrap().1;
        let path = format!("/api/v1/certificates/{serial}/renewal");
        let reply = self.line.post(&path, &As::Nobody, &json!({ "csr": asked.csr(number) })).await;
        Some(Verdict::of(reply.status, &reply.body))
    }
}

/// The portal's: an enrolment by invitation, at the door.
struct Invitation<'a> {
    host: Line<'a>,
    door: Line<'a>,
    people: Vec<Somebody>,
}

#[async_trait]
impl Path for Invitation<'_> {
    fn name(&self) -> &'static str {
        "invitation"
    }

    async fn submit(&mut self, asked: &Asked, number: usize) -> Option<Verdict> {
        let at = self.people.iter().position(|one| one.who == asked.who).unwrap();
        let cookie = match self.people[at].cookie.clone() {
            Some(cookie) => cookie,
            None => self.enrol(self.people[at].person).await,
        };
        let reply =
            self.door.post("/api/v1/certificates", &As::Cookie(cookie.clone()), &new(asked, number)).await;
        // What was refused did not use the invitation up.
        self.people[at].cookie = (reply.status != 201).then_some(cookie);
        // Whoever is disabled is not even let in here: the same rule at an earlier place.
        let not_in = asked.who == Who::Disabled && reply.status == 401;
        Some(if not_in {
            Verdict::by("403 person_disabled", "The person is disabled.")
        } else {
            Verdict::of(reply.status, &reply.body)
        })
    }
}

impl Invitation<'_> {
    async fn enrol(&mut self, person: PersonId) -> String {
        let token = invite(&mut self.host, person).await;
        let accepted =
            self.door.post("/api/v1/invitations/acceptance", &As::Nobody, &json!({ "token": token })).await;
        accepted.cookie.unwrap()
    }
}

/// The token of a new invitation, by the command line.
async fn invite(host: &mut Line<'_>, person: PersonId) -> String {
    let body = json!({ "person_id": person.to_string(), "send_mail": false });
    let made = host.post("/api/v1/invitations", &As::Nobody, &body).await;
    let link = made.body["link"].as_str().unwrap();
    link.strip_prefix(&format!("{DOOR}/#/invitation/")).unwrap().to_owned()
}

/// A machine's: `simpleenroll` with the token of an invitation. Its profile is the invitation's.
struct Est<'a> {
    host: Line<'a>,
    door: Line<'a>,
    people: Vec<Somebody>,
}

#[async_trait]
impl Path for Est<'_> {
    fn name(&self) -> &'static str {
        "EST"
    }

    async fn submit(&mut self, asked: &Asked, number: usize) -> Option<Verdict> {
        if asked.profile.is_some() {
            return None;
        }
        let at = self.people.iter().position(|one| one.who == asked.who).unwrap();
        let secret = match self.people[at].secret.clone() {
            Some(secret) => secret,
            None => invite(&mut self.host, self.people[at].person).await,
        };
        // What is no PEM of a request is no base64 of one either.
        let pem = asked.csr(number);
        let base64 = pem.strip_prefix(BEGIN).and_then(|pem| pem.trim_end().strip_suffix(END));
        let who = As::Basic(asked.device.to_owned(), secret.clone());
        let body = base64.unwrap_or(pem).to_owned();
        let path = "/.well-known/est/simpleenroll";
        let reply = self.door.send(path, &who, "application/pkcs10", body).await;
        // What was refused did not use the secret up.
        self.people[at].secret = (reply.status != 200).then_some(secret);
        let verdict = Verdict::of_est(reply.status, &reply.text);
        // It reads the request before it names the device and looks for whom it is: of several faults of
        // one request it may name another.
        let of_form = base64.is_none() || asked.device != "phone" || asked.who == Who::Disabled;
        Some(match verdict {
            Verdict::Told(told) if of_form && matches!(reply.status, 400 | 413) => Verdict::InOwnWords(told),
            verdict => verdict,
        })
    }
}

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----\n";
const END: &str = "-----END CERTIFICATE REQUEST-----";
