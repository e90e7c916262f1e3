//! RFC 9112 read by the letter. Nothing is guessed: what is not exactly right is a fault, and so is what a
//! careless reader could take for something else.

/// A whole request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) method: String,
    pub(super) target: String,
    /// Octets of its body, without their framing.
    pub(super) body: usize,
    /// Whether it asks for another protocol.
    pub(super) is_upgrade: bool,
    /// Where it ends in what was read.
    pub(super) end: usize,
}

/// What follows the last whole request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// A head that does not end.
    Head,
    /// A body that does not end, of the request with this target.
    Body(String),
    /// No request, and why.
    Fault(String),
}

/// The requests in `octets`, and what follows them.
pub(super) fn read(octets: &[u8]) -> (Vec<Message>, Rest) {
    let mut messages = Vec::<Message>::new();
    loop {
        let start = messages.last().map_or(0, |message| message.end);
        if start == octets.len() {
            return (messages, Rest::Nothing);
        }
        match message(&octets[start..]) {
            Ok(mut message) => {
                message.end += start;
                messages.push(message);
            }
            Err(rest) => return (messages, rest),
        }
    }
}

/// Where `needle` begins.
pub(super) fn find(octets: &[u8], needle: &[u8]) -> Option<usize> {
    octets.windows(needle.len()).position(|window| window == needle)
}

fn message(octets: &[u8]) -> Result<Message, Rest> {
    let start = find(octets, b"\r\n\r\n").ok_or(Rest::Head)? + 4;
    let head = Head::read(&octets[..start - 4]).map_err(Rest::Fault)?;
    let behind = &octets[start..];
    let whole = match head.framing {
        Framing::Length(length) => (behind.len() >= length).then_some((length, length)),
        Framing::Chunked => chunks(behind).map_err(Rest::Fault)?,
    };
    let Head { method, target, is_upgrade, .. } = head;
    match whole {
        Some((body, used)) => Ok(Message { method, target, body, is_upgrade, end: start + used }),
        None => Err(Rest::Body(target)),
    }
}

struct Head {
    method: String,
    target: String,
    framing: Framing,
    is_upgrade: bool,
}

enum Framing {
    Length(usize),
    Chunked,
}

impl Head {
    fn read(octets: &[u8]) -> Result<Self, String> {
        let is_text = |octet: &u8| matches!(octet, b'\t' | b' '..=b'~' | 0x80..);
        let mut lines = lines(octets).into_iter();
        let (method, target) = request_line(lines.next().unwrap_or_default())?;
        let mut fields = Vec::new();
        for line in lines {
            if !line.iter().all(is_text) {
                return Err(format!("a control octet in {:?}", String::from_utf8_lossy(line)));
            }
            fields.push(field(line)?);
        }
        let values = |name: &str| -> Vec<&[u8]> {
            fields.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect()
        };
        match values("host").as_slice() {
            [host] if is_authority(host) => {}
            hosts => return Err(format!("{} Hosts, or one that is none", hosts.len())),
        }
        let framing = match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
            ([], []) => Framing::Length(0),
            ([length], []) => Framing::Length(number(length, 10)?),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
            (lengths, codings) => {
                return Err(format!("{} lengths and {} transfer codings", lengths.len(), codings.len()));
            }
        };
        Ok(Self { method, target, framing, is_upgrade: !values("upgrade").is_empty() })
    }
}

fn lines(octets: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut lines) = (octets, Vec::new());
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

/// Method and target, which has to be a path.
fn request_line(line: &[u8]) -> Result<(String, String), String> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let is_visible = |octet: &u8| matches!(octet, b'!'..=b'~' | 0x80..) && *octet != b'#';
    match line.split(|octet| *octet == b' ').collect::<Vec<_>>().as_slice() {
        [method, target, b"HTTP/1.1"]
            if is_token(method) && target.starts_with(b"/") && target.iter().all(is_visible) =>
        {
            Ok((text(method), text(target)))
        }
        _ => Err(format!("{:?} is no request line", text(line))),
    }
}

/// Names that decide where a request ends or goes.
const DECISIVE: [&str; 3] = ["content-length", "transfer-encoding", "host"];

/// A field's name in lower case, and its value.
fn field(line: &[u8]) -> Result<(String, &[u8]), String> {
    let text = || String::from_utf8_lossy(line).into_owned();
    let colon = line.iter().position(|octet| *octet == b':').ok_or_else(text)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if !is_token(name) {
        return Err(format!("{:?} is no field", text()));
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    // As CGI and its heirs see it.
    let folded: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if folded != name && DECISIVE.contains(&folded.as_str()) {
        return Err(format!("{name} may be taken for {folded}"));
    }
    Ok((name, value))
}

/// RFC 9110 §5.6.2.
fn is_token(octets: &[u8]) -> bool {
    let is_part = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet);
    !octets.is_empty() && octets.iter().all(is_part)
}

fn is_authority(octets: &[u8]) -> bool {
    let is_part = |octet: &u8| octet.is_ascii_alphanumeric() || b"-.:".contains(octet);
    !octets.is_empty() && octets.iter().all(is_part)
}

/// Digits and nothing else.
fn number(octets: &[u8], radix: u32) -> Result<usize, String> {
    let text = String::from_utf8_lossy(octets);
    let number = usize::from_str_radix(&text, radix).ok();
    // Rust would take a sign.
    let number = number.filter(|_| text.chars().all(|digit| digit.is_digit(radix)));
    number.ok_or_else(|| format!("{text:?} is no number"))
}

/// How long the body is, and how many octets it takes here; none while it is not all there. Extensions and
/// trailers are faults: the edge has none to send.
fn chunks(octets: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let (mut body, mut at) = (0, 0);
    while let Some(line) = find(&octets[at..], b"\r\n") {
        let size = number(&octets[at..at + line], 16)?;
        let end = (at + line + 2).saturating_add(size);
        match octets.get(end..end.saturating_add(2)) {
            None => return Ok(None),
            Some(b"\r\n") => at = end + 2,
            Some(_) => return Err("a chunk that does not end where it says".to_owned()),
        }
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body += size;
    }
    Ok(None)
}

#[test]
fn what_is_right_is_read_and_nothing_else() {
    let whole = b"POST /a?b HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc\
        PUT /c HTTP/1.1\r\nHost: a.test:443\r\ntransfer-encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n\
        GET /d HTTP/1.1\r\nhost: a.test\r\nupgrade: websocket\r\n\r\n";
    let (messages, rest) = read(whole);
    let seen: Vec<_> = messages.iter().map(|m| (&*m.method, &*m.target, m.body, m.is_upgrade)).collect();
    assert_eq!(seen, [("POST", "/a?b", 3, false), ("PUT", "/c", 10, false), ("GET", "/d", 0, true)]);
    assert_eq!((messages[2].end, rest), (whole.len(), Rest::Nothing));
    for (octets, rest) in [
        (&b"GET /a HTTP/1.1\r\nhost: a"[..], Rest::Head),
        (b"PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab", Rest::Body("/a".into())),
        (
            b"PUT /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Rest::Body("/a".into()),
        ),
    ] {
        assert_eq!(read(octets), (Vec::new(), rest));
    }
}

#[test]
fn everything_that_others_may_read_otherwise_is_a_fault() {
    let of_fields = [
        "x: y\r\nhost : b",
        "x: y\r\n z",
        "x: y\nz: a",
        "x: y\rz: a",
        "x: \0",
        "x",
        ": y",
        "host: b",
        "content-length: 0\r\ncontent-length: 0",
        "content-length: +0",
        "content-length: ",
        "content-length: 0\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: identity",
        "content_length: 0",
    ];
    let of_chunks =
        ["+1\r\na\r\n0\r\n\r\n", "1;x\r\na\r\n0\r\n\r\n", "1\r\nab\r\n0\r\n\r\n", "0\r\nx: y\r\n\r\n"];
    let of_lines = ["GET /a HTTP/1.0", "GET  /a HTTP/1.1", "GET a HTTP/1.1", "\r\nGET /a HTTP/1.1", "GET /a"];
    let with_fields = of_fields.map(|fields| format!("GET /a HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n"));
    let with_chunks = of_chunks
        .map(|chunks| format!("PUT /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
    let with_line = of_lines.map(|line| format!("{line}\r\nhost: a\r\n\r\n"));
    for text in with_fields.iter().chain(&with_chunks).chain(&with_line) {
        let (messages, rest) = read(text.as_bytes());
        assert!(messages.is_empty() && matches!(rest, Rest::Fault(_)), "{text:?}: {rest:?}");
    }
}
