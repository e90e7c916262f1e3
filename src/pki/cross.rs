//! Cross-certificates: one root vouches for the key of another, so that whoever trusts only one of two
//! generations can verify what stands under either (RFC 5280 §3.2; RFC 9810 §4.4 for the idea).

use super::authority::AuthorityCertificate;
use super::extensions as ext;
use super::issuer::{Fields, PrepareError, within};
use super::prepared::Prepared;
use super::{lint, oid};
use crate::domain::{Serial, UtcTime};

/// Below a root that is vouched for stand its issuing authorities and no further ones.
pub(super) const CROSS_PATH_LEN: u8 = 1;

/// What a cross-certificate says, besides the name and key of the root that it is for.
#[derive(Clone, Copy, Debug)]
pub struct CrossTemplate<'a> {
    /// Unique, reserved before this call.
    pub serial: Serial,
    /// The root that is vouched for.
    pub subject: &'a AuthorityCertificate,
    /// First second of validity.
    pub not_before: UtcTime,
    /// Last second of validity, within both roots'.
    pub not_after: UtcTime,
    /// Where the CRL of the vouching root is, plain HTTP.
    pub crl_urls: &'a [String],
    /// Where the certificate of the vouching root is, plain HTTP.
    pub issuer_urls: &'a [String],
}

/// Prepares the certificate in which the root `issuer` vouches for the root `template.subject`.
///
/// # Errors
/// See [`PrepareError`]. A root whose path length leaves no room for another root and its issuing
/// authority cannot vouch: verifiers would refuse the path.
pub fn prepare_cross(
    issuer: &AuthorityCertificate,
    template: &CrossTemplate<'_>,
) -> Result<Prepared, PrepareError> {
    let subject = template.subject;
    if !has_room(issuer) {
        return Err(PrepareError::Kind("the vouching root's path length leaves no room for another root"));
    }
    if subject.path_len() == Some(0) {
        return Err(PrepareError::Kind("only a root is vouched for, not an issuing authority"));
    }
    within(issuer, template.not_after)?;
    within(subject, template.not_after)?;
    let mut extensions = vec![
        ext::authority_key_identifier(issuer.key_id()),
        ext::subject_key_identifier(subject.key_id()),
        ext::basic_constraints(CROSS_PATH_LEN),
        ext::key_usage(ext::KEY_CERT_SIGN | ext::CRL_SIGN),
        ext::extended_key_usage(oid::KP_CLIENT_AUTH),
    ];
    extensions.extend(ext::crl_distribution_points(template.crl_urls)?);
    extensions.extend(ext::authority_info_access(&[], template.issuer_urls)?);
    let fields = Fields {
        serial: template.serial,
        issuer: issuer.subject_der(),
        not_before: template.not_before,
        not_after: template.not_after,
        subject: subject.subject_der(),
        spki: subject.spki_der(),
        extensions: &extensions,
    };
    fields.prepare(issuer.spki_der(), |tbs| {
        [lint::lint_cross(tbs, subject), lint::lint_under(tbs, issuer)].concat()
    })
}

/// Whether `issuer` may stand above another root and that one's issuing authority.
pub fn has_room(issuer: &AuthorityCertificate) -> bool {
    issuer.path_len().is_none_or(|length| length > CROSS_PATH_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::fixtures::{self, END, START, serial};
    use crate::pki::{AuthorityKind, chain};

    fn template<'a>(subject: &'a AuthorityCertificate, urls: &'a [String]) -> CrossTemplate<'a> {
        CrossTemplate {
            serial: serial(77),
            subject,
            not_before: START,
            not_after: END,
            crl_urls: urls,
            issuer_urls: urls,
        }
    }

    #[test]
    fn a_root_vouches_for_name_key_and_key_identifier_of_the_other() {
        let (old, new) =
            (fixtures::root(), fixtures::self_signed(AuthorityKind::Root, "Test Client Root G2"));
        let urls = ["http://localhost/pki/x".to_owned()];
        let prepared = prepare_cross(&old.certificate, &template(&new.certificate, &urls)).unwrap();
        let signature = old.sign(prepared.tbs());
        let cross = AuthorityCertificate::from_der(prepared.assemble(&signature).unwrap().der()).unwrap();
        assert_eq!(cross.subject_der(), new.certificate.subject_der());
        assert_eq!(
            (cross.spki_der(), cross.key_id()),
            (new.certificate.spki_der(), new.certificate.key_id())
        );
        assert_eq!(cross.path_len(), Some(CROSS_PATH_LEN));
        assert!(chain::signed_by(cross.der(), old.certificate.spki_der()));
    }

    #[test]
    fn nobody_vouches_for_itself_for_an_issuing_authority_or_for_longer_than_both_live() {
        let (old, new) =
            (fixtures::root(), fixtures::self_signed(AuthorityKind::Root, "Test Client Root G2"));
        let issuing = fixtures::issuing_under(&old);
        let refused =
            |by: &AuthorityCertificate, template: CrossTemplate<'_>| prepare_cross(by, &template).is_err();
        assert!(refused(&old.certificate, template(&old.certificate, &[])));
        assert!(refused(&old.certificate, template(&issuing.certificate, &[])));
        assert!(refused(&issuing.certificate, template(&new.certificate, &[])));
        let long = CrossTemplate {
            not_after: END.plus(std::time::Duration::from_secs(1)),
            ..template(&new.certificate, &[])
        };
        assert!(refused(&old.certificate, long));
    }
}
