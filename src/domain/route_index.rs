//! Which routes a path may belong to at all: a tree of the segments of their prefixes, each folded as the most
//! careless reader would. It decides nothing; it leaves out what no reading of a path leads to, so that ten
//! thousand routes cost what ten do.

use std::borrow::Cow;
use std::collections::HashMap;

use percent_encoding::percent_decode_str;

/// The prefixes of one site's routes.
#[derive(Clone, Debug, Default)]
pub struct RouteIndex {
    root: Node,
    /// How many there are.
    len: usize,
    /// Octets of the longest.
    longest: usize,
}

/// How many octets may be taken for one, at most, by who does not tell letter case apart: either case makes one
/// into three, or three into one.
pub const MOST_FOLDED: usize = 9;

/// Up to so many routes are looked at one by one.
const FEW: usize = 4;

#[derive(Clone, Debug, Default)]
struct Node {
    /// The places of those that end here.
    routes: Vec<usize>,
    below: HashMap<Box<str>, Node>,
}

impl RouteIndex {
    /// Of `prefixes` (`/` or `/a/b`), by their places.
    pub fn of<'p>(prefixes: impl IntoIterator<Item = &'p str>) -> Self {
        let mut index = Self::default();
        for (place, prefix) in prefixes.into_iter().enumerate() {
            index.len = place + 1;
            index.longest = index.longest.max(prefix.len());
            let mut node = &mut index.root;
            for segment in prefix.split('/').filter(|segment| !segment.is_empty()) {
                // What is no text covers no path; where it stands is of no matter.
                let name = percent_decode_str(segment).decode_utf8_lossy();
                node = node.below.entry(fold(&name).into()).or_default();
            }
            node.routes.push(place);
        }
        index
    }

    /// The places, in order, of all routes whose prefix some reader may find in a path; `None` where there are
    /// so few that looking costs more than it saves. `names` says what the segment at a place may be taken for.
    pub fn candidates<'n, N>(&self, depth: usize, names: impl Fn(usize) -> N) -> Option<Vec<usize>>
    where
        N: Iterator<Item = &'n str>,
    {
        if self.len <= FEW {
            return None;
        }
        let mut found = self.root.routes.clone();
        let mut level = vec![&self.root];
        for at in 0..depth {
            let mut folded: Vec<Cow<'_, str>> = Vec::with_capacity(1);
            // What is longer is in no prefix, and not worth folding.
            let may_be = |name: &&str| name.len() <= MOST_FOLDED * self.longest;
            for name in names(at).filter(may_be).map(fold) {
                if !folded.contains(&name) {
                    folded.push(name);
                }
            }
            level = level
                .iter()
                .flat_map(|node| folded.iter().filter_map(|name| node.below.get(&**name)))
                .inspect(|node| found.extend_from_slice(&node.routes))
                .collect();
            if level.is_empty() {
                break;
            }
        }
        found.sort_unstable();
        Some(found)
    }
}

/// One text for all that may be taken for each other by who does not tell letter case apart: whatever is equal in
/// lower case, or in upper case, is equal here.
fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase()) {
        return Cow::Borrowed(name);
    }
    if name.is_ascii() {
        return Cow::Owned(name.to_ascii_uppercase());
    }
    Cow::Owned(name.to_lowercase().to_uppercase().to_lowercase().to_uppercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(prefixes: &[&str], path: &[&str]) -> Vec<usize> {
        RouteIndex::of(prefixes.iter().copied())
            .candidates(path.len(), |at| path.get(at).copied().into_iter())
            .unwrap()
    }

    #[test]
    fn only_what_some_reader_finds_in_the_path_is_left() {
        let prefixes = ["/public/admin", "/public", "/Mixed", "/a%20b", "/twin", "/TWIN", "/"];
        for (path, expected) in [
            (&["public", "x"][..], &[1, 6][..]),
            (&["PUBLIC", "Admin", "x"], &[0, 1, 6]),
            (&["mixed"], &[2, 6]),
            (&["a b"], &[3, 6]),
            (&["twin", ""], &[4, 5, 6]),
            (&["tw\u{131}n"], &[4, 5, 6]),
            (&["nothing"], &[6]),
            (&[], &[6]),
        ] {
            assert_eq!(candidates(&prefixes, path), expected, "{path:?}");
        }
    }

    /// Folding is made of letters' cases one by one (but for the final sigma, which upper case undoes), so what
    /// holds for every letter holds for every text.
    #[test]
    fn what_is_equal_in_either_case_is_equal_when_folded() {
        for letter in '\0'..=char::MAX {
            let text = letter.to_string();
            let of_upper = text.to_uppercase().to_lowercase().to_uppercase();
            assert_eq!(
                text.to_lowercase().to_uppercase().to_lowercase().to_uppercase(),
                of_upper,
                "{letter:?}"
            );
            if letter.is_ascii() {
                assert_eq!(fold(&text), of_upper);
            }
            for other in [text.to_lowercase(), text.to_uppercase(), fold(&text).into_owned()] {
                assert!(other.len() <= 3 * text.len() && text.len() <= 3 * other.len(), "{letter:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn texts_that_differ_in_case_alone_fold_to_one(text in any::<String>()) {
            for other in [text.to_lowercase(), text.to_uppercase(), text.to_ascii_uppercase()] {
                prop_assert_eq!(fold(&text), fold(&other));
            }
        }
    }
}
