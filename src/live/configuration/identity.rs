//! Who the edge is to upstreams that ask for a certificate.

use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::{ConfigurationFault, UpstreamIdentityData};
use crate::domain::UtcTime;
use crate::live::tls::{self, TlsPolicy};
use crate::pki::chain;

/// The edge's own client certificate for upstreams, ready to be presented.
#[derive(Debug)]
pub struct UpstreamIdentity {
    /// Higher with every renewal; never 0.
    pub generation: u64,
    /// The last second in which it is presented.
    pub not_after: UtcTime,
    /// Chain and key.
    pub certified: Arc<CertifiedKey>,
}

/// Compiles `data`.
///
/// # Errors
/// [`ConfigurationFault::Identity`], [`ConfigurationFault::UnreadableIdentity`].
pub(super) fn compile(
    data: &UpstreamIdentityData,
    tls: &TlsPolicy,
) -> Result<UpstreamIdentity, ConfigurationFault> {
    let unreadable = || ConfigurationFault::UnreadableIdentity;
    // What stands above the leaf may end sooner, and then nobody would believe the leaf.
    let mut ends = Vec::new();
    for der in &data.chain {
        ends.push(chain::read_leaf(&der.0).map_err(|_| unreadable())?.not_after);
    }
    let certified = tls::certified_key(&data.chain, data.key.0.expose(), tls)
        .map_err(|cause| ConfigurationFault::Identity { cause })?;
    let not_after = ends.into_iter().min().ok_or_else(unreadable)?;
    // 0 stands for connections without any.
    if data.generation == 0 {
        return Err(unreadable());
    }
    Ok(UpstreamIdentity { generation: data.generation, not_after, certified })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::domain::Secret;
    use crate::live::configuration::{DerData, KeyData};

    fn data(generation: u64) -> UpstreamIdentityData {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["edge.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let key = KeyData(Secret::new(key.serialize_der()));
        UpstreamIdentityData { generation, chain: vec![DerData(der)], key }
    }

    #[test]
    fn chain_and_key_belong_together_or_there_is_no_configuration() {
        let tls = TlsPolicy::modern();
        let compiled = compile(&data(3), &tls).unwrap();
        assert_eq!((compiled.generation, compiled.not_after.to_string()), (3, "2027-01-01T00:00:00Z".into()));
        let foreign_key = UpstreamIdentityData { key: data(1).key, ..data(1) };
        assert!(matches!(compile(&foreign_key, &tls), Err(ConfigurationFault::Identity { .. })));
        let no_chain = UpstreamIdentityData { chain: Vec::new(), ..data(1) };
        assert!(matches!(compile(&no_chain, &tls), Err(ConfigurationFault::Identity { .. })));
        let noise = UpstreamIdentityData { chain: vec![DerData(vec![0x30, 0])], ..data(1) };
        assert!(matches!(compile(&noise, &tls), Err(ConfigurationFault::UnreadableIdentity)));
        assert!(matches!(compile(&data(0), &tls), Err(ConfigurationFault::UnreadableIdentity)));
    }
}
