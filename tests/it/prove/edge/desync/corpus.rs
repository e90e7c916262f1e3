//! The shapes: every way to write a request so that two readers may disagree where it ends, or what it names.

mod frames;
mod framing;
mod heads;

use frames::Frames;
pub(super) use frames::is_over;

/// One shape. `<path>` stands for a public path of its own, `<smuggled>` for the request that it hides,
/// which takes [`super::place::SMUGGLED`] octets.
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) form: Form,
}

/// What is sent.
pub(super) enum Form {
    /// HTTP/1, where each character is the octet of its number.
    Octets(String),
    /// One HTTP/2 stream.
    Frames(Frames),
}

/// All of them, each under a name of its own.
pub(super) fn corpus() -> Vec<Shape> {
    framing::shapes().chain(heads::shapes()).chain(frames::shapes()).collect()
}

/// A shape of HTTP/1.
fn shape(name: impl Into<String>, octets: impl Into<String>) -> Shape {
    Shape { name: name.into(), form: Form::Octets(octets.into()) }
}

/// A `POST` with these fields and whatever follows them.
fn post(fields: &str, behind: &str) -> String {
    format!("POST <path> HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n\r\n{behind}")
}

/// The octets of `template`, with its places filled.
pub(super) fn octets(template: &str, path: &str, smuggled: &str) -> Vec<u8> {
    let filled = template.replace("<path>", path).replace("<smuggled>", smuggled);
    filled.chars().map(|octet| u8::try_from(octet).unwrap()).collect()
}

/// A body of one chunk that holds the smuggled request.
const CHUNKED: &str = "64\r\n<smuggled>\r\n0\r\n\r\n";
/// A chunked body of nothing, and the smuggled request behind it: 105 octets.
const ENDED: &str = "0\r\n\r\n<smuggled>";

#[test]
fn there_are_hundreds_of_shapes_and_each_has_a_name_of_its_own() {
    let shapes = corpus();
    let names: std::collections::BTreeSet<_> = shapes.iter().map(|shape| &shape.name).collect();
    assert_eq!(names.len(), shapes.len());
    let over_http_1 = shapes.iter().filter(|shape| matches!(shape.form, Form::Octets(_))).count();
    assert!(over_http_1 >= 200, "{over_http_1}");
}
