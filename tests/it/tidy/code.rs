//! Rust source without its comments, strings and tests, so that rules read code only.

/// The text with the contents of comments and literals blanked; lines stay where they are.
pub fn only_code(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut blank = vec![false; source.len()];
    let mut at = 0;
    while at < source.len() {
        let end = match source[at] {
            '/' if source.get(at + 1) == Some(&'/') => find(&source, at, |i| source[i] == '\n'),
            '/' if source.get(at + 1) == Some(&'*') => block_comment(&source, at),
            '"' => string(&source, at + 1),
            'r' if is_raw_string(&source, at) => raw_string(&source, at + 1),
            '\'' => character(&source, at),
            _ => at,
        };
        blank[at..end].fill(true);
        at = end.max(at + 1);
    }
    source.iter().zip(blank).map(|(c, hidden)| if hidden && *c != '\n' { ' ' } else { *c }).collect()
}

/// What stands before an inline test module: tests may look across rooms.
pub fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code)
}

/// The words of the code: runs of letters, digits and `_`.
pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

fn find(source: &[char], from: usize, stop: impl Fn(usize) -> bool) -> usize {
    (from..source.len()).find(|i| stop(*i)).unwrap_or(source.len())
}

fn block_comment(source: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < source.len() {
        match (source[at], source.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    source.len()
}

fn string(source: &[char], mut at: usize) -> usize {
    while at < source.len() {
        match source[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    source.len()
}

fn is_raw_string(source: &[char], at: usize) -> bool {
    let follows_a_word = at > 0 && (source[at - 1].is_alphanumeric() || source[at - 1] == '_');
    let byte_raw = at > 0 && source[at - 1] == 'b' && (at < 2 || !source[at - 2].is_alphanumeric());
    let quote = find(source, at + 1, |i| source[i] != '#');
    (!follows_a_word || byte_raw) && source.get(quote) == Some(&'"')
}

fn raw_string(source: &[char], hashes_from: usize) -> usize {
    let quote = find(source, hashes_from, |i| source[i] == '"');
    let hashes = quote - hashes_from;
    let closes = |i: usize| source[i] == '"' && (1..=hashes).all(|k| source.get(i + k) == Some(&'#'));
    (find(source, quote + 1, closes) + hashes + 1).min(source.len())
}

/// A character literal; a lifetime is left as it is.
fn character(source: &[char], at: usize) -> usize {
    match (source.get(at + 1), source.get(at + 2)) {
        (Some('\\'), _) => (find(source, at + 3, |i| source[i] == '\'') + 1).min(source.len()),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

#[test]
fn comments_and_literals_are_blanked_and_code_stays() {
    let source = "a /* b /* c */ d */ e // f\n\"g \\\" h\" 'i' '\\'' &'j k r#\"l \" m\"# n";
    let words: Vec<_> = only_code(source).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["a", "e", "&'j", "k", "n"]);
}
