//! OCSP at the edge, over kept connections in the clear: answers that are kept, and answers with a nonce,
//! each of which is signed.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use wicketgate::domain::Serial;
use wicketgate::pki::AuthorityCertificate;

use super::client::Connection;
use super::harness::ocsp::question;
use super::house::House;
use super::load::{self, Sample};
use super::report::{Measured, Report};

/// Certificates that are asked about.
const CERTIFICATES: usize = 1_000;
/// Questions in a round.
const CACHED: usize = 20_000;
const WITH_NONCE: usize = 5_000;
/// Answers that are looked into.
const LOOKED_INTO: usize = 100;

/// What a house says of the certificates that it has issued.
#[derive(Serialize, Deserialize)]
pub(crate) struct Issued {
    /// Where the edge answers.
    pub(crate) edge: u16,
    /// Who issued them, DER.
    pub(crate) issuer: Vec<u8>,
    pub(crate) serials: Vec<String>,
}

pub(crate) fn measure(runtime: &Runtime, report: &mut Report, house: &House) -> Result<()> {
    let issued: Issued = house.ask(&format!("issued {CERTIFICATES}"))?;
    let issuer = AuthorityCertificate::from_der(&issued.issuer)?;
    let serials: Vec<Serial> =
        issued.serials.iter().map(|serial| serial.parse()).collect::<Result<_, _>>()?;
    if serials.is_empty() {
        bail!("nothing was issued");
    }
    let plain: Vec<Vec<u8>> = serials.iter().map(|serial| question(&issuer, *serial, None)).collect();
    let with_nonce: Vec<Vec<u8>> = (0..WITH_NONCE)
        .map(|number| {
            let nonce = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &number.to_be_bytes());
            question(&issuer, serials[number % serials.len()], Some(nonce.as_ref()))
        })
        .collect();
    // Every kept answer is there before.
    let warm = runtime.block_on(ask(issued.edge, &plain, plain.len()))?;
    if warm.errors > 0 {
        bail!("{} questions were not answered", warm.errors);
    }
    let of = |measured: fn(String) -> Measured| measured(house.name.clone());
    for (what, questions, count, measured) in [
        ("kept", &plain, CACHED, of(Measured::OcspKept)),
        ("with nonce", &with_nonce, WITH_NONCE, of(Measured::OcspWithNonce)),
    ] {
        let before = house.cpu_seconds()?;
        let mut sample = runtime.block_on(ask(issued.edge, questions, count))?;
        sample.cpu_seconds = house.cpu_seconds()? - before;
        eprintln!(
            "{}: {:.0} OCSP answers/s {what}, {:.3} CPU s per 1,000, p99 {:.1} ms, {} errors",
            house.name,
            sample.per_second(),
            sample.cpu_per_1000(),
            sample.percentile(99.0),
            sample.errors
        );
        report.add(measured, sample);
    }
    runtime.block_on(look_into(issued.edge, &with_nonce))
}

/// Asks over sixteen connections.
async fn ask(port: u16, questions: &[Vec<u8>], count: usize) -> Result<Sample> {
    let questions: std::sync::Arc<[Bytes]> = questions.iter().cloned().map(Bytes::from).collect();
    let address = ([127, 0, 0, 1], port).into();
    let mut workers = Vec::new();
    for _ in 0..super::CLIENTS {
        let connection =
            std::sync::Arc::new(tokio::sync::Mutex::new(Connection::in_the_clear(address).await?));
        let questions = questions.clone();
        workers.push(move |index: usize| {
            let (connection, questions) = (connection.clone(), questions.clone());
            async move {
                let request = post(questions[index % questions.len()].clone())?;
                let answer = connection.lock().await.exchange(request, 200).await?;
                // OCSPResponse: SEQUENCE, then responseStatus successful (RFC 6960 §4.2.1).
                match answer.windows(3).take(8).any(|octets| octets == [0x0a, 1, 0]) {
                    true => Ok(()),
                    false => bail!("no successful answer"),
                }
            }
        });
    }
    Ok(load::run(count, workers).await)
}

/// An answer with a nonce repeats it.
async fn look_into(port: u16, questions: &[Vec<u8>]) -> Result<()> {
    let mut connection = Connection::in_the_clear(([127, 0, 0, 1], port).into()).await?;
    for question in questions.iter().take(LOOKED_INTO) {
        let nonce = question.last_chunk::<32>().context("a nonce at the end")?;
        let answer = connection.exchange(post(Bytes::from(question.clone()))?, 200).await?;
        if !answer.windows(nonce.len()).any(|octets| octets == nonce) {
            bail!("an answer without the nonce of its question");
        }
    }
    Ok(())
}

fn post(question: Bytes) -> Result<Request<Full<Bytes>>> {
    let request = Request::post("/pki/ocsp").header("host", "pki.example.com");
    let request = request.header("content-type", "application/ocsp-request");
    request.body(Full::new(question)).context("a request")
}
