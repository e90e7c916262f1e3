//! What the server is told at start.

use super::auth::limits::Allowances;

/// What the server is told at start, once its addresses are known.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// The origin of the console, as browsers write it: `https://localhost:8443`, without a slash at
    /// its end, and without `:443`.
    pub console_origin: String,
    /// The origin of the door, likewise; none when there is no door.
    pub door_origin: Option<String>,
    /// Name of the installation until an administrator gives it another.
    pub name: String,
    /// How often people may try.
    pub allowances: Allowances,
}

impl AdminSettings {
    /// The origin that invitations lead to: the door, or the console if there is none.
    pub fn invitation_origin(&self) -> &str {
        self.door_origin.as_deref().unwrap_or(&self.console_origin)
    }
}
