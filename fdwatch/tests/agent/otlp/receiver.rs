//! Receivers: one in this process with configurable responses, one that never responds, and one over TLS.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Instant,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use fdwatch_test_support::PYTHON;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message as _;
use tokio::sync::oneshot;

use super::sent::WALL_TIME;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
}

/// Returns the response to each request, by its number from 0 on.
pub(crate) type Answer = fn(usize) -> Response;

pub(crate) fn ok(_: usize) -> Response {
    StatusCode::OK.into_response()
}

/// A receiver in this process.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) got: Arc<Mutex<Vec<Request>>>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start(answer: Answer) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    pub(crate) fn start_on(listener: TcpListener, answer: Answer) -> Self {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let take = move |State(got): State<Arc<Mutex<Vec<Request>>>>,
                         uri: Uri,
                         headers: HeaderMap,
                         body: Bytes| async move {
            let mut got = got.lock().unwrap();
            got.push(Request {
                path: uri.path().to_owned(),
                headers,
                body,
                at: Instant::now(),
            });
            answer(got.len() - 1)
        };
        let router = Router::new().fallback(take).with_state(Arc::clone(&got));
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                _ = stopped => {}
            }
        };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(serve);
        });
        Self {
            address,
            got,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn got(&self) -> Vec<Request> {
        self.got.lock().unwrap().clone()
    }

    /// Returns the numbers of the received events, in order.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let got = self.got();
        let got = got.iter().filter(|request| request.path == "/v1/logs");
        got.flat_map(|request| numbers(&request.body)).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn numbers(body: &[u8]) -> Vec<u64> {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|it| it.scope_logs);
    let records = scopes.flat_map(|it| it.log_records);
    records
        .map(|record| record.time_unix_nano - WALL_TIME)
        .collect()
}

/// Starts a receiver that accepts connections and data, and never responds.
pub(crate) fn silent() -> (SocketAddr, Arc<Mutex<Vec<std::net::TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::clone(&held);
    // It ends with the process.
    thread::spawn(move || {
        for connection in listener.incoming() {
            connections.lock().unwrap().push(connection.unwrap());
        }
    });
    (address, held)
}

pub(crate) const OPENSSL: &str = "/usr/bin/openssl";

/// Makes a key and a self-signed certificate for 127.0.0.1.
pub(crate) fn certificate(directory: &Path) -> PathBuf {
    const CONFIG: &str = "[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = fdwatch test
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
";
    let config = directory.join("openssl.cnf");
    fs::write(&config, CONFIG).unwrap();
    let certificate = directory.join("cert.pem");
    let output = Command::new(OPENSSL)
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .arg("-config")
        .arg(&config)
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    certificate
}

/// A receiver over TLS in another program, which writes what it receives to a file. It closes the connection
/// at the end of its response without a TLS close.
pub(crate) struct Secured(Child);

impl Secured {
    const PROGRAM: &'static str = "
import http.server, pathlib, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        pathlib.Path('body').write_bytes(body)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
";

    pub(crate) fn start(directory: &Path) -> (Self, String) {
        let mut server = Command::new(PYTHON)
            .args(["-c", Self::PROGRAM])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let output = server.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut port).unwrap();
        (Self(server), format!("https://127.0.0.1:{}", port.trim()))
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
