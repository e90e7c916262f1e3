//! The pure core of the authority: requests in, to-be-signed bytes out, signatures checked.
//!
//! Nothing here reads a clock, a file or a socket, and nothing here signs for an authority: what is
//! to be signed is prepared and linted ([`issuer`], [`crl`], [`ocsp`]), the signature is made elsewhere, and
//! `assemble` checks it. The only private keys that pass through are those of the local server
//! authority's leaves ([`server_leaf`]), of test fixtures and the command line ([`keygen`]), and
//! those on their way into a PKCS#12 file ([`pkcs12`]).

pub mod audit;
pub mod authority;
pub mod ceremony;
pub mod chain;
pub mod challenge;
pub mod cms;
pub mod continuity;
pub mod crl;
pub mod cross;
pub mod csr;
pub mod issuer;
pub mod key_policy;
pub mod keygen;
pub mod lint;
pub mod ocsp;
pub mod pem;
pub mod pkcs12;
pub mod prepared;
pub mod profile;
pub mod sealed_key;
pub mod server_leaf;
pub mod stranger;
pub mod transfer;

mod encode;
mod extensions;
#[cfg(test)]
mod fixtures;
mod names;
mod oid;
mod read;
mod verify;

pub use authority::AuthorityCertificate;
pub use csr::SigningRequest;
pub use issuer::{AuthorityKind, AuthorityTemplate, ClientLeaf, PrepareError};
pub use key_policy::{KeyKind, KeyPolicy, PublicKey};
pub use prepared::{AssembleError, Certificate, Prepared};
pub use profile::Profile;
