//! The web face as a whole: the real router over real accounts and a real incident engine, whose
//! recorder is away.

mod access;
mod calls;
mod evidence;
mod login;
mod served;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::serve::Peer;
use super::{Accounts, App, Parts, Role, WebConfig, routes};
use crate::drill::{self, DrillConfig, Drills};
use crate::incident::{ClockState, EvidenceConfig, Incidents, Setup, WindowConfig};
use crate::index::Index;
use crate::recorder::client::Client;
use crate::trigger::status::Sources;
use crate::trigger::webhook::{Hook, HookKind, WebhookConfig};

/// A server in a folder of its own.
pub(super) struct Site {
    dir: Arc<TempDir>,
    pub(super) app: App,
    accounts: Accounts,
    stop: CancellationToken,
    engine: JoinHandle<()>,
}

impl Site {
    pub(super) fn new() -> Self {
        Self::at(Arc::new(tempfile::tempdir().unwrap()))
    }

    fn at(dir: Arc<TempDir>) -> Self {
        let stop = CancellationToken::new();
        let (parts, engine) = parts(dir.path(), &stop);
        let app = App::new(parts, stop.clone()).unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        Self {
            dir,
            app,
            accounts,
            stop,
            engine,
        }
    }

    /// The next server in the same folder.
    async fn restarted(mut self) -> Self {
        self.stop.cancel();
        (&mut self.engine).await.unwrap();
        let dir = Arc::clone(&self.dir);
        drop(self);
        Self::at(dir)
    }

    pub(super) fn router(&self) -> Router {
        routes::router(self.app.clone())
    }

    pub(super) fn token(&self, role: Role) -> String {
        self.accounts
            .create_token(&format!("{role}-token"), role)
            .unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router(), request).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn parts(dir: &Path, stop: &CancellationToken) -> (Parts, JoinHandle<()>) {
    let recorder = Client::new(dir.join("ring/control.sock"));
    let evidence = EvidenceConfig {
        path: dir.join("incidents"),
        ..EvidenceConfig::default()
    };
    std::fs::create_dir_all(&evidence.path).unwrap();
    std::fs::create_dir_all(dir.join("ring")).unwrap();
    let setup = Setup {
        evidence,
        window: WindowConfig::default(),
        keep_drills: std::time::Duration::from_hours(48),
        state_dir: dir.to_owned(),
        ring: dir.join("ring"),
        recorder: recorder.clone(),
        maintenance: Arc::default(),
        clock: Arc::new(ClockState::default),
    };
    let (incidents, engine) = Incidents::open(setup, stop.clone()).unwrap();
    let sources = Sources::default();
    let hook = WebhookConfig {
        token: "hook-token-1".to_owned().into(),
        ..WebhookConfig::new("monitoring", HookKind::Generic)
    };
    let drills = drill::Parts {
        config: DrillConfig::default(),
        targets: Vec::new(),
        marks: sources.marks().clone(),
        incidents: incidents.clone(),
        state_dir: dir.to_owned(),
        web: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        socket: dir.join("api.sock"),
    };
    let parts = Parts {
        config: WebConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            socket: dir.join("api.sock"),
            hosts: vec!["wire.example.net".to_owned()],
            ..WebConfig::default()
        },
        state_dir: dir.to_owned(),
        ring: dir.join("ring"),
        evidence_quota_bytes: 1000,
        before: std::time::Duration::from_mins(5),
        incidents,
        index: Arc::new(Index::open(&dir.join("index.sqlite")).unwrap()),
        recorder,
        hooks: Hook::all(&[hook], &sources).unwrap(),
        sources,
        drills: Drills::open(drills, stop.clone()).unwrap(),
        notifier: crate::notify::Notifier::default(),
        clock: ClockState::default,
    };
    (parts, engine)
}

/// An answer, whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn of(router: Router, request: Request<Body>) -> Self {
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let streams = parts
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "text/event-stream");
        // A stream of events has no end.
        let body = if streams {
            Bytes::new()
        } else {
            body.collect().await.unwrap().to_bytes()
        };
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{:?}",
            self.body
        );
        self.json()["code"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// A request as a browser on this machine sends it.
fn request(method: Method, target: &str) -> axum::http::request::Builder {
    let address = SocketAddr::from(([127, 0, 0, 1], 8642));
    let peer = Peer::Tcp {
        remote: address,
        local: address,
        tls: false,
    };
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "localhost:8642")
        .extension(peer)
}

fn get(target: &str) -> Request<Body> {
    request(Method::GET, target).body(Body::empty()).unwrap()
}

pub(super) fn get_as(target: &str, token: &str) -> Request<Body> {
    request(Method::GET, target)
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap()
}

fn post_as(target: &str, token: &str, body: &serde_json::Value) -> Request<Body> {
    request(Method::POST, target)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}
