//! The committed document is the one that the program makes, and it names what the table names.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use wicketgate::admin::{Access, OPERATIONS, openapi_document};

/// The document by operation: id -> (method, path, entry).
pub fn operations() -> BTreeMap<String, (String, String, Value)> {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let mut operations = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, entry) in methods.as_object().unwrap() {
            let id = entry["operationId"].as_str().unwrap().to_owned();
            operations.insert(id, (method.to_uppercase(), path.clone(), entry.clone()));
        }
    }
    operations
}

#[test]
fn the_committed_document_is_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/wicketgate.json");
    let made = openapi_document();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "run the tests with UPDATE_OPENAPI=1 and commit openapi/wicketgate.json");
}

#[test]
fn every_operation_of_the_document_is_in_the_table_and_the_other_way_round() {
    let documented = operations();
    for (id, (method, path, entry)) in &documented {
        let known = OPERATIONS.iter().find(|operation| operation.id == id);
        let known = known.unwrap_or_else(|| panic!("{id} has no role: deny by default would hide it"));
        assert_eq!((known.method.as_str(), known.path), (method.as_str(), path.as_str()), "{id}");
        let is_change = method != "GET";
        assert_eq!(known.audited.is_some(), is_change, "{id}: what changes something is audited");
        assert!(entry["responses"]["default"].is_object(), "{id} says how problems look");
        let open = entry["security"].as_array().unwrap().is_empty();
        assert_eq!(open, known.access == Access::Public, "{id}");
    }
    assert_eq!(documented.len(), OPERATIONS.len());
}
