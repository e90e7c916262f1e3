use super::*;

fn coding(accept: &[&'static str]) -> Option<Coding> {
    let mut request = Request::new(());
    for line in accept {
        request.headers_mut().append(ACCEPT_ENCODING, HeaderValue::from_static(line));
    }
    Asked::of(&request).coding
}

#[test]
fn the_visitor_chooses_by_weight() {
    use Coding::{Gzip, Zstd};
    let cases: &[(&[&'static str], Option<Coding>)] = &[
        (&[], None),
        (&[""], None),
        (&["identity"], None),
        (&["br, deflate"], None),
        (&["gzip"], Some(Gzip)),
        (&["GZIP, deflate"], Some(Gzip)),
        (&["x-gzip;q=0.1"], Some(Gzip)),
        (&["gzip, zstd"], Some(Zstd)),
        (&["gzip", "br, zstd"], Some(Zstd)),
        (&["gzip;q=1.0, zstd;q=0.999"], Some(Gzip)),
        (&["gzip;q=0, zstd;q=0.001"], Some(Zstd)),
        (&["gzip;q=0"], None),
        (&["*"], Some(Zstd)),
        (&["zstd;q=0, *;q=0.5"], Some(Gzip)),
        (&["*;q=0, gzip"], Some(Gzip)),
        (&["*;q=0"], None),
        (&["gzip;q=0.5, identity;q=0.6"], None),
        (&["gzip;q=0.5, identity;q=0.5"], Some(Gzip)),
        (&["gzip ; Q=0.5"], Some(Gzip)),
        (&["gzip;q=1.001"], None),
        (&["gzip;q=0.0001"], None),
        (&["gzip;q=-1"], None),
        (&["gzip;q=+1"], None),
        (&["gzip;q="], None),
        (&["gzip;level=9"], None),
        (&["gzip;q=1;q=0"], None),
    ];
    for (accept, chosen) in cases {
        assert_eq!(coding(accept), *chosen, "{accept:?}");
    }
}

#[test]
fn some_visitors_are_not_asked() {
    let mut request = Request::new(());
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    assert!(Asked::of(&request).coding.is_some());
    *request.version_mut() = Version::HTTP_10;
    assert_eq!(Asked::of(&request).coding, None);
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, No-Transform"));
    assert_eq!(Asked::of(&request).coding, None);
}

/// An answer of 2,000 octets of text with these lines, as it goes out to who takes gzip.
fn finished(status: u16, lines: &[(&'static str, &'static str)]) -> Response<AnswerBody> {
    let body = AnswerBody::page(vec![b'x'; 2_000].into());
    let mut response =
        Response::builder().status(status).header(CONTENT_TYPE, "text/plain").body(body).unwrap();
    for (name, value) in lines {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    let asked = Asked { coding: Some(Coding::Gzip), is_head: false };
    compress(response, asked, &Arc::new(Semaphore::new(1)))
}

fn is_compressed(status: u16, lines: &[(&'static str, &'static str)]) -> bool {
    finished(status, lines).headers().get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip")
}

#[test]
fn text_that_is_not_settled_is_compressed() {
    for kind in [
        "text/html; charset=utf-8",
        "Application/JSON",
        "application/problem+json",
        "image/svg+xml",
        "application/wasm",
        "text/css",
    ] {
        assert!(is_compressed(200, &[("content-type", kind)]), "{kind}");
    }
    for kind in ["image/png", "application/octet-stream", "text/event-stream", "application/grpc", "", "text"]
    {
        assert!(!is_compressed(200, &[("content-type", kind)]), "{kind}");
    }
    assert!(is_compressed(404, &[]) && is_compressed(200, &[("content-length", "1024")]));
    for status in [101, 204, 205, 206, 304] {
        assert!(!is_compressed(status, &[]), "{status}");
    }
    for line in [
        ("content-length", "1023"),
        ("content-encoding", "br"),
        ("content-encoding", "identity"),
        ("content-range", "bytes 0-1/2"),
        ("cache-control", "private, no-transform"),
        ("repr-digest", "sha-256=:AA==:"),
        ("content-md5", "AA=="),
    ] {
        assert!(!is_compressed(200, &[line]), "{line:?}");
    }
}

#[test]
fn caches_are_told() {
    let lines =
        [("etag", "\"1\""), ("content-length", "2000"), ("accept-ranges", "bytes"), ("vary", "Origin")];
    let answer = finished(200, &lines);
    let headers = answer.headers();
    assert_eq!(headers[ETAG], "W/\"1\"");
    assert!(!headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(ACCEPT_RANGES));
    assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["Origin", "Accept-Encoding"]);
    assert_eq!(finished(200, &[("etag", "W/\"1\"")]).headers()[ETAG], "W/\"1\"");
    assert!(!finished(200, &[("etag", "1")]).headers().contains_key(ETAG), "that is none");
    for vary in ["*", "accept-encoding", "Origin, Accept-Encoding"] {
        assert_eq!(finished(200, &[("vary", vary)]).headers().get_all(VARY).iter().count(), 1, "{vary}");
    }
    let unchanged = finished(304, &[("etag", "\"1\"")]);
    assert_eq!(unchanged.headers()[ETAG], "W/\"1\"");
    assert_eq!(unchanged.headers()[VARY], "Accept-Encoding");
    assert!(!finished(200, &[("content-type", "image/png")]).headers().contains_key(VARY));
}

#[test]
fn who_takes_nothing_and_who_asks_for_heads_get_it_as_it_is() {
    for (asked, tag) in
        [(Asked::default(), "\"1\""), (Asked { coding: Some(Coding::Zstd), is_head: true }, "W/\"1\"")]
    {
        let mut response = Response::new(AnswerBody::page(vec![b'x'; 2_000].into()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(ETAG, HeaderValue::from_static("\"1\""));
        let answer = compress(response, asked, &Arc::new(Semaphore::new(1)));
        assert!(!answer.headers().contains_key(CONTENT_ENCODING));
        assert_eq!(answer.headers()[VARY], "Accept-Encoding");
        assert_eq!(answer.headers()[ETAG], tag);
        assert_eq!(answer.body().size_hint().exact(), Some(2_000));
    }
}

#[test]
fn without_a_place_answers_go_out_as_they_are() {
    let room = Arc::new(Semaphore::new(1));
    let page = || {
        let mut response = Response::new(AnswerBody::page(vec![b'x'; 2_000].into()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        compress(response, Asked { coding: Some(Coding::Gzip), is_head: false }, &room)
    };
    let first = page();
    assert!(first.headers().contains_key(CONTENT_ENCODING));
    assert!(!page().headers().contains_key(CONTENT_ENCODING));
    drop(first);
    assert!(page().headers().contains_key(CONTENT_ENCODING));
}
