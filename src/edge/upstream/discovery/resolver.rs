//! Brings answers from DNS. Keeps none: how long they hold is for the caller to see.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::{Instant, timeout};

use super::found::{Answer, MOST, Part, Server};
use crate::domain::upstream::DiscoveryKind;
use crate::live::{Place, Target};
use crate::telemetry::metrics::LookupFault;

/// For one answer of a server.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Tries beyond the first.
const TRIES_MORE: usize = 1;
/// For all that has to be asked about one name.
const ALL_WITHIN: Duration = Duration::from_secs(10);
/// For so long, `/etc/resolv.conf` and `/etc/hosts` are not read again.
const READ_EVERY: Duration = Duration::from_secs(10);
/// Servers of one name whose addresses are asked for at one time.
const AT_ONCE: usize = 8;

/// Asks the servers that this host's configuration names, or those of the settings.
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    made: RefCell<Option<(Instant, TokioResolver)>>,
}

impl Resolver {
    /// * `servers` — empty: those of `/etc/resolv.conf`, after a look into `/etc/hosts`.
    pub(super) fn asking(servers: Vec<SocketAddr>) -> Self {
        Self { servers, made: RefCell::new(None) }
    }

    /// What is behind the host of `target`.
    ///
    /// # Errors
    /// Why nothing has come. Questions that failed among others that did not are parts of the answer.
    pub(super) async fn ask(&self, target: &Target, kind: DiscoveryKind) -> Result<Answer, LookupFault> {
        let resolver = self.current().map_err(|error| fault_of(&error))?;
        let Place::Tcp { host: written, port } = &target.place else { return Err(LookupFault::NoSuchName) };
        let host = Name::from_str_relaxed(written).map_err(|_| LookupFault::NoSuchName)?;
        let asking = async {
            match kind {
                DiscoveryKind::Addresses => {
                    let server = Server { host: Arc::from(&**written), port: *port, priority: 0, weight: 1 };
                    let (parts, ttl) = addresses(&resolver, &host, &server).await;
                    Ok(Answer { parts, ttl })
                }
                DiscoveryKind::Srv => servers(&resolver, host).await,
            }
        };
        timeout(ALL_WITHIN, asking).await.unwrap_or(Err(LookupFault::Timeout))
    }

    fn current(&self) -> Result<TokioResolver, NetError> {
        let mut made = self.made.borrow_mut();
        if let Some((at, resolver)) = made.as_ref()
            && at.elapsed() < READ_EVERY
        {
            return Ok(resolver.clone());
        }
        let resolver = self.make()?;
        *made = Some((Instant::now(), resolver.clone()));
        Ok(resolver)
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(|address| server_at(*address)).collect();
            let config = ResolverConfig::from_name_servers(servers);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        options.timeout = ANSWER_WITHIN;
        options.attempts = TRIES_MORE;
        options.cache_size = 0;
        builder.build()
    }
}

fn server_at(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = address.port());
    server
}

/// The A and AAAA records of one server, and the least TTL of them.
async fn addresses(resolver: &TokioResolver, name: &Name, server: &Server) -> (Vec<Part>, u32) {
    let (v4, v6) = tokio::join!(
        resolver.lookup(name.clone(), RecordType::A),
        resolver.lookup(name.clone(), RecordType::AAAA)
    );
    let ttl = [&v4, &v6].into_iter().flatten().map(ttl_of).min().unwrap_or(u32::MAX);
    let part = |is_v6, came| Part { server: server.clone(), is_v6, came };
    let v6 = v6.map_err(|error| fault_of(&error)).and_then(|lookup| with_a_way(ips(&lookup)));
    let v4 = v4.map(|lookup| ips(&lookup)).map_err(|error| fault_of(&error));
    (vec![part(false, v4), part(true, v6)], ttl)
}

/// RFC 2782: the servers of a service, and the addresses of each.
async fn servers(resolver: &TokioResolver, name: Name) -> Result<Answer, LookupFault> {
    let lookup = resolver.lookup(name, RecordType::SRV).await.map_err(|error| fault_of(&error))?;
    let record = |data: &RData| match data {
        // The root stands for: there is no such service here.
        RData::SRV(srv) if !srv.target.is_root() => {
            let host = Arc::from(srv.target.to_lowercase().to_ascii());
            let server = Server { host, port: srv.port, priority: srv.priority, weight: srv.weight };
            Some((server, srv.target.clone()))
        }
        _ => None,
    };
    let mut records: Vec<_> = lookup.answers().iter().filter_map(|one| record(&one.data)).collect();
    records.sort_by(|(a, _), (b, _)| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
    records.truncate(MOST);
    let mut answer = Answer { parts: Vec::new(), ttl: ttl_of(&lookup) };
    for some in records.chunks(AT_ONCE) {
        let asked = some.iter().map(|(server, name)| addresses(resolver, name, server));
        for (parts, ttl) in join_all(asked).await {
            answer.parts.extend(parts);
            answer.ttl = answer.ttl.min(ttl);
        }
    }
    Ok(answer)
}

/// The least TTL of what was asked for, and of the names on the way there.
fn ttl_of(lookup: &Lookup) -> u32 {
    let counts =
        |data: &RData| matches!(data, RData::A(_) | RData::AAAA(_) | RData::SRV(_) | RData::CNAME(_));
    let ttls = lookup.answers().iter().filter(|record| counts(&record.data)).map(|record| record.ttl);
    ttls.min().unwrap_or_default()
}

fn ips(lookup: &Lookup) -> Vec<IpAddr> {
    let ip = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    lookup.answers().iter().filter_map(|record| ip(&record.data)).collect()
}

/// Those that this host knows a way to: where there is no IPv6, AAAA records lead nowhere (RFC 6724 §6, rule 1).
/// Nothing is sent.
fn with_a_way(ips: Vec<IpAddr>) -> Result<Vec<IpAddr>, LookupFault> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let has_way = |ip: &IpAddr| socket.as_ref().is_ok_and(|socket| socket.connect((*ip, 9)).is_ok());
    let is_empty = ips.is_empty();
    let ips: Vec<_> = ips.into_iter().filter(has_way).collect();
    if ips.is_empty() && !is_empty { Err(LookupFault::Unreachable) } else { Ok(ips) }
}

fn fault_of(error: &NetError) -> LookupFault {
    match error {
        error if error.is_nx_domain() => LookupFault::NoSuchName,
        error if error.is_no_records_found() => LookupFault::Empty,
        NetError::Dns(_) => LookupFault::ServerFailure,
        NetError::Timeout => LookupFault::Timeout,
        NetError::Io(_) | NetError::NoConnections => LookupFault::Unreachable,
        _ => LookupFault::Broken,
    }
}
