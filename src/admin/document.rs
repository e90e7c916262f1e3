//! The OpenAPI document, made from the handlers themselves and completed from the table of operations.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use super::operations::{Access, OPERATIONS, Operation};
use super::resources::Api;

/// The schemas of everything that goes in and out.
pub fn schemas() -> &'static Registry {
    static SCHEMAS: LazyLock<Registry> = LazyLock::new(|| {
        let mut registry = Registry::new();
        Api::register(&mut registry);
        registry
    });
    &SCHEMAS
}

/// The API without what is behind it.
struct Shape;

impl OpenApi for Shape {
    fn meta() -> Vec<MetaApi> {
        Api::meta()
    }

    fn register(registry: &mut Registry) {
        Api::register(registry);
    }

    fn add_routes(
        self,
        _: &mut std::collections::HashMap<String, std::collections::HashMap<Method, BoxEndpoint<'static>>>,
    ) {
    }
}

/// The OpenAPI document of the admin API: JSON, indented, the same bytes for the same program.
pub fn openapi_document() -> String {
    let service = OpenApiService::new(Shape, "Wicketgate", env!("CARGO_PKG_VERSION"))
        .description("The admin API. Errors are application/problem+json (RFC 9457) with a stable code.")
        .license("Apache-2.0");
    let mut document: Value = serde_json::from_str(&service.spec()).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API token: `wkt_` and 36 characters.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "__Host-session",
            "description": "The cookie of a signed-in browser. Changes need our own Origin and \
                            Content-Type: application/json.",
        },
    });
    let mut bodies = BTreeSet::new();
    for operation in OPERATIONS {
        let method = operation.method.as_str().to_lowercase();
        let Some(entry) = document["paths"][operation.path][method].as_object_mut() else { continue };
        complete(entry, operation);
        let schema = &entry.get("requestBody").map(|body| &body["content"]["application/json"]["schema"]);
        bodies.extend(schema.and_then(|schema| schema["$ref"].as_str()).map(str::to_owned));
    }
    for body in bodies {
        let name = body.trim_start_matches("#/components/schemas/");
        document["components"]["schemas"][name]["additionalProperties"] = Value::Bool(false);
    }
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// Adds what only the table knows: who may, and which headers count.
fn complete(entry: &mut Map<String, Value>, operation: &Operation) {
    let security = match operation.access {
        Access::Public => json!([]),
        _ => json!([{ "token": [] }, { "session": [] }]),
    };
    entry.insert("security".to_owned(), security);
    let access = match operation.access {
        Access::Public => "public",
        Access::Enrolment => "enrolment",
        Access::Member => "member",
        Access::Administrator => "administrator",
    };
    entry.insert("x-access".to_owned(), json!(access));
    if operation.by_certificate {
        entry.insert("x-by-certificate".to_owned(), json!(true));
    }
    if let Some(audited) = operation.audited {
        entry.insert("x-audited".to_owned(), json!(audited.action));
    }
    if operation.takes_idempotency_key() {
        let parameter = json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "A repeated request with the same key gets the same answer for 24 hours.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 128 },
        });
        match entry.get_mut("parameters").and_then(Value::as_array_mut) {
            Some(parameters) => parameters.push(parameter),
            None => {
                entry.insert("parameters".to_owned(), json!([parameter]));
            }
        }
    }
}
