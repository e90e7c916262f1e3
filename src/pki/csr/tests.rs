use super::*;
use crate::pki::encode;
use crate::pki::keygen::{client_csr, client_csr_pem, generate_p256, sign_p256};
use crate::pki::prepared::signature_algorithm;

fn policy() -> KeyPolicy {
    KeyPolicy::default()
}

#[test]
fn a_request_brings_its_key_and_nothing_else() {
    let (key, spki) = generate_p256();
    let request = SigningRequest::from_der(&client_csr(key.expose(), "Anna").unwrap(), &policy()).unwrap();
    assert_eq!(request.public_key().spki_der(), spki);
}

#[test]
fn pem_is_taken_as_people_paste_it() {
    let (key, _) = generate_p256();
    let pem = client_csr_pem(key.expose(), "Anna").unwrap();
    let one_line = pem.lines().filter(|l| !l.starts_with('-')).collect::<String>();
    let unwrapped = format!("-----BEGIN CERTIFICATE REQUEST-----{one_line}-----END CERTIFICATE REQUEST-----");
    let microsoft = pem.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST").replace('\n', "\r\n");
    for text in [pem.clone(), format!("Here it is:\n\n  {pem}\nThanks"), unwrapped, microsoft] {
        assert!(SigningRequest::from_pem(&text, &policy()).is_ok(), "{text}");
    }
    for text in ["", "hello", &pem.replace("BEGIN", "START"), &pem.replace("M", "!")] {
        assert!(matches!(SigningRequest::from_pem(text, &policy()), Err(CsrError::NotPem)), "{text}");
    }
}

#[test]
fn a_request_for_somebody_elses_key_is_refused() {
    let ((key, spki), (other_key, other_spki)) = (generate_p256(), generate_p256());
    let der = client_csr(key.expose(), "Anna").unwrap();
    let at = der.windows(spki.len()).position(|window| window == spki).unwrap();
    let mut stolen = der.clone();
    stolen[at..at + spki.len()].copy_from_slice(&other_spki);
    let refused = SigningRequest::from_der(&stolen, &policy());
    assert!(matches!(refused, Err(CsrError::Possession(SignatureError::Mismatch))));
    // Nor does a signature over something else help.
    let info = Signed::from_der(&der).unwrap().body.to_vec();
    let signature = sign_p256(other_key.expose(), &info).unwrap();
    let forged = encode::sequence(&[&info, &signature_algorithm(), &encode::bits(&signature)]);
    assert!(matches!(SigningRequest::from_der(&forged, &policy()), Err(CsrError::Possession(_))));
}

#[test]
fn overlong_and_torn_requests_are_refused() {
    let (key, _) = generate_p256();
    let der = client_csr(key.expose(), "Anna").unwrap();
    for end in 0..der.len() {
        assert!(SigningRequest::from_der(&der[..end], &policy()).is_err());
    }
    let trailing = [&der[..], &[0]].concat();
    assert!(matches!(SigningRequest::from_der(&trailing, &policy()), Err(CsrError::Malformed(_))));
    let long = vec![0x30; MAX_OCTETS + 1];
    assert!(matches!(SigningRequest::from_der(&long, &policy()), Err(CsrError::TooLong)));
    assert!(matches!(
        SigningRequest::from_pem(&" ".repeat(MAX_OCTETS + 1), &policy()),
        Err(CsrError::TooLong)
    ));
}

#[test]
fn a_key_outside_the_profile_is_refused_with_advice() {
    let (key, _) = generate_p256();
    let der = client_csr(key.expose(), "Anna").unwrap();
    let refused = SigningRequest::from_der(&der, &KeyPolicy { p256: false, ..policy() });
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("does not accept EC P-256 keys; make an EC P-384 key"), "{text}");
}
