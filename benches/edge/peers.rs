//! The proxies under test, each one process on one core, configured alike: TLS 1.3 with
//! TLS_AES_128_GCM_SHA256 and X25519, client certificate required, no tickets, no access log, the
//! client's certificate in headers, kept connections to the backend.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::certificates::HOST;
use super::{PROXY_CORE, ROLE};

/// A running proxy; killed when dropped.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Target {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn start_all(folder: &Path, backend: SocketAddr) -> Result<Vec<Target>> {
    Ok(vec![ours(folder, backend)?, nginx(folder, backend)?, haproxy(folder, backend)?])
}

fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    // taskset becomes the program, so the process id is the proxy's.
    command.args(["-c", PROXY_CORE, program]).stdin(Stdio::null());
    command
}

fn ours(folder: &Path, backend: SocketAddr) -> Result<Target> {
    let program = std::env::current_exe()?;
    let mut process = pinned(&program.to_string_lossy())
        .env(ROLE, "server")
        .env("WICKETGATE_BENCH_FOLDER", folder)
        .env("WICKETGATE_BENCH_BACKEND", backend.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(process.stdout.take().context("stdout")?).read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("our edge did not start")?;
    ready(Target { name: "wicketgate", address: SocketAddr::from(([127, 0, 0, 1], port)), process })
}

fn nginx(folder: &Path, backend: SocketAddr) -> Result<Target> {
    let address = free_address()?;
    let path = folder.display();
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {path}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; server_tokens off; keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;
  uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
  upstream backend {{ server {backend}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen {address} ssl; server_name {HOST};
    ssl_certificate {path}/server.pem; ssl_certificate_key {path}/server.pem;
    ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_ecdh_curve X25519;
    ssl_client_certificate {path}/ca.pem; ssl_verify_client on;
    ssl_session_tickets off; ssl_session_cache off;
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
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let process = pinned("nginx").arg("-p").arg(folder).arg("-c").arg(&file).spawn()?;
    ready(Target { name: "nginx", address, process })
}

fn haproxy(folder: &Path, backend: SocketAddr) -> Result<Target> {
    let address = free_address()?;
    let path = folder.display();
    let text = format!(
        "global
  nbthread 1
  maxconn 4096
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
defaults
  mode http
  timeout client 75s
  timeout server 60s
  timeout connect 3s
  timeout http-request 10s
  http-reuse always
frontend edge
  bind {address} ssl crt {path}/server.pem ca-file {path}/ca.pem verify required curves X25519 ciphersuites TLS_AES_128_GCM_SHA256 alpn http/1.1
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
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let process = pinned("haproxy").args(["-db", "-q", "-f"]).arg(&file).spawn()?;
    ready(Target { name: "haproxy", address, process })
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn ready(target: Target) -> Result<Target> {
    let began = Instant::now();
    while TcpStream::connect_timeout(&target.address, Duration::from_millis(100)).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            bail!("{} does not listen", target.name);
        }
        std::thread::yield_now();
    }
    Ok(target)
}
