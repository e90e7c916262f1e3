//! What has to be shown of a configuration before it is published: that strangers are refused. The edge shows
//! it (`edge::probe`), since only it knows how requests are answered.

use std::sync::Arc;

use async_trait::async_trait;

use super::Snapshot;
use super::configuration::ConfigurationData;
use crate::domain::Hostname;

/// A configuration that could be published next.
#[derive(Clone)]
pub struct Candidate {
    /// As it would be in force.
    pub snapshot: Snapshot,
    /// What it was compiled from, and so what it has to do.
    pub data: Arc<ConfigurationData>,
    /// What the one in force was compiled from.
    pub previous: Option<Arc<ConfigurationData>>,
}

/// Tries candidates.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Asks for protected routes of the candidate as strangers would.
    ///
    /// # Errors
    /// As [`ProbeFault`] says; the candidate must not be published.
    async fn probe(&self, candidate: Candidate) -> Result<(), ProbeFault>;
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Somebody without a certificate.
    Anonymous,
    /// Somebody with a certificate of an authority that nobody knows.
    Foreign,
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "a visitor without a certificate",
            Self::Foreign => "a visitor with a stranger's certificate",
        })
    }
}

/// Why a candidate is not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// A protected route let a stranger through.
    #[error("{who} is let through to {host}{path}, which is protected")]
    LetThrough {
        /// Who.
        who: Stranger,
        /// The site.
        host: Hostname,
        /// The route's prefix.
        path: String,
    },
    /// A protected route answered a stranger with something else than a refusal.
    #[error("{who} is not refused at {host}{path}, which is protected, but answered {answer}")]
    Unclear {
        /// Who.
        who: Stranger,
        /// The site.
        host: Hostname,
        /// The route's prefix.
        path: String,
        /// The status, or why there was no answer.
        answer: String,
    },
    /// It took too long; tried again before long.
    #[error("it could not be tried in time")]
    Late,
    /// It could not be tried.
    #[error("it could not be tried: {0}")]
    Impossible(String),
}
