//! Plans of a ceremony, and what is brought back from one: a plan that is read is written as it was, what
//! it leads to is taken, and nothing else is.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wicketgate::domain::Secret;
use wicketgate::pki::ceremony::Plan;
use wicketgate::pki::{AuthorityCertificate, keygen, pem};
use wicketgate_fuzz::sign;

static ROOT: LazyLock<(Secret<Vec<u8>>, Vec<u8>)> = LazyLock::new(keygen::generate_p256);

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(plan) = Plan::from_text(&text) else { return };
    assert_eq!(Plan::from_text(&plan.to_text().unwrap()).as_ref().ok(), Some(&plan));
    let (key, spki) = &*ROOT;
    let Ok(prepared) = plan.prepare_root(spki) else { return };
    let root = sign(prepared, key);
    assert_eq!(plan.take_root(root.der()).unwrap().der(), root.der());
    let root = AuthorityCertificate::from_der(root.der()).unwrap();
    if let Ok(Some(prepared)) = plan.prepare_issuing(&root) {
        let issuing = sign(prepared, key);
        assert_eq!(plan.take_issuing(&root, Some(issuing.der())).unwrap().as_ref(), Some(&issuing));
        assert!(plan.take_issuing(&root, None).is_err());
        assert!(plan.take_issuing(&root, Some(root.der())).is_err());
    }
    if let Ok(prepared) = plan.prepare_list(&root) {
        let signature = keygen::sign_p256(key.expose(), prepared.tbs()).unwrap();
        let list = prepared.assemble(&signature).unwrap();
        assert_eq!(plan.take_list(&root, list.der()).unwrap(), list);
        assert_eq!(pem::first_block(&list.pem(), &["X509 CRL"]).as_deref(), Some(list.der()));
    }
    for der in pem::blocks(&text, "X509 CRL") {
        let _ = plan.take_list(&root, &der);
    }
    for der in pem::blocks(&text, "CERTIFICATE") {
        let _ = plan.take_root(&der);
    }
});
