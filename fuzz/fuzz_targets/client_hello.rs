//! The first bytes of a connection: what names a site is a host name in its one spelling.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;
use wicketgate::domain::Hostname;

fuzz_target!(|bytes: &[u8]| {
    let (mut acceptor, mut rest) = (Acceptor::default(), bytes);
    while !rest.is_empty() {
        if !acceptor.read_tls(&mut rest).is_ok_and(|read| read > 0) {
            return;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let host = hello.server_name().and_then(|name| Hostname::normalize(name).ok());
                if let Some(host) = host {
                    assert_eq!(Hostname::normalize(host.as_str()).as_ref(), Ok(&host));
                }
                return;
            }
            Err(_) => return,
        }
    }
});
