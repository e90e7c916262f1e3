//! Writes OCSP requests and reads answers, for tests of the authority.

use der::asn1::AnyRef;
use der::{Decode, Reader, Tagged};
use wicketgate::domain::{RevocationReason, Serial};
use wicketgate::live::OcspRefusal;
use wicketgate::pki::AuthorityCertificate;
use wicketgate::pki::ocsp::OcspRequest;

use super::fixture::World;
pub(crate) use crate::harness::ocsp::question;
use crate::harness::ocsp::tlv;

/// What somebody outside was told of a serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Good,
    Revoked(i64, RevocationReason),
    Unknown,
}

/// The status in an answer about one certificate.
pub(crate) fn told(response: &[u8]) -> Told {
    let content = |any: AnyRef<'_>| any.value().to_vec();
    let parts = |der: &[u8]| {
        let mut reader = der::SliceReader::new(der).unwrap();
        let mut parts = Vec::new();
        while !reader.is_finished() {
            let any = AnyRef::decode(&mut reader).unwrap();
            parts.push((any.tag(), content(any)));
        }
        parts
    };
    let outer = parts(AnyRef::from_der(response).unwrap().value());
    assert_eq!(outer[0].1, [0], "successful");
    let bytes = parts(AnyRef::from_der(&outer[1].1).unwrap().value());
    let basic = parts(AnyRef::from_der(&bytes[1].1).unwrap().value());
    let data = parts(&basic[0].1);
    let singles = parts(&data[2].1);
    let single = parts(&singles[0].1);
    let status = &single[1];
    match status.0.number().value() {
        0 => Told::Good,
        2 => Told::Unknown,
        _ => {
            let info = parts(&status.1);
            let at = der::asn1::GeneralizedTime::from_der(&tlv(0x18, &info[0].1)).unwrap();
            let reason = info.get(1).map_or(0, |(_, reason)| reason[2]);
            let at = i64::try_from(at.to_unix_duration().as_secs()).unwrap();
            Told::Revoked(at, RevocationReason::from_code(reason).unwrap())
        }
    }
}

impl World {
    /// The issuing authority's certificate.
    pub(crate) async fn issuer(&self) -> AuthorityCertificate {
        let row = self.store.authority(&"client-issuing-g1".parse().unwrap()).await.unwrap().unwrap();
        AuthorityCertificate::from_der(&row.certificate.unwrap()).unwrap()
    }

    /// Asks the edge, which keeps answers and has others signed.
    pub(crate) async fn ask(&self, issuer: &AuthorityCertificate, serial: Serial) -> Told {
        let answer = self.try_ask(&question(issuer, serial, None)).await.unwrap();
        told(&answer)
    }

    pub(crate) async fn try_ask(&self, question: &[u8]) -> Result<Vec<u8>, OcspRefusal> {
        let request = OcspRequest::from_der(question).unwrap();
        let visitor = "127.0.0.1".parse().unwrap();
        let answer = self.holder.ocsp().answer(&request, visitor, self.now()).await?;
        Ok(answer.der.to_vec())
    }
}

/// The nonce in an answer, if there is one of this length.
pub(crate) fn repeats(response: &[u8], nonce: &[u8]) -> bool {
    let wrapped = tlv(4, nonce);
    response.windows(wrapped.len()).any(|window| window == wrapped)
}
