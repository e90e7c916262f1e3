//! HAProxy, in one thread. Its access log is its standard output.

use std::process::Command;

use anyhow::Result;

use super::{Buffers, Place, installed, pinned};

pub(super) fn command(place: &Place, buffers: Buffers) -> Result<Command> {
    let Place { certificates, address, backend, .. } = place;
    let certificates = certificates.display();
    let buffers = match buffers {
        Buffers::Default => "",
        Buffers::Large => "tune.bufsize 65536",
    };
    // `no strict-limits`: it counts two files for each connection, and idle ones need only one.
    let text = format!(
        "global
  nbthread 1
  maxconn 12000
  no strict-limits
  log stdout format raw local0 info
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  {buffers}
defaults
  mode http
  log global
  option httplog
  timeout client 75s
  timeout server 60s
  timeout connect 3s
  timeout http-request 10s
  timeout http-keep-alive 75s
  http-reuse always
frontend edge
  bind {address} ssl crt {certificates}/server.pem ca-file {certificates}/ca.pem verify required curves X25519 ciphersuites TLS_AES_128_GCM_SHA256 alpn h2,http/1.1
  http-request set-header Client-Cert :%[ssl_c_der,base64]:
  http-request set-header X-WEBAUTH-USER %[ssl_c_s_dn(cn)]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-response set-header Strict-Transport-Security max-age=3600
  default_backend backend
backend backend
  server one {backend}
"
    );
    let file = place.write("haproxy.cfg", &text)?;
    let mut command = pinned(&installed("haproxy")?);
    command.args(["-db", "-f"]).arg(file);
    Ok(command)
}
