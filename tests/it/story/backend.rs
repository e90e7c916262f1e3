//! An app behind the gate: answers every request with what it saw of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

/// Starts it and says where it listens. Its threads end with the test process.
pub fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || converse(stream));
        }
    });
    format!("http://{address}")
}

fn converse(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some((answer, length)) = answer_to(&bytes) {
            bytes.drain(..length);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            if stream.write_all(format!("{head}{answer}").as_bytes()).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(octets @ 1..) => bytes.extend_from_slice(&buffer[..octets]),
            _ => return,
        }
    }
}

/// The answer to the first request in `bytes`, and how long that is; none until it has arrived whole.
fn answer_to(bytes: &[u8]) -> Option<(String, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes).unwrap() else { return None };
    let lines: Vec<[String; 2]> = request
        .headers
        .iter()
        .map(|line| [line.name.to_ascii_lowercase(), String::from_utf8_lossy(line.value).into_owned()])
        .collect();
    let length = lines.iter().find(|line| line[0] == "content-length");
    let body: usize = length.map_or(0, |line| line[1].parse().unwrap());
    let answer = json!({ "method": request.method, "path": request.path, "headers": lines });
    (bytes.len() >= head + body).then(|| (answer.to_string(), head + body))
}
