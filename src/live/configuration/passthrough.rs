//! Sites whose connections are passed through unread: a name and where it leads, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ConfigurationData, ConfigurationFault, SiteData, SiteKind, Upstream};
use crate::domain::{ClientAuth, Hostname, Slug};

/// One of them.
#[derive(Debug)]
pub struct Passthrough {
    /// The public host name.
    pub host: Hostname,
    /// Whose targets have its certificate.
    pub upstream: Arc<Upstream>,
}

/// Every site of `data` that is of that kind, by host name.
///
/// # Errors
/// The first [`ConfigurationFault::BadPassthrough`].
pub(super) fn compile_all(
    data: &ConfigurationData,
    upstreams: &HashMap<Slug, Arc<Upstream>>,
) -> Result<HashMap<Hostname, Arc<Passthrough>>, ConfigurationFault> {
    let passed = data.sites.iter().filter(|site| site.kind == SiteKind::Passthrough);
    passed.map(|site| Ok((site.host.clone(), Arc::new(compile(site, upstreams)?)))).collect()
}

/// What only we could do if we read the connection is not promised.
fn compile(
    data: &SiteData,
    upstreams: &HashMap<Slug, Arc<Upstream>>,
) -> Result<Passthrough, ConfigurationFault> {
    let refuse = |reason: String| ConfigurationFault::BadPassthrough { host: data.host.clone(), reason };
    let name = data.upstream.as_ref().ok_or_else(|| refuse("names no upstream".to_owned()))?;
    let upstream =
        upstreams.get(name).ok_or_else(|| refuse(format!("leads to {name}, which is not an upstream")))?;
    if data.client_auth != ClientAuth::None || data.hsts_max_age_seconds > 0 || !data.chain.is_empty() {
        return Err(refuse(
            "cannot ask for certificates, send HSTS or have a certificate of ours".to_owned(),
        ));
    }
    Ok(Passthrough { host: data.host.clone(), upstream: upstream.clone() })
}
