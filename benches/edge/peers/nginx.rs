//! nginx, in one process as one of its workers would be.

use std::process::Command;

use anyhow::Result;

use super::{Buffers, Place, installed, pinned};
use crate::certificates::HOST;

pub(super) fn command(place: &Place, buffers: Buffers) -> Result<Command> {
    let Place { certificates, address, backend, .. } = place;
    let (certificates, own, log) = (certificates.display(), place.own.path().display(), place.log());
    let log = log.display();
    let buffers = match buffers {
        Buffers::Default => "",
        Buffers::Large => {
            "proxy_buffer_size 128k; proxy_buffers 4 128k; proxy_busy_buffers_size 256k; http2_chunk_size 64k;"
        }
    };
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {own}/nginx.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log {log} combined buffer=64k flush=1s;
  server_tokens off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path {own}/b; proxy_temp_path {own}/p; fastcgi_temp_path {own}/f;
  uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;
  {buffers}
  upstream backend {{ server {backend}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {address} ssl http2 backlog=4096; server_name {HOST};
    ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.pem;
    ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_ecdh_curve X25519;
    ssl_client_certificate {certificates}/ca.pem; ssl_verify_client on;
    ssl_session_tickets off; ssl_session_cache off;
    location = /stub_status {{ stub_status; }}
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_set_header Host $host; proxy_set_header Client-Cert $ssl_client_escaped_cert;
      proxy_set_header X-WEBAUTH-USER $ssl_client_s_dn; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host $host;
      add_header Strict-Transport-Security max-age=3600;
    }}
  }}
}}
"
    );
    let file = place.write("nginx.conf", &text)?;
    let mut command = pinned(&installed("nginx")?);
    command.arg("-p").arg(place.own.path()).arg("-c").arg(file);
    Ok(command)
}
