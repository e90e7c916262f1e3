//! Certificates are searched, sorted and paged through the API; a member's search stays at home.

use serde_json::Value;

use super::fixture::App;

fn names(body: &Value) -> Vec<&str> {
    body["items"].as_array().unwrap().iter().map(|item| item["device_name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_search_finds_devices_and_pages_go_on_where_they_stopped() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    for device in ["Laptop 1", "Laptop 2", "Laptop 3", "Phone"] {
        app.issue(&token, device).await.expect(201);
    }
    let list = |query: &str| format!("/api/v1/certificates?{query}");
    let found = app.get(&list("search=lap&limit=2")).token(&token).send().await.expect(200);
    assert_eq!(names(&found.body), ["Laptop 1", "Laptop 2"]);
    let cursor = found.body["next_cursor"].as_str().unwrap();
    let rest = app.get(&list(&format!("search=lap&limit=2&cursor={cursor}"))).token(&token).send().await;
    let rest = rest.expect(200);
    assert_eq!(names(&rest.body), ["Laptop 3"]);
    assert!(rest.body.get("next_cursor").is_none());
    assert!(rest.body["items"][0]["chain_pem"].as_str().unwrap().starts_with("-----BEGIN"));

    let other = app.get(&list(&format!("cursor={cursor}"))).token(&token).send().await;
    assert_eq!(other.expect_problem(400, "invalid_request").pointers(), ["?cursor"]);
    let unknown = app.get(&list("state=active&sort=serial")).token(&token).send().await;
    assert_eq!(unknown.expect_problem(400, "invalid_request").pointers(), ["?sort"]);
    let short = app.get(&list("search=a")).token(&token).send().await;
    assert_eq!(short.expect_problem(400, "invalid_request").pointers(), ["?search"]);
    let sorted = app.get(&list("state=active&sort=-not_after")).token(&token).send().await.expect(200);
    assert_eq!(names(&sorted.body).len(), 4);
}

#[tokio::test]
async fn a_member_finds_only_their_own() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let (_, member) = app.member("Anna").await;
    app.issue(&administrator, "Laptop of Ada").await.expect(201);
    app.issue(&member, "Laptop of Anna").await.expect(201);
    let found = app.get("/api/v1/certificates?search=laptop").token(&member).send().await.expect(200);
    assert_eq!(names(&found.body), ["Laptop of Anna"]);
}
