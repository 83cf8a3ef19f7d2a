//! The receiving end of a webhook.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use fdwatch_test_support::{eventually, parse};
use serde_json::Value;

/// An HTTP server that records requests and answers with a chosen status.
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) got: Arc<Mutex<Vec<Value>>>,
    pub(crate) status: Arc<AtomicU64>,
    pub(crate) requests: Arc<AtomicU64>,
}

/// Status for which the server sends no response.
pub(crate) const HANGS: u64 = 0;

impl Hook {
    pub(crate) fn start(status: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "http://{}/hook?token=secret",
            listener.local_addr().unwrap()
        );
        listener.set_nonblocking(true).unwrap();
        let hook = Self {
            url,
            got: Arc::default(),
            status: Arc::new(AtomicU64::new(status)),
            requests: Arc::default(),
        };
        let (got, status, requests) = (
            Arc::clone(&hook.got),
            Arc::clone(&hook.status),
            Arc::clone(&hook.requests),
        );
        let answer = move |body: String| {
            let (got, status) = (Arc::clone(&got), Arc::clone(&status));
            let requests = Arc::clone(&requests);
            async move {
                requests.fetch_add(1, Relaxed);
                let status = status.load(Relaxed);
                if status == HANGS {
                    std::future::pending::<()>().await;
                }
                if status == 200 {
                    got.lock().unwrap().push(parse(&body));
                }
                axum::http::StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap()
            }
        };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = axum::Router::new().route("/hook", axum::routing::post(answer));
                axum::serve(listener, router).await.unwrap();
            });
        });
        hook
    }

    pub(crate) fn statuses(&self) -> Vec<(String, String)> {
        let got = self.got.lock().unwrap();
        let field = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
        got.iter()
            .map(|value| (field(value, "status"), field(value, "key")))
            .collect()
    }

    pub(crate) fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually("requests to the webhook", || {
            let got = self.got.lock().unwrap();
            (got.len() >= count).then(|| got.clone())
        })
    }
}
