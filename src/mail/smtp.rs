//! SMTP by lettre: without TLS, with STARTTLS, or with TLS from the first byte; rustls and aws-lc.

use std::time::Duration;

use async_trait::async_trait;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Carrier, CarryError};
use crate::config::{Smtp as SmtpSettings, SmtpEncryption};
use crate::store::outbox::OutgoingMail;

/// For one command of the conversation.
const PATIENCE: Duration = Duration::from_secs(30);
/// Replies to a refused login (RFC 4954 §6): our configuration's fault, not the mail's.
const LOGIN_REFUSED: [u16; 4] = [530, 534, 535, 538];

/// A mail server.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    domain: String,
}

/// Why the settings do not make a mail server.
#[derive(Debug, thiserror::Error)]
pub enum SmtpFault {
    /// The sender is not an address.
    #[error("smtp.from is not a mail address")]
    From,
    /// The root certificates cannot be read.
    #[error("the root certificates for the mail server cannot be read")]
    Roots(#[source] lettre::transport::smtp::Error),
    /// TLS cannot be set up.
    #[error("TLS to the mail server cannot be set up")]
    Tls(#[source] lettre::transport::smtp::Error),
}

impl Smtp {
    /// A mail server; nothing is connected before a mail goes out.
    ///
    /// * `extra_roots` — PEM certificates to trust beside the system's.
    ///
    /// # Errors
    /// As [`SmtpFault`] says.
    pub fn new(settings: &SmtpSettings, extra_roots: Option<&[u8]>) -> Result<Self, SmtpFault> {
        let from: Mailbox = settings.from.parse().map_err(|_| SmtpFault::From)?;
        let tls = match settings.encryption {
            SmtpEncryption::None => Tls::None,
            SmtpEncryption::Starttls => Tls::Required(tls(settings, extra_roots)?),
            SmtpEncryption::Implicit => Tls::Wrapper(tls(settings, extra_roots)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .timeout(Some(PATIENCE))
            .tls(tls);
        if let Some((user, password)) = &settings.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().clone()));
        }
        let domain = from.email.domain().to_owned();
        Ok(Self { transport: builder.build(), from, domain })
    }

    fn message(&self, id: &str, mail: &OutgoingMail) -> Result<Message, CarryError> {
        let never = |what: &str| CarryError::Never(what.to_owned());
        let address = mail.to.parse().map_err(|_| never("the recipient's address is not one"))?;
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(mail.name.clone()).filter(|name| !name.is_empty()), address))
            .subject(mail.subject.clone())
            .message_id(Some(format!("<{id}@{}>", self.domain)))
            // RFC 3834 §5: so that no holiday notice answers us.
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
            .map_err(|_| never("the mail cannot be put together"))
    }
}

fn tls(settings: &SmtpSettings, extra_roots: Option<&[u8]>) -> Result<TlsParameters, SmtpFault> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(pem) = extra_roots {
        builder = builder.add_root_certificate(Certificate::from_pem(pem).map_err(SmtpFault::Roots)?);
    }
    builder.build_rustls().map_err(SmtpFault::Tls)
}

#[async_trait]
impl Carrier for Smtp {
    async fn carry(&self, id: &str, mail: &OutgoingMail) -> Result<(), CarryError> {
        let message = self.message(id, mail)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(read(&error)),
        }
    }
}

/// Only the reply's number is kept: its text often repeats the address.
fn read(error: &lettre::transport::smtp::Error) -> CarryError {
    let code = error.status().map(u16::from);
    match code {
        Some(code) if LOGIN_REFUSED.contains(&code) => {
            CarryError::Server(format!("the mail server refused our login ({code})"))
        }
        Some(code) if error.is_permanent() => {
            CarryError::Never(format!("the mail server refused it ({code})"))
        }
        Some(code) => CarryError::Later(format!("the mail server said \"later\" ({code})")),
        None if error.is_timeout() => CarryError::Server("the mail server did not answer in time".to_owned()),
        None if error.is_tls() => CarryError::Server("TLS with the mail server failed".to_owned()),
        None if error.is_response() => CarryError::Server("the mail server does not speak SMTP".to_owned()),
        None if error.is_client() => {
            CarryError::Server("the mail server lacks what the settings ask of it".to_owned())
        }
        None => CarryError::Server("the mail server cannot be reached".to_owned()),
    }
}

/// `Auto-Submitted: auto-generated`.
#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
