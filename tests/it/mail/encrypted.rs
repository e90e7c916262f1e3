//! Mail over TLS: STARTTLS and from the first byte, verified by name and root, never in the clear instead.

use wicketgate::config::{Smtp as SmtpSettings, SmtpEncryption};
use wicketgate::domain::Secret;
use wicketgate::mail::{Sent, Smtp};

use super::{ADDRESS, World};
use crate::harness::database::TestDatabase;
use crate::harness::smtp_tls::{LOGIN, Mode, TlsServer};

fn settings(server: &TlsServer, encryption: SmtpEncryption, login: bool) -> SmtpSettings {
    let [user, password] = LOGIN;
    SmtpSettings {
        host: "localhost".to_owned(),
        port: server.port,
        encryption,
        root_ca_file: None,
        login: login.then(|| (user.to_owned(), Secret::new(password.to_owned()))),
        from: "The gate <gate@example.com>".to_owned(),
    }
}

/// What becomes of one letter, and how many wait after it.
async fn send(settings: &SmtpSettings, roots: Option<&[u8]>) -> (Sent, u64) {
    let database = TestDatabase::sqlite();
    let world = World::with(&database, Some(Box::new(Smtp::new(settings, roots).unwrap()))).await;
    world.queue().await;
    (world.send().await, world.store.waiting_mails().await.unwrap())
}

fn sent() -> Sent {
    Sent { sent: 1, ..Sent::default() }
}

fn deferred() -> Sent {
    Sent { deferred: 1, ..Sent::default() }
}

#[tokio::test]
async fn a_letter_arrives_over_starttls_and_over_tls_from_the_first_byte() {
    for (mode, encryption) in
        [(Mode::Starttls, SmtpEncryption::Starttls), (Mode::Implicit, SmtpEncryption::Implicit)]
    {
        let Some(server) = TlsServer::start(mode, "localhost") else { return };
        for login in [false, true] {
            let (outcome, _) = send(&settings(&server, encryption, login), Some(&server.root_pem)).await;
            assert_eq!(outcome, sent(), "{mode:?}: {}", server.said());
        }
        let mails = server.mails();
        assert_eq!(mails.len(), 2, "{mode:?}");
        for (mail, user) in mails.iter().zip(["", LOGIN[0]]) {
            assert_eq!(mail["tls"], "TLSv1.3");
            assert_eq!((mail["to"][0].as_str(), mail["user"].as_str()), (Some(ADDRESS), Some(user)));
            assert!(mail["data"].as_str().unwrap().contains("dG9rZW4"), "{mail}");
        }
    }
}

#[tokio::test]
async fn a_server_of_another_name_or_root_gets_no_letter_which_waits() {
    for (mode, encryption) in
        [(Mode::Starttls, SmtpEncryption::Starttls), (Mode::Implicit, SmtpEncryption::Implicit)]
    {
        let Some(other_name) = TlsServer::start(mode, "mail.example.com") else { return };
        let (outcome, waiting) =
            send(&settings(&other_name, encryption, true), Some(&other_name.root_pem)).await;
        assert_eq!(outcome, deferred(), "{mode:?}");
        assert_eq!(waiting, 1, "{mode:?}: it is not lost");
        assert!(other_name.mails().is_empty() && !other_name.said().contains("AUTH"));

        let Some(other_root) = TlsServer::start(mode, "localhost") else { return };
        for roots in [None, Some(&*other_name.root_pem)] {
            let (outcome, waiting) = send(&settings(&other_root, encryption, true), roots).await;
            assert_eq!(outcome, deferred(), "{mode:?}");
            assert_eq!(waiting, 1, "{mode:?}");
        }
        assert!(other_root.mails().is_empty());
    }
}

#[tokio::test]
async fn where_tls_is_not_offered_nothing_is_sent_in_the_clear() {
    let Some(server) = TlsServer::start(Mode::Stripped, "localhost") else { return };
    let (outcome, waiting) =
        send(&settings(&server, SmtpEncryption::Starttls, true), Some(&server.root_pem)).await;
    assert_eq!(outcome, deferred());
    assert_eq!(waiting, 1);
    assert!(server.mails().is_empty() && !server.said().contains("AUTH"), "{}", server.said());
}

#[tokio::test]
async fn a_refused_login_is_the_settings_fault_and_no_letter_is_lost() {
    let Some(server) = TlsServer::start(Mode::Starttls, "localhost") else { return };
    let mut wrong = settings(&server, SmtpEncryption::Starttls, true);
    wrong.login = Some((LOGIN[0].to_owned(), Secret::new("wrong".to_owned())));
    let (outcome, waiting) = send(&wrong, Some(&server.root_pem)).await;
    assert_eq!(outcome, deferred());
    assert_eq!(waiting, 1);
}
