//! Where a shape is put, and the marks by which everything that belongs to it is found again.

use crate::edge::fixture::APP;

/// Octets of a smuggled request; shapes name them in decimal and hexadecimal.
pub(super) const SMUGGLED: usize = 100;

/// One shape in front of one backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The backend's name, and so its public path.
    pub(super) front: &'a str,
    pub(super) number: usize,
}

impl Place<'_> {
    /// A path of its own that everybody may ask for.
    pub(super) fn path(&self, what: &str) -> String {
        format!("/{}/{what}-{}", self.front, self.mark())
    }

    /// A request for it.
    pub(super) fn get(&self, what: &str, fields: &str) -> String {
        format!("GET {} HTTP/1.1\r\nHost: {APP}\r\n{fields}\r\n", self.path(what))
    }

    /// The request that shapes hide: for what only known people may see, or for what nobody asked for.
    pub(super) fn smuggled(&self, is_private: bool) -> String {
        let path = match is_private {
            true => format!("/{}-private/smuggled-{}", self.front, self.mark()),
            false => self.path("canary"),
        };
        let head = format!("GET {path} HTTP/1.1\r\nHost: {APP}\r\nX: ");
        let padding = "x".repeat(SMUGGLED - head.len() - 4);
        format!("{head}{padding}\r\n\r\n")
    }

    fn mark(&self) -> String {
        format!("n{:06}n", self.number)
    }
}

/// The numbers that are marked in `octets`, each with where its mark ends.
pub(super) fn marks(octets: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    octets.windows(8).enumerate().filter_map(|(at, window)| match window {
        [b'n', digits @ .., b'n'] if digits.iter().all(u8::is_ascii_digit) => {
            let number = digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
            Some((number, at + window.len()))
        }
        _ => None,
    })
}

/// The part of a target that tells it from all others, and the number in it.
pub(super) fn key(target: &str) -> Option<(&str, usize)> {
    let (number, end) = marks(target.as_bytes()).next()?;
    Some((&target[..end], number))
}

#[test]
fn a_mark_is_found_again() {
    let place = Place { front: "apache-node", number: 407 };
    for is_private in [true, false] {
        let smuggled = place.smuggled(is_private);
        assert_eq!(smuggled.len(), SMUGGLED);
        assert_eq!(marks(smuggled.as_bytes()).map(|(number, _)| number).collect::<Vec<_>>(), [407]);
    }
    assert_eq!(key(&(place.path("after") + "?x")), Some(("/apache-node/after-n000407n", 407)));
}
