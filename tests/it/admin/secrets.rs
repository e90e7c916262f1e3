//! What opens something is in nobody's reach but its owner's: not in the database, not in the audit.

use serde_json::json;
use wicketgate::domain::Role;

use super::fixture::{App, PASSWORD};

#[tokio::test]
async fn no_secret_is_in_the_database() {
    let app = App::new().await;
    let setup = app.setup_token().await;
    let cookie = app.set_up().await;
    let session = cookie.strip_prefix("__Host-session=").unwrap().to_owned();
    let (_, token) = app.administrator().await;
    let ben = app.person("Ben Weak", Role::Member).await;
    let (_, link) = app.invite(&token, ben).await;
    let new = json!({ "name": "ci", "role": "member", "expires_in_days": 7 });
    let made = app.post("/api/v1/tokens", &new).token(&token).header("idempotency-key", "k").send().await;
    let made = made.expect(201).body["token"].as_str().unwrap().to_owned();
    let again = app.post("/api/v1/invitations", &json!({ "person_id": ben.to_string(), "send_mail": false }));
    let kept = again.token(&token).header("idempotency-key", "l").send().await.expect(201);
    let kept = kept.body["link"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();

    let secrets = [setup.expose().as_str(), &session, &token, &link, &made, &kept, PASSWORD];
    for file in ["test.db", "test.db-wal"] {
        let octets = std::fs::read(app.directory().join(file)).unwrap_or_default();
        for secret in secrets {
            let found = octets.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret of {} characters is in {file}", secret.len());
        }
    }
}

#[tokio::test]
async fn only_the_owner_of_the_socket_and_root_may_connect() {
    use std::os::unix::fs::PermissionsExt;
    let app = App::new().await;
    let mode = std::fs::metadata(app.directory().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "others have no way in");
}
