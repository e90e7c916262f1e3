//! Who is asking: sessions by cookie, API tokens, client certificates, and processes of this host
//! through the socket.

pub mod basic;
pub mod caller;
pub mod certificate;
pub mod cookie;
pub mod limits;
pub mod password;
pub mod secret;
pub mod session;
pub mod token;
