//! A client of our own that keeps one HTTP/1.1 connection open, over TLS or plain.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::device::Device;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One open connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    host: String,
    unread: Vec<u8>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.status, self.text()))
    }

    /// The status and the code of the problem that it carries, if any.
    pub fn outcome(&self) -> (u16, String) {
        let problem = self.header("content-type").is_some_and(|kind| kind.starts_with("application/problem"));
        let code =
            if problem { self.json()["code"].as_str().unwrap_or_default().to_owned() } else { String::new() };
        (self.status, code)
    }

    /// The one value of a header that the backend saw.
    pub fn seen(&self, name: &str) -> Option<String> {
        let json = self.json();
        let mut found = json["headers"].as_array().unwrap().iter().filter(|line| line[0] == name);
        let value = found.next().map(|line| line[1].as_str().unwrap().to_owned());
        assert!(found.next().is_none(), "{name} came twice");
        value
    }
}

impl Wire {
    /// A TLS connection to `host`, verified under `authority`; with the device's certificate, if there is one.
    pub fn tls(port: u16, host: &str, authorities: &[Vec<u8>], device: Option<&Device>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(CertificateDer::from(authority.clone())).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match device {
            Some(device) => builder.with_client_auth_cert(device.chain(), device.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = connect(port)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self::over(StreamOwned::new(session, socket), host, port))
    }

    /// A plain connection.
    pub fn plain(port: u16, host: &str) -> Result<Self> {
        Ok(Self::over(connect(port)?, host, port))
    }

    fn over(stream: impl Stream + 'static, host: &str, port: u16) -> Self {
        Self { stream: Box::new(stream), host: format!("{host}:{port}"), unread: Vec::new() }
    }

    pub fn get(&mut self, path: &str) -> Result<Reply> {
        self.send("GET", path, &[], None)
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Reply> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = body.map(ToString::to_string);
        if let Some(body) = &body {
            head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        self.stream.write_all(format!("{head}\r\n{}", body.unwrap_or_default()).as_bytes())?;
        self.stream.flush()?;
        self.read_reply()
    }

    /// Waits until the other side closes, and says how long that took.
    pub fn closes_after(&mut self) -> Duration {
        let began = Instant::now();
        while self.read_more().is_ok() {}
        began.elapsed()
    }

    fn read_reply(&mut self) -> Result<Reply> {
        let (status, headers, head) = loop {
            let mut lines = [httparse::EMPTY_HEADER; 100];
            let mut response = httparse::Response::new(&mut lines);
            if let httparse::Status::Complete(head) = response.parse(&self.unread).unwrap() {
                let headers = response.headers.iter();
                let headers = headers.map(|line| {
                    (line.name.to_ascii_lowercase(), String::from_utf8_lossy(line.value).into_owned())
                });
                break (response.code.unwrap(), headers.collect::<Vec<_>>(), head);
            }
            self.read_more()?;
        };
        self.unread.drain(..head);
        let value = |name| {
            headers.iter().find(|(found, _)| found == name).map(|(_, value): &(_, String)| value.clone())
        };
        let body = if let Some(length) = value("content-length") {
            self.take(length.parse().unwrap())?
        } else if value("transfer-encoding").is_some() {
            self.take_chunks()?
        } else {
            Vec::new()
        };
        Ok(Reply { status, headers, body })
    }

    fn take_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                    break end;
                }
                self.read_more()?;
            };
            let line = self.take(end + 2)?;
            let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            body.extend(self.take(length)?);
            self.take(2)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, octets: usize) -> Result<Vec<u8>> {
        while self.unread.len() < octets {
            self.read_more()?;
        }
        Ok(self.unread.drain(..octets).collect())
    }

    fn read_more(&mut self) -> Result<()> {
        let mut buffer = [0; 16_384];
        match self.stream.read(&mut buffer)? {
            0 => Err(Error::from(ErrorKind::UnexpectedEof)),
            octets => {
                self.unread.extend_from_slice(&buffer[..octets]);
                Ok(())
            }
        }
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}
