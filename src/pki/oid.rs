//! The object identifiers that we write or read, named as their standards name them.

use der::asn1::ObjectIdentifier;

macro_rules! oids {
    ($($name:ident = $dotted:literal;)*) => {
        $(pub(super) const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($dotted);)*
    };
}

oids! {
    // Keys (RFC 5480, RFC 3279, RFC 4055, RFC 8410).
    EC_PUBLIC_KEY = "1.2.840.10045.2.1";
    PRIME256V1 = "1.2.840.10045.3.1.7";
    SECP384R1 = "1.3.132.0.34";
    RSA_ENCRYPTION = "1.2.840.113549.1.1.1";
    ED25519 = "1.3.101.112";
    // Signatures and digests.
    ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
    ECDSA_WITH_SHA384 = "1.2.840.10045.4.3.3";
    ECDSA_WITH_SHA512 = "1.2.840.10045.4.3.4";
    SHA256_WITH_RSA = "1.2.840.113549.1.1.11";
    SHA384_WITH_RSA = "1.2.840.113549.1.1.12";
    SHA512_WITH_RSA = "1.2.840.113549.1.1.13";
    RSASSA_PSS = "1.2.840.113549.1.1.10";
    MGF1 = "1.2.840.113549.1.1.8";
    SHA1 = "1.3.14.3.2.26";
    SHA256 = "2.16.840.1.101.3.4.2.1";
    SHA384 = "2.16.840.1.101.3.4.2.2";
    SHA512 = "2.16.840.1.101.3.4.2.3";
    // Attributes of names (RFC 5280 appendix A.1).
    COMMON_NAME = "2.5.4.3";
    ORGANIZATION = "2.5.4.10";
    ORGANIZATIONAL_UNIT = "2.5.4.11";
    // Extensions of certificates and CRLs (RFC 5280 §4.2, §5.2, §5.3).
    SUBJECT_KEY_IDENTIFIER = "2.5.29.14";
    KEY_USAGE = "2.5.29.15";
    SUBJECT_ALT_NAME = "2.5.29.17";
    BASIC_CONSTRAINTS = "2.5.29.19";
    CRL_NUMBER = "2.5.29.20";
    REASON_CODE = "2.5.29.21";
    INVALIDITY_DATE = "2.5.29.24";
    // x509-cert 0.3 gives this extension the OID of subjectInfoAccess; hence our own constant.
    ISSUING_DISTRIBUTION_POINT = "2.5.29.28";
    CRL_DISTRIBUTION_POINTS = "2.5.29.31";
    AUTHORITY_KEY_IDENTIFIER = "2.5.29.35";
    EXTENDED_KEY_USAGE = "2.5.29.37";
    AUTHORITY_INFO_ACCESS = "1.3.6.1.5.5.7.1.1";
    // RFC 7633 §4.
    TLS_FEATURE = "1.3.6.1.5.5.7.1.24";
    // RFC 6402 §2.8, by way of RFC 7030 §4.2.2.
    CHANGE_SUBJECT_NAME = "1.3.6.1.5.5.7.7.36";
    AD_CA_ISSUERS = "1.3.6.1.5.5.7.48.2";
    AD_OCSP = "1.3.6.1.5.5.7.48.1";
    KP_SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
    KP_CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
    KP_OCSP_SIGNING = "1.3.6.1.5.5.7.3.9";
    // OCSP (RFC 6960 §4.2.1, §4.2.2.2.1, RFC 9654).
    OCSP_BASIC = "1.3.6.1.5.5.7.48.1.1";
    OCSP_NONCE = "1.3.6.1.5.5.7.48.1.2";
    OCSP_NOCHECK = "1.3.6.1.5.5.7.48.1.5";
    // PKCS#5, #7, #9, #12.
    PBES2 = "1.2.840.113549.1.5.13";
    PBKDF2 = "1.2.840.113549.1.5.12";
    HMAC_WITH_SHA256 = "1.2.840.113549.2.9";
    AES_256_CBC = "2.16.840.1.101.3.4.1.42";
    PBE_WITH_SHA_AND_3_KEY_TRIPLE_DES_CBC = "1.2.840.113549.1.12.1.3";
    PKCS7_DATA = "1.2.840.113549.1.7.1";
    PKCS7_SIGNED_DATA = "1.2.840.113549.1.7.2";
    PKCS7_ENCRYPTED_DATA = "1.2.840.113549.1.7.6";
    EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
    FRIENDLY_NAME = "1.2.840.113549.1.9.20";
    LOCAL_KEY_ID = "1.2.840.113549.1.9.21";
    X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";
    PKCS8_SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2";
    CERT_BAG = "1.2.840.113549.1.12.10.1.3";
}
