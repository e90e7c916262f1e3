//! Fills the demo: an upstream, a site with a public and a protected route, a person with one enrolled device.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::{Ready, control};
use crate::admin::{NewAdminToken, create_token_for};
use crate::boot::Running;
use crate::ca::{DeviceChoice, IssueRequest};
use crate::domain::route::RouteOptions;
use crate::domain::upstream::UpstreamOptions;
use crate::domain::{
    AccessPolicy, AccessRules, Actor, AuthorityKind, ClientAuth, PersonId, Role, RouteId, Secret, Slug,
    UtcTime,
};
use crate::keys::SystemEntropy;
use crate::pki::{keygen, pem, pkcs12};
use crate::store::configuration::{CertificateSource, Route, Site, SiteKind};
use crate::store::people::Person;
use crate::store::upstreams::Upstream;

pub(super) async fn prepare(
    running: &Running,
    upstream: SocketAddr,
    directory: &Path,
    now: UtcTime,
) -> anyhow::Result<Ready> {
    let control = control(running)?;
    let control = &*control;
    routes(control, upstream, now).await?;
    let person = person(control, now).await?;
    let token = token(control, person, now).await?;
    let files = enrol(control, person, directory, now).await?;
    let authorities = control.ca().authorities().await?;
    let local = authorities.iter().find(|authority| authority.kind == AuthorityKind::LocalServer);
    let local =
        local.and_then(|authority| authority.certificate.as_deref()).context("no local server authority")?;
    let ca_file = directory.join("ca.pem");
    write_private(&ca_file, pem::block("CERTIFICATE", local).as_bytes())?;
    let edge_port = running.edge().https_addresses().first().context("no https listener")?.port();
    let http_port = running.edge().http_addresses().first().context("no http listener")?.port();
    Ok(Ready {
        admin_url: control.console_url().to_owned(),
        admin_token: token.expose().clone(),
        edge_url: format!("https://localhost:{edge_port}"),
        door_url: format!("https://door.localhost:{edge_port}"),
        http_url: format!("http://localhost:{http_port}"),
        health_url: format!("http://localhost:{}", running.health_address().port()),
        ca_file,
        client_cert_file: files.certificate,
        client_key_file: files.key,
        client_p12_file: files.p12,
        client_p12_password: files.password,
        data_dir: directory.to_owned(),
    })
}

async fn routes(control: &crate::boot::Control, upstream: SocketAddr, now: UtcTime) -> anyhow::Result<()> {
    let host = "localhost".parse()?;
    let name: Slug = "demo".parse()?;
    let certificate = control.ca().local_certificate(&host, now).await?;
    let site = Site {
        host: host.clone(),
        kind: SiteKind::App,
        upstream: None,
        client_auth: ClientAuth::Request,
        hsts_max_age_seconds: 0,
        source: CertificateSource::Local,
        enabled: true,
        server_certificate: Some(certificate.clone()),
        created_at: now,
        version: 1,
    };
    let route = |path_prefix: &str, policy| Route {
        id: RouteId::new(),
        host: host.clone(),
        path_prefix: path_prefix.to_owned(),
        upstream: name.clone(),
        policy,
        plain_header: None,
        audience: None,
        options: RouteOptions::default(),
        created_at: now,
        version: 1,
    };
    let targets = vec![format!("http://{upstream}")];
    let transaction = control.store().begin().await?;
    transaction
        .insert_upstream(&Upstream {
            name: name.clone(),
            targets,
            options: UpstreamOptions::default(),
            created_at: now,
            version: 1,
        })
        .await?;
    transaction.insert_server_certificate(&certificate).await?;
    transaction.insert_site(&site).await?;
    transaction.insert_route(&route("/public", AccessPolicy::Public)).await?;
    transaction.insert_route(&route("/", AccessPolicy::Known(AccessRules::default()))).await?;
    transaction.commit().await?;
    control.refresh().refresh().await?;
    Ok(())
}

async fn person(control: &crate::boot::Control, now: UtcTime) -> anyhow::Result<PersonId> {
    let person = Person {
        id: PersonId::new(),
        email: "demo@example.com".to_owned(),
        name: "Demo Person".to_owned(),
        role: Role::Administrator,
        groups: std::collections::BTreeSet::new(),
        disabled: false,
        has_password: false,
        created_at: now,
        version: 1,
    };
    let act = control.store().begin_act(Actor::System("demo"), "person.create", None, None, now).await?;
    control.ca().create_person(&person, &act, now).await?;
    Ok(person.id)
}

async fn token(
    control: &crate::boot::Control,
    person: PersonId,
    now: UtcTime,
) -> anyhow::Result<Secret<String>> {
    let act = control.store().begin_act(Actor::System("demo"), "token.create", None, None, now).await?;
    let new = NewAdminToken {
        person,
        name: "Demo".to_owned(),
        role: Role::Administrator,
        lasts: Duration::from_secs(86_400),
    };
    Ok(create_token_for(control.store(), &SystemEntropy, new, &act, now).await?)
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    p12: PathBuf,
    password: String,
}

async fn enrol(
    control: &crate::boot::Control,
    person: PersonId,
    directory: &Path,
    now: UtcTime,
) -> anyhow::Result<Files> {
    let (key, _) = keygen::generate_p256();
    let request = IssueRequest {
        person,
        device: DeviceChoice::New { name: "Demo device".to_owned() },
        profile: "device".parse()?,
        csr_pem: keygen::client_csr_pem(key.expose(), "Demo device")?,
        dns_names: Default::default(),
    };
    let act = control.store().begin_act(Actor::System("demo"), "certificate.issue", None, None, now).await?;
    let issued = control.ca().issue(&request, &act, now).await?;
    let chain: Vec<&[u8]> = issued.chain.iter().map(Vec::as_slice).collect();
    let certificates: String = std::iter::once(issued.certificate.der.as_slice())
        .chain(chain.iter().copied())
        .map(|der| pem::block("CERTIFICATE", der))
        .collect();
    let password = pkcs12::Password::generate(&SystemEntropy);
    let encoding = pkcs12::Encoding::Modern;
    let p12 = pkcs12::write(
        encoding,
        key.expose(),
        &issued.certificate.der,
        &chain,
        "Demo device",
        &password,
        &SystemEntropy,
    )?;
    let files = Files {
        certificate: directory.join("client.pem"),
        key: directory.join("client.key"),
        p12: directory.join("client.p12"),
        password: password.expose().to_owned(),
    };
    write_private(&files.certificate, certificates.as_bytes())?;
    write_private(&files.key, keygen::private_key_pem(key.expose()).expose().as_bytes())?;
    write_private(&files.p12, &p12)?;
    Ok(files)
}

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(bytes)?)
}
