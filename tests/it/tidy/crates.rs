//! One TLS stack, one provider, one runtime. Asks cargo what is really built: the lock file also names
//! crates behind features that nobody turns on.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates that bring a second TLS, crypto or HTTP stack.
const BANNED: &[&str] =
    &["ring", "openssl", "openssl-sys", "native-tls", "tokio-native-tls", "reqwest", "async-std", "rsa"];

/// Crates of which two generations would be two stacks.
const SINGLE: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "h2",
    "http",
    "hyper",
    "hyper-util",
    "rustls",
    "rustls-webpki",
    "sea-orm",
    "sqlx-core",
    "tokio",
    "tokio-rustls",
    "tracing",
    "tracing-subscriber",
];

/// What is wrong with a list of `name vVERSION …` lines.
fn faults(tree: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        if let [name, version, ..] = line.split_whitespace().collect::<Vec<_>>()[..] {
            versions.entry(name).or_default().insert(version);
        }
    }
    let banned =
        BANNED.iter().filter(|name| versions.contains_key(*name)).map(|name| format!("{name} is banned"));
    let counted = SINGLE.iter().filter_map(|name| match versions.get(name) {
        None => Some(format!("{name} is gone: take it off the list")),
        Some(found) if found.len() > 1 => Some(format!("{name} in several versions: {found:?}")),
        Some(_) => None,
    });
    banned.chain(counted).collect()
}

#[test]
fn what_is_built_holds_one_stack() {
    let root = env!("CARGO_MANIFEST_DIR");
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--edges",
            "normal,build,dev",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    assert_eq!(faults(&String::from_utf8(tree.stdout).unwrap()), Vec::<String>::new());
}

#[test]
fn a_second_stack_is_noticed() {
    let one_each: String = SINGLE.iter().map(|name| format!("{name} v1.0.0\n")).collect();
    assert_eq!(faults(&one_each), Vec::<String>::new());
    let seeded = format!("{one_each}hyper v0.14.0 (*)\nring v0.17.0\n");
    assert_eq!(faults(&seeded), ["ring is banned", "hyper in several versions: {\"v0.14.0\", \"v1.0.0\"}"]);
}
