use super::*;
use crate::pki::fixtures::{END, START, serial};
use crate::pki::keygen;

fn plan(spki: &[u8]) -> Plan {
    let root = RootPlan {
        name: "client-root-g1".parse().unwrap(),
        common_name: "Test Client Root G1".to_owned(),
        serial: serial(1),
        not_before: START,
        not_after: END,
        key: KeyChoice::P256,
        path_length: ROOT_PATH_LEN,
        certificate_sha256: None,
    };
    let issuing = IssuingPlan {
        name: "client-issuing-g1".parse().unwrap(),
        common_name: "Test Client Issuing G1".to_owned(),
        serial: serial(2),
        not_before: START,
        not_after: END,
        path_length: ISSUING_PATH_LEN,
        public_key: STANDARD.encode(spki),
        public_key_sha256: Fingerprint::of(spki).to_string(),
        crl_url: "http://localhost/pki/client-root-g1.crl".to_owned(),
        issuer_url: "http://localhost/pki/client-root-g1.cer".to_owned(),
    };
    let list = ListPlan { number: 1, this_update: START, next_update: END, revoked: Vec::new() };
    Plan::new("Test".to_owned(), START, root, Some(issuing), list)
}

#[test]
fn a_plan_reads_back_as_it_was_written_and_a_changed_key_is_noticed() {
    let plan = plan(&keygen::generate_p256().1);
    let text = plan.to_text().unwrap();
    assert_eq!(Plan::from_text(&text).unwrap(), plan);
    let digest = &plan.issuing.as_ref().unwrap().public_key_sha256;
    let changed = text.replace(digest.as_str(), &Plan::sha256("another"));
    assert!(matches!(Plan::from_text(&changed), Err(CeremonyError::PublicKey)));
    let unknown = format!("extra = 1\n{text}");
    assert!(matches!(Plan::from_text(&unknown), Err(CeremonyError::Plan(_))));
    let deep = text.replace("path_length = 0", "path_length = 1");
    assert!(matches!(Plan::from_text(&deep), Err(CeremonyError::Plan(_))));
    let newer = text.replace("format = 1", "format = 2");
    assert!(matches!(Plan::from_text(&newer), Err(CeremonyError::Format(2))));
}

#[test]
fn only_what_the_plan_leads_to_is_taken() {
    let (_, issuing_spki) = keygen::generate_p256();
    let plan = plan(&issuing_spki);
    let (key, spki) = keygen::generate_p256();
    let sign = |tbs: &[u8]| keygen::sign_p256(key.expose(), tbs).unwrap();
    let prepared = plan.prepare_root(&spki).unwrap();
    let signature = sign(prepared.tbs());
    let root_der = prepared.assemble(&signature).unwrap().der().to_vec();
    let root = plan.take_root(&root_der).unwrap();
    let prepared = plan.prepare_issuing(&root).unwrap().unwrap();
    let signature = sign(prepared.tbs());
    let issuing = prepared.assemble(&signature).unwrap().der().to_vec();
    assert!(plan.take_issuing(&root, Some(&issuing)).unwrap().is_some());
    assert!(plan.take_issuing(&root, None).is_err());

    let mut other = plan.clone();
    other.root.not_after = END.minus(std::time::Duration::from_secs(1));
    assert!(matches!(other.take_root(&root_der), Err(CeremonyError::Differs { what: "root" })));
    other.root.not_after = END;
    other.issuing.as_mut().unwrap().crl_url.push('x');
    assert!(other.take_issuing(&root, Some(&issuing)).is_err());

    let list = plan.prepare_list(&root).unwrap();
    let signature = sign(list.tbs());
    let list = list.assemble(&signature).unwrap().der().to_vec();
    assert_eq!(plan.take_list(&root, &list).unwrap().number(), 1);
    other.list.number = 2;
    assert!(other.take_list(&root, &list).is_err());
}
