//! A name server whose zone changes at a word, over UDP and TCP on one port of loopback. Says what it is told to,
//! also what no server should.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// An answer over UDP that would be longer is cut, and asked for again over TCP.
const MOST_OVER_UDP: usize = 512;
/// Names that are followed from one to the next.
const MOST_NAMES: usize = 12;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// How a name is answered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// NXDOMAIN.
    Denies,
    /// No error, and no record.
    SaysNothing,
    /// SERVFAIL.
    Fails,
    Silent,
    /// The right number, and rubbish behind it.
    Garbage,
    /// Rubbish of one octet, and of many.
    Noise,
    /// Another number than that of the question.
    OtherNumber,
    /// First an answer with another number and [`EVIL`] in it, then the right one.
    Forged,
    /// Cut over UDP and over TCP.
    AlwaysCut,
}

/// An address that only forged answers name.
pub const EVIL: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 66, 66, 66));

/// What a record says.
#[derive(Clone, Debug)]
pub enum Data {
    Address(IpAddr),
    Alias(String),
    Server { priority: u16, weight: u16, port: u16, host: String },
}

#[derive(Clone, Default)]
struct Entry {
    mood: Mood,
    ttl: u32,
    records: Vec<Data>,
}

/// The server.
#[derive(Clone)]
pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Entry>>>,
    asked: Arc<AtomicU64>,
    asked_over_tcp: Arc<AtomicU64>,
}

impl Dns {
    pub async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The other protocol's port of this number may be taken.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let dns = Self {
            address: udp.local_addr().unwrap(),
            zone: Arc::default(),
            asked: Arc::default(),
            asked_over_tcp: Arc::default(),
        };
        tokio::spawn(dns.clone().over_udp(udp));
        tokio::spawn(dns.clone().over_tcp(tcp));
        dns
    }

    /// From now on the name stands for this.
    pub fn says(&self, name: &str, ttl: u32, records: Vec<Data>) {
        let mut zone = self.zone.lock();
        let entry = zone.entry(name.to_owned()).or_default();
        (entry.ttl, entry.records) = (ttl, records);
    }

    /// From now on the name stands for these addresses.
    pub fn has(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        self.says(name, ttl, addresses.iter().copied().map(Data::Address).collect());
    }

    /// From now on the name is answered for like this.
    pub fn becomes(&self, name: &str, mood: Mood) {
        self.zone.lock().entry(name.to_owned()).or_default().mood = mood;
    }

    /// Questions that came.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Those of them that came over TCP.
    pub fn asked_over_tcp(&self) -> u64 {
        self.asked_over_tcp.load(Ordering::SeqCst)
    }

    async fn over_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 4_096];
        while let Ok((octets, peer)) = socket.recv_from(&mut buffer).await {
            let Some(question) = Question::read(&buffer[..octets]) else { continue };
            for mut answer in self.answers(&question) {
                if answer.len() > MOST_OVER_UDP && self.mood(&question.name) != Mood::Noise {
                    answer = question.answer(0, true, &[]);
                }
                // Whoever has asked may have gone.
                let _ = socket.send_to(&answer, peer).await;
            }
        }
    }

    async fn over_tcp(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().serve(stream));
        }
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut message = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut message).await?;
            self.asked_over_tcp.fetch_add(1, Ordering::SeqCst);
            let Some(question) = Question::read(&message) else { return Ok(()) };
            for answer in self.answers(&question) {
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await?;
                stream.write_all(&answer).await?;
            }
        }
    }

    fn mood(&self, name: &str) -> Mood {
        self.zone.lock().get(name).map(|entry| entry.mood).unwrap_or_default()
    }

    /// What is sent back, one after the other.
    fn answers(&self, question: &Question) -> Vec<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (is_known, records) = self.records(question);
        let well = question.answer(if is_known { 0 } else { 3 }, false, &records);
        let other = |records: &[Record]| {
            let number = question.number ^ 0x5555;
            Question { number, ..question.clone() }.answer(0, false, records)
        };
        match self.mood(&question.name) {
            Mood::Well => vec![well],
            Mood::Denies => vec![question.answer(3, false, &[])],
            Mood::SaysNothing => vec![question.answer(0, false, &[])],
            Mood::Fails => vec![question.answer(2, false, &[])],
            Mood::Silent => Vec::new(),
            Mood::Garbage => vec![[&well[..2], &[0xff; 40][..]].concat()],
            Mood::Noise => vec![vec![0], vec![0xa5; 1_500], Vec::new()],
            Mood::OtherNumber => vec![other(&records)],
            Mood::Forged => {
                let evil = Record { owner: question.name.clone(), ttl: 60, data: Data::Address(EVIL) };
                vec![other(&[evil]), well]
            }
            Mood::AlwaysCut => vec![question.answer(0, true, &[])],
        }
    }

    /// Whether the name is there, and the records that answer, aliases on the way included.
    fn records(&self, question: &Question) -> (bool, Vec<Record>) {
        let zone = self.zone.lock();
        let (mut name, mut records) = (question.name.clone(), Vec::new());
        for _ in 0..MOST_NAMES {
            let Some(entry) = zone.get(&name) else { break };
            let mut next = None;
            for data in &entry.records {
                let record = || Record { owner: name.clone(), ttl: entry.ttl, data: data.clone() };
                if let Data::Alias(target) = data {
                    next = Some(target.clone());
                    records.push(record());
                } else if data.kind() == question.kind {
                    records.push(record());
                }
            }
            match next {
                Some(next) => name = next,
                None => break,
            }
        }
        (zone.contains_key(&question.name), records)
    }
}

impl Data {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => A,
            Self::Address(IpAddr::V6(_)) => AAAA,
            Self::Alias(_) => CNAME,
            Self::Server { .. } => SRV,
        }
    }

    fn octets(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Self::Address(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Self::Alias(name) => labels(name),
            Self::Server { priority, weight, port, host } => {
                let numbers = [priority, weight, port].into_iter().flat_map(|number| number.to_be_bytes());
                numbers.chain(labels(host)).collect()
            }
        }
    }
}

struct Record {
    owner: String,
    ttl: u32,
    data: Data,
}

/// RFC 1035 §4.1.2.
#[derive(Clone)]
struct Question {
    number: u16,
    name: String,
    kind: u16,
    /// As it came.
    octets: Vec<u8>,
}

impl Question {
    fn read(message: &[u8]) -> Option<Self> {
        let number = u16::from_be_bytes(*message.first_chunk()?);
        let (mut at, mut parts) = (12, Vec::new());
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            parts.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes(*message.get(at..)?.first_chunk()?);
        Some(Self { number, name: parts.join("."), kind, octets: message.get(12..at + 4)?.to_vec() })
    }

    /// RFC 1035 §4.1.1: with this code, perhaps cut.
    fn answer(&self, code: u16, is_cut: bool, records: &[Record]) -> Vec<u8> {
        // A response, recursion desired and available.
        let flags = 0x8180 | code | if is_cut { 0x0200 } else { 0 };
        let counts = [self.number, flags, 1, u16::try_from(records.len()).unwrap(), 0, 0];
        let mut message: Vec<u8> = counts.into_iter().flat_map(u16::to_be_bytes).collect();
        message.extend(&self.octets);
        for Record { owner, ttl, data } in records {
            // The name of the question stands at 12.
            message.extend(if *owner == self.name { vec![0xc0, 12] } else { labels(owner) });
            message.extend([data.kind(), 1].into_iter().flat_map(u16::to_be_bytes));
            message.extend(ttl.to_be_bytes());
            let octets = data.octets();
            message.extend(u16::try_from(octets.len()).unwrap().to_be_bytes());
            message.extend(octets);
        }
        message
    }
}

fn labels(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets
}
