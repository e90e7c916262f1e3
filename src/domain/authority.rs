//! What an authority is for, and where in its life it stands.

use serde::{Deserialize, Serialize};

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityKind {
    /// Signs issuing authorities and its own CRL.
    Root,
    /// Signs client certificates and their CRL.
    Issuing,
    /// Signs bootstrap, fallback and admin server leaves; never in client trust.
    LocalServer,
    /// Signs the edge's own client certificate, for upstreams that ask for one. On no register: what it
    /// signs passes no edge.
    Upstream,
}

impl AuthorityKind {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::LocalServer => "local_server",
            Self::Upstream => "upstream",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Root, Self::Issuing, Self::LocalServer, Self::Upstream]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Whether clients' certificates stand under it: these are rolled over by hand, keep lists, and may be
    /// in client trust.
    pub const fn is_for_clients(self) -> bool {
        matches!(self, Self::Root | Self::Issuing)
    }
}

/// Where in its life an authority stands. Moves only forward, but for a roll-back before `Issuing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityState {
    /// Made, known to nobody.
    Staged,
    /// In client trust, signs nothing yet.
    Trusted,
    /// Signs.
    Issuing,
    /// Signs CRLs only, its leaves still pass.
    Retiring,
    /// Out of trust.
    Archived,
}

impl AuthorityState {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Trusted => "trusted",
            Self::Issuing => "issuing",
            Self::Retiring => "retiring",
            Self::Archived => "archived",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Staged, Self::Trusted, Self::Issuing, Self::Retiring, Self::Archived]
            .into_iter()
            .find(|state| state.name() == name)
    }

    /// Where `step` leads from here; `None` when it may not be taken. The whole life of an authority:
    ///
    /// | from | step | to |
    /// |---|---|---|
    /// | staged | trust | trusted |
    /// | trusted | roll back | staged |
    /// | trusted | issue | issuing |
    /// | issuing | retire | retiring |
    /// | staged, retiring | archive | archived |
    pub const fn after(self, step: AuthorityStep) -> Option<Self> {
        use AuthorityStep as Step;
        match (self, step) {
            (Self::Staged, Step::Trust) => Some(Self::Trusted),
            (Self::Trusted, Step::RollBack) => Some(Self::Staged),
            (Self::Trusted, Step::Issue) => Some(Self::Issuing),
            (Self::Issuing, Step::Retire) => Some(Self::Retiring),
            (Self::Staged | Self::Retiring, Step::Archive) => Some(Self::Archived),
            _ => None,
        }
    }

    /// Whether leaves under an authority in this state pass the edge.
    pub const fn is_in_force(self) -> bool {
        matches!(self, Self::Trusted | Self::Issuing | Self::Retiring)
    }
}

/// A step of a roll-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorityStep {
    /// Into client trust.
    Trust,
    /// Out of client trust again, before it ever signed.
    RollBack,
    /// From now on it signs; the one that did retires.
    Issue,
    /// It signs no more.
    Retire,
    /// Out of trust for good.
    Archive,
}

impl AuthorityStep {
    /// Every step.
    pub const ALL: [Self; 5] = [Self::Trust, Self::RollBack, Self::Issue, Self::Retire, Self::Archive];

    /// What is done, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trust => "be trusted",
            Self::RollBack => "be rolled back",
            Self::Issue => "issue",
            Self::Retire => "retire",
            Self::Archive => "be archived",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthorityState as State, AuthorityStep as Step};

    #[test]
    fn an_authority_moves_only_along_the_table() {
        let states = [State::Staged, State::Trusted, State::Issuing, State::Retiring, State::Archived];
        let allowed = [
            (State::Staged, Step::Trust, State::Trusted),
            (State::Staged, Step::Archive, State::Archived),
            (State::Trusted, Step::RollBack, State::Staged),
            (State::Trusted, Step::Issue, State::Issuing),
            (State::Issuing, Step::Retire, State::Retiring),
            (State::Retiring, Step::Archive, State::Archived),
        ];
        for state in states {
            for step in Step::ALL {
                let wanted = allowed.iter().find(|(from, by, _)| (*from, *by) == (state, step));
                assert_eq!(state.after(step), wanted.map(|(_, _, to)| *to), "{state:?} {step:?}");
            }
        }
    }

    #[test]
    fn nothing_leads_out_of_the_archive_or_back_from_issuing() {
        assert!(Step::ALL.iter().all(|step| State::Archived.after(*step).is_none()));
        assert_eq!(State::Issuing.after(Step::RollBack), None);
    }
}
