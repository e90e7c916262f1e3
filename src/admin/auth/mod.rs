//! Who is asking: sessions by cookie, API tokens, and processes of this host through the socket.

pub mod caller;
pub mod cookie;
pub mod limits;
pub mod password;
pub mod secret;
pub mod session;
pub mod token;
