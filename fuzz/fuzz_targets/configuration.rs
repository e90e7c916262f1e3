//! The configuration file and the environment over it: any text is a configuration or a list of faults.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::config::{Config, Environment};
use wicketgate::live::configuration::{Place, parse_target};

fuzz_target!(|text: &str| {
    // Lines that begin with WICKETGATE_ are the environment.
    let mut environment = Environment::new();
    let mut file = String::new();
    for line in text.lines() {
        match line.split_once('=').filter(|_| line.starts_with("WICKETGATE_")) {
            // What a path names would be read.
            Some((name, _)) if name.to_ascii_uppercase().ends_with("_FILE") => {}
            Some((name, value)) => drop(environment.insert(name.trim().to_owned(), value.to_owned())),
            None if line.contains("_file") => {}
            None => file.extend([line, "\n"]),
        }
    }
    if let Err(faults) = Config::parse(&file, &environment) {
        assert!(!faults.0.is_empty());
        assert!(!faults.to_string().is_empty());
    }
    let first = text.lines().next().unwrap_or_default();
    if let Ok(target) = parse_target(first) {
        let authority = target.authority.to_str().unwrap();
        let again = match &target.place {
            Place::Tcp { host, .. } => {
                assert!(!host.is_empty());
                let scheme = if target.tls_name.is_some() { "https" } else { "http" };
                parse_target(&format!("{scheme}://{authority}")).unwrap()
            }
            Place::Unix(path) => parse_target(&format!("unix:{}", path.display())).unwrap(),
        };
        assert_eq!((again.place, again.tls_name), (target.place, target.tls_name));
    }
});
