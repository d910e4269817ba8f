//! Logging in and out.

use serde_json::json;

use super::*;
use crate::time::Timestamp;
use crate::web::create_login_link;

const PASSWORD: &str = "correct horse";

fn login(body: &serde_json::Value) -> Request<Body> {
    request(Method::POST, "/api/v1/login")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn with_cookie(method: Method, target: &str, cookie: &str) -> Request<Body> {
    request(method, target)
        .header("cookie", format!("a=b; {cookie}; c=d"))
        .body(Body::empty())
        .unwrap()
}

impl Site {
    async fn cookie(&self, user: &str) -> String {
        let answer = self
            .send(login(&json!({"user": user, "password": PASSWORD})))
            .await;
        assert_eq!(answer.status, StatusCode::OK);
        let cookie = answer.header("set-cookie");
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn session(&self, cookie: &str) -> Answer {
        self.send(with_cookie(Method::GET, "/api/v1/session", cookie))
            .await
    }
}

#[tokio::test]
async fn a_session_begins_and_ends() {
    let site = Site::new();
    site.accounts.add("mika", PASSWORD, Role::Analyst).unwrap();
    let body = json!({"user": "mika", "password": PASSWORD});
    let answer = site.send(login(&body)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["role"], "analyst");
    let cookie = answer.header("set-cookie").to_owned();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let session = site.session(cookie).await;
    assert_eq!(session.json()["user"], "mika");
    assert_eq!(site.session("wirewitness_session=00").await.status, 401);
    let logout = with_cookie(Method::POST, "/api/v1/logout", cookie);
    let answer = site.send(logout).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(site.session(cookie).await.status, 401);
}

#[tokio::test]
async fn behind_a_tls_proxy_the_cookie_is_secure() {
    let site = Site::new();
    site.accounts.add("mika", PASSWORD, Role::Viewer).unwrap();
    let mut request = login(&json!({"user": "mika", "password": PASSWORD}));
    let origin = "https://wire.example.net".parse().unwrap();
    request.headers_mut().insert("origin", origin);
    let answer = site.send(request).await;
    assert!(answer.header("set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn a_new_password_or_a_removed_account_ends_its_sessions() {
    let site = Site::new();
    site.accounts.add("mika", PASSWORD, Role::Viewer).unwrap();
    let first = site.cookie("mika").await;
    site.accounts.set_password("mika", PASSWORD).unwrap();
    assert_eq!(site.session(&first).await.status, 401);
    let second = site.cookie("mika").await;
    assert_eq!(site.session(&second).await.status, 200);
    site.accounts.remove("mika").unwrap();
    assert_eq!(site.session(&second).await.status, 401);
}

#[tokio::test]
async fn a_session_outlives_the_server_but_an_old_cookie_is_never_adopted() {
    let site = Site::new();
    site.accounts.add("mika", PASSWORD, Role::Viewer).unwrap();
    let chosen = "wirewitness_session=chosen-by-an-attacker";
    let mut request = login(&json!({"user": "mika", "password": PASSWORD}));
    request
        .headers_mut()
        .insert("cookie", chosen.parse().unwrap());
    let answer = site.send(request).await;
    let cookie = answer
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert_ne!(cookie, chosen);
    assert_eq!(site.session(chosen).await.status, 401);
    let site = site.restarted().await;
    assert_eq!(site.session(&cookie).await.json()["user"], "mika");
}

#[tokio::test]
async fn guessing_is_throttled_for_known_and_unknown_users_alike() {
    let site = Site::new();
    site.accounts.add("mika", PASSWORD, Role::Viewer).unwrap();
    for attempt in 0..10 {
        let user = if attempt % 2 == 0 { "mika" } else { "nobody" };
        let answer = site
            .send(login(&json!({"user": user, "password": "guess"})))
            .await;
        assert_eq!(answer.code(), "bad_credentials", "attempt {attempt}");
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let right = json!({"user": "mika", "password": PASSWORD});
    let answer = site.send(login(&right)).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.code(), "too_many_attempts");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=91).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_login_link_works_once_and_needs_no_account() {
    let site = Site::new();
    let code = create_login_link(site.dir.path(), "admin", Role::Admin, Timestamp::now()).unwrap();
    let wrong = site.send(login(&json!({"link": "guess"}))).await;
    assert_eq!(wrong.code(), "bad_credentials");
    let first = site.send(login(&json!({"link": code}))).await;
    assert_eq!(first.json()["role"], "admin");
    let cookie = first.header("set-cookie").split(';').next().unwrap();
    assert_eq!(site.session(cookie).await.json()["role"], "admin");
    let second = site.send(login(&json!({"link": code}))).await;
    assert_eq!(second.code(), "bad_credentials");
}

#[tokio::test]
async fn a_form_of_a_foreign_page_is_no_login() {
    let site = Site::new();
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = request(Method::POST, "/api/v1/login").header("content-type", kind);
        let body = Body::from("{\"user\": \"mika\", \"password\": \"correct horse\"}");
        let answer = site.send(request.body(body).unwrap()).await;
        assert_eq!(answer.code(), "not_json", "{kind}");
    }
    for body in ["", "{", "[]", "{\"user\": \"mika\"}", "{\"link\": 1}"] {
        let request = request(Method::POST, "/api/v1/login");
        let request = request.header("content-type", "application/json");
        let answer = site.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.code(), "bad_body", "{body}");
    }
}
