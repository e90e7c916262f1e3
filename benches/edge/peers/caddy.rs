//! Caddy, with one thread for its goroutines. Which AEAD it uses is the visitors' choice.

use std::process::Command;

use anyhow::Result;

use super::{Place, installed, pinned};
use crate::certificates::HOST;

pub(super) fn command(place: &Place) -> Result<Command> {
    // The site has no port in its address, or only visitors who name the port would be in its log.
    let Place { certificates, address, backend, .. } = place;
    let (certificates, log, port) = (certificates.display(), place.log(), address.port());
    let log = log.display();
    let text = format!(
        "{{
	admin off
	auto_https off
	https_port {port}
	servers {{
		protocols h1 h2
	}}
}}
https://{HOST} {{
	bind {ip}
	tls {certificates}/server.pem {certificates}/server.pem {{
		protocols tls1.3 tls1.3
		curves x25519
		client_auth {{
			mode require_and_verify
			trusted_ca_cert_file {certificates}/ca.pem
		}}
	}}
	log {{
		output file {log} {{
			roll_disabled
		}}
		format json
	}}
	header Strict-Transport-Security max-age=3600
	reverse_proxy {backend} {{
		header_up Client-Cert :{{http.request.tls.client.certificate_der_base64}}:
		header_up X-WEBAUTH-USER {{http.request.tls.client.subject}}
		transport http {{
			keepalive 60s
			keepalive_idle_conns 1024
			keepalive_idle_conns_per_host 1024
			compression off
		}}
	}}
}}
",
        ip = address.ip(),
    );
    let file = place.write("Caddyfile", &text)?;
    let mut command = pinned(&installed("caddy")?);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    // It keeps what it finds out below its user's home otherwise.
    command.env("XDG_DATA_HOME", place.own.path()).env("XDG_CONFIG_HOME", place.own.path());
    command.env("GOMAXPROCS", "1");
    Ok(command)
}
