//! OCSP (RFC 6960, RFC 9654, RFC 9919): strict requests in, to-be-signed answers out, and the
//! certificate of the delegate that signs them; and the other side, questions about server certificates of
//! others' and their answers, to be stapled. Our own ASN.1 on `der`: the crate for it stands on an older
//! generation of everything.

mod answer;
mod id;
mod question;
mod request;
mod response;
mod signer;
#[cfg(test)]
mod tests;

pub use answer::{AnswerFault, MAX_ANSWER_OCTETS, StapleAnswer};
pub use id::{CertId, IssuerId};
pub use question::StapleQuestion;
pub use request::{MAX_NONCE_OCTETS, MAX_REQUEST_OCTETS, MAX_SINGLE_REQUESTS, MalformedRequest, OcspRequest};
pub use response::{
    CertStatus, ErrorStatus, OcspResponse, PreparedResponse, error_response, prepare_response,
};
pub use signer::{MAX_SIGNER_LIFETIME, OcspSigner, SignerError, SignerTemplate, prepare_signer};
