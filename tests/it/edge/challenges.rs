//! TLS-ALPN-01 at the https listener.

use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wicketgate::domain::Hostname;
use wicketgate::live::ChallengeData;

use super::client::{PATIENCE, tls};
use super::fixture::World;

/// Takes any certificate, as a validating authority does.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    // webpki, behind the real checks, stops at the critical acmeIdentifier.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn validate(world: &World, host: &str) -> std::io::Result<Vec<u8>> {
    let mut config = tls(world, None, &[b"acme-tls/1"]);
    let verifier = AnyCertificate(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    config.dangerous().set_certificate_verifier(Arc::new(verifier));
    let stream = TcpStream::connect(world.edge.https_addresses()[0]).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("the end");
    assert!(matches!(ended, Ok(0)), "the connection is closed after the handshake");
    Ok(leaf)
}

#[tokio::test]
async fn a_challenge_is_answered_for_hosts_with_and_without_a_site_and_for_no_other() {
    let world = World::start().await;
    let mut data = world.data.clone();
    for host in ["app.test", "strict.test", "not-yet.test"] {
        data.challenges
            .push(ChallengeData::TlsAlpn01 { host: Hostname::normalize(host).unwrap(), digest: vec![7; 32] });
    }
    world.publish(data).await;
    for host in ["app.test", "strict.test", "not-yet.test"] {
        let leaf = validate(&world, host).await.unwrap();
        // RFC 8737 §3: the digest stands in the acmeIdentifier extension.
        assert!(leaf.windows(32).any(|octets| octets == [7; 32]), "{host}");
    }
    assert!(validate(&world, "open.test").await.is_err());
    world.publish(world.data.clone()).await;
    assert!(validate(&world, "app.test").await.is_err(), "no challenge is open any more");
}
