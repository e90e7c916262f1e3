//! Lets the crate compile without the web build: an empty folder stands in, and the pages say so.
//! A later web build makes cargo embed anew.

fn main() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web/dist");
    // A read-only source tree with the folder in it is fine; without it the embedding says what is missing.
    let _ = std::fs::create_dir_all(folder);
    println!("cargo::rerun-if-changed=web/dist");
}
