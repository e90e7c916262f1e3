//! Takes out of a finished log line what must not be there. The last of three nets: secrets are redacting
//! types, nobody logs them, and what slips through both is caught here.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// A field whose name ends in one of these is a secret, whatever it holds.
const SECRET_ENDINGS: &[&str] = &[
    "authorization",
    "cookie",
    "csr",
    "email",
    "mail_address",
    "passphrase",
    "password",
    "pkcs12",
    "private_key",
    "recipient",
    "secret",
    "server_key",
    "authority_key",
    "token",
];

/// Text that is followed by a secret: up to the next character that no token has.
const SECRET_MARKS: &[&str] = &["wkt_", "Bearer ", "#/invitation/", "__Host-session=", "setup/"];

/// Whether a field of this name is left out. `smtp.password` is, `token.id` is not.
pub fn is_secret_field(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    SECRET_ENDINGS.iter().any(|ending| last.len() >= ending.len() && last.ends_with(ending))
}

/// The text without mail addresses, tokens, PEM blocks and passwords in URLs.
pub fn redact(text: &str) -> Cow<'_, str> {
    let suspicious = text.contains('@')
        || text.contains("-----BEGIN")
        || SECRET_MARKS.iter().any(|mark| text.contains(mark));
    if !suspicious {
        return Cow::Borrowed(text);
    }
    let mut text = without_pem(text);
    for mark in SECRET_MARKS {
        text = without_marked(&text, mark);
    }
    Cow::Owned(without_addresses(&text))
}

/// A flat JSON object with secret fields and texts redacted; of fields with one name, the first stays.
/// What is no flat object is redacted as text.
pub fn redact_json(line: &str) -> String {
    redact_object(line).unwrap_or_else(|| redact(line).into_owned())
}

fn redact_object(line: &str) -> Option<String> {
    let mut rest = line.strip_prefix('{')?;
    let mut out = String::with_capacity(line.len());
    let mut seen: Vec<&str> = Vec::with_capacity(24);
    out.push('{');
    while !rest.starts_with('}') {
        let (name, after) = json_text(rest)?;
        let (value, after) = json_value(after.strip_prefix(':')?)?;
        rest = after.strip_prefix(',').unwrap_or(after);
        if seen.contains(&name) {
            continue;
        }
        if !seen.is_empty() {
            out.push(',');
        }
        seen.push(name);
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        if is_secret_field(name) {
            out.push('"');
            out.push_str(REDACTED);
            out.push('"');
        } else {
            out.push_str(&redact(value));
        }
    }
    out.push_str(rest);
    Some(out)
}

/// What is between the quotes, still escaped, and what follows them.
fn json_text(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    Some((&inner[..end], &inner[end + 1..]))
}

/// One value as it stands, and what follows it. Arrays and objects end this: they are not flat.
fn json_value(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('"') {
        let (inner, after) = json_text(text)?;
        return Some((&text[..inner.len() + 2], after));
    }
    if text.starts_with(['[', '{']) {
        return None;
    }
    let end = text.find([',', '}'])?;
    Some(text.split_at(end))
}

fn without_pem(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, block)) = rest.split_once("-----BEGIN") {
        out.push_str(before);
        out.push_str(REDACTED);
        let after = block.split_once("-----END").map_or("", |(_, after)| after);
        rest = after.split_once("-----").map_or("", |(_, after)| after);
    }
    out + rest
}

fn without_marked(text: &str, mark: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(mark) {
        let (before, secret) = rest.split_at(at + mark.len());
        out.push_str(before);
        let end = secret.find(|c: char| !is_token(c)).unwrap_or(secret.len());
        if end > 0 {
            out.push_str(REDACTED);
        }
        rest = &secret[end..];
    }
    out + rest
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/=_".contains(c)
}

/// Mail addresses, and `user:password` in front of the `@` of a URL.
fn without_addresses(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let local = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.:".contains(c);
        let from = rest[..at]
            .rfind(|c: char| !local(c))
            .map_or(0, |i| i + rest[i..].chars().next().map_or(1, char::len_utf8));
        let host = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
        let after = &rest[at + 1..];
        let to = after.find(|c: char| !host(c)).unwrap_or(after.len());
        if from == at || to == 0 {
            out.push_str(&rest[..=at]);
            rest = after;
            continue;
        }
        let name = &rest[from..at];
        match name.rsplit_once("://") {
            // The host of a URL is of use; who signs in there, and how, is not.
            Some((scheme, _)) => {
                out.push_str(&rest[..from]);
                out.push_str(scheme);
                out.push_str("://");
                out.push_str(REDACTED);
                out.push('@');
                out.push_str(&after[..to]);
            }
            None => {
                out.push_str(&rest[..from]);
                out.push_str(REDACTED);
            }
        }
        rest = &after[to..];
    }
    out + rest
}

/// How the lines of a writer look, so that they are read rightly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// One JSON object a line.
    Json,
    /// Text.
    Text,
}

/// Redacts each write before it reaches the writer inside. Formatters write a line at a time.
#[derive(Clone, Debug)]
pub struct Redacting<W> {
    inner: W,
    kind: LineKind,
}

impl<W> Redacting<W> {
    /// Puts the net in front of `inner`.
    pub fn new(inner: W, kind: LineKind) -> Self {
        Self { inner, kind }
    }
}

impl<W: Write> Write for Redacting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        match self.kind {
            LineKind::Json => self.inner.write_all(redact_json(&text).as_bytes())?,
            LineKind::Text => self.inner.write_all(redact(&text).as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacting<M> {
    type Writer = Redacting<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Redacting { inner: self.inner.make_writer(), kind: self.kind }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_in_running_text_are_taken_out() {
        for (text, shown) in [
            ("nothing to hide", "nothing to hide"),
            ("mail to anna.b+x@example.com failed", "mail to [redacted] failed"),
            ("<anna@example.com>,<bob@b.example>", "<[redacted]>,<[redacted]>"),
            ("postgres://w:p4ss@db.example/w", "postgres://[redacted]@db.example/w"),
            ("got wkt_abcDEF123 today", "got wkt_[redacted] today"),
            ("Authorization: Bearer abc.def-1 x", "Authorization: Bearer [redacted] x"),
            ("https://d.example/#/invitation/AbC_-9", "https://d.example/#/invitation/[redacted]"),
            ("a -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- b", "a [redacted] b"),
            ("cut off -----BEGIN PRIVATE KEY-----\nMII", "cut off [redacted]"),
            ("user @ host, @home, x@", "user @ host, @home, x@"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn secret_fields_go_by_their_name() {
        for name in ["password", "smtp.password", "api_token", "person.email", "set_cookie", "csr"] {
            assert!(is_secret_field(name), "{name}");
        }
        for name in ["token.id", "key", "cert.serial", "status", "msg"] {
            assert!(!is_secret_field(name), "{name}");
        }
    }

    #[test]
    fn json_lines_stay_json_and_lose_secrets_and_repetitions() {
        let line = r#"{"msg":"to a@b.example","n":1,"password":"x\"y","n":2,"ok":true,"none":null}"#;
        let line = format!("{line}\n");
        assert_eq!(
            redact_json(&line),
            "{\"msg\":\"to [redacted]\",\"n\":1,\"password\":\"[redacted]\",\"ok\":true,\"none\":null}\n"
        );
        assert_eq!(redact_json("{\"a\":[\"wkt_x\"]}"), "{\"a\":[\"wkt_[redacted]\"]}");
    }

    proptest! {
        #[test]
        fn any_flat_object_stays_an_object(
            fields in prop::collection::btree_map("[a-z.]{1,8}", "\\PC{0,30}", 0..6), number in any::<i64>()
        ) {
            let mut object: serde_json::Map<String, serde_json::Value> =
                fields.into_iter().map(|(name, text)| (name, text.into())).collect();
            object.insert("n".into(), number.into());
            let line = serde_json::to_string(&object).unwrap();
            let read: serde_json::Value = serde_json::from_str(&redact_json(&line)).unwrap();
            prop_assert_eq!(&read["n"], &serde_json::Value::from(number));
            prop_assert_eq!(read.as_object().unwrap().len(), object.len());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = (redact(&text), redact_json(&text), redact_json(&format!("{{{text}")));
        }
    }
}
