//! Engines of ClickHouse on loopback, with directories of their own: Debian's server, and the present
//! engine through chdb.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Guard, eventually, program};

/// Debian's.
pub(crate) const SERVER: &str = "/usr/sbin/clickhouse-server";

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Debian,
    Present,
}

pub(crate) const ENGINES: [Engine; 2] = [Engine::Debian, Engine::Present];

/// What a server has that not all have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Where it listens besides 127.0.0.1.
    pub(crate) listen: Option<String>,
    /// Where its data is, if not in its directory.
    pub(crate) data: Option<PathBuf>,
    /// Where servers speak to it, if that must be known before.
    pub(crate) native_port: Option<u16>,
    /// More elements of its configuration.
    pub(crate) config: String,
    /// Of the present engine: its users, as elements of `<users>`. All may do anything by default.
    pub(crate) users: Option<String>,
}

/// A server that ends with its test.
pub(crate) struct ClickHouse {
    engine: Engine,
    setup: Setup,
    directory: PathBuf,
    pub(crate) port: u16,
    native_port: u16,
    pub(crate) process: Option<Guard>,
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    listener.local_addr().expect("it has an address").port()
}

impl ClickHouse {
    /// One in this directory; none if its program is not here.
    pub(crate) fn start(engine: Engine, directory: &Path) -> Option<Self> {
        Self::start_with(engine, directory, Setup::default())
    }

    /// The same, with more that is said to it.
    pub(crate) fn start_with(engine: Engine, directory: &Path, setup: Setup) -> Option<Self> {
        let is_here = match engine {
            Engine::Debian => program(SERVER),
            Engine::Present => super::python_with_packages().is_some(),
        };
        let mut server = Self {
            engine,
            native_port: setup.native_port.unwrap_or_else(free_port),
            setup,
            directory: directory.to_owned(),
            port: free_port(),
            process: None,
        };
        is_here.then(|| {
            server.restart();
            server
        })
    }

    /// Has it begin again, with these users.
    pub(crate) fn restart_with_users(&mut self, users: String) {
        self.setup.users = Some(users);
        self.restart();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it, on what it had.
    pub(crate) fn restart(&mut self) {
        self.process = None;
        match self.engine {
            Engine::Debian => self.start_debians(),
            Engine::Present => self.start_present(),
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    fn start_present(&mut self) {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clickhouse_http.py");
        let mut session = self.directory.join("chdb").into_os_string();
        if let Some(users) = &self.setup.users {
            let [config, file] = ["chdb.xml", "chdb-users.xml"].map(|it| self.directory.join(it));
            let users = format!(
                "<clickhouse><profiles><default/></profiles><users>{users}</users>\
                 <quotas><default/></quotas></clickhouse>"
            );
            let text = format!(
                "<clickhouse><users_config>{}</users_config></clickhouse>",
                file.display()
            );
            fs::write(&file, users).expect("the directory can be written");
            fs::write(&config, text).expect("the directory can be written");
            session.push("?config-file=");
            session.push(config);
        }
        let mut command = Command::new(super::python_with_packages().expect("it was there"));
        command
            .arg(fixture)
            .arg(session)
            .arg(self.port.to_string())
            .stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let mut line = String::new();
        let output = process.0.stdout.take().expect("it has an output");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it can be read");
        assert_eq!(line.trim(), self.port.to_string(), "chdb does not start");
        self.process = Some(process);
    }

    fn start_debians(&mut self) {
        let path = self.directory.display();
        let users = "<yandex><profiles><default/></profiles><users><default><password/>\
            <networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></default>\
            </users><quotas><default/></quotas></yandex>";
        let Setup {
            listen,
            data,
            config,
            ..
        } = &self.setup;
        let listen = listen
            .iter()
            .map(|it| format!("<listen_host>{it}</listen_host>"));
        let listen: String = listen.collect();
        let data = data.clone().unwrap_or_else(|| self.directory.join("data"));
        let config = format!(
            "<yandex><logger><level>error</level><console>1</console></logger>\
             <listen_host>127.0.0.1</listen_host>{listen}<http_port>{}</http_port>\
             <tcp_port>{}</tcp_port><path>{}/</path><tmp_path>{path}/tmp/</tmp_path>\
             <mark_cache_size>67108864</mark_cache_size><users_config>{path}/users.xml</users_config>\
             <default_profile>default</default_profile><default_database>default</default_database>\
             {config}</yandex>",
            self.port,
            self.native_port,
            data.display()
        );
        fs::write(self.directory.join("users.xml"), users).expect("the directory can be written");
        fs::write(self.directory.join("config.xml"), config).expect("the directory can be written");
        let log = fs::File::create(self.directory.join("log")).expect("it can be written");
        let mut command = Command::new(SERVER);
        command
            .arg(format!("--config-file={path}/config.xml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(Guard::spawn(&mut command));
        eventually("a ClickHouse that answers", || {
            (self.try_query("SELECT 1").as_deref() == Some("1\n")).then_some(())
        });
    }

    /// What a query gives.
    pub(crate) fn query(&self, text: &str) -> String {
        self.try_query(text)
            .unwrap_or_else(|| panic!("the server does not answer: {text}"))
    }

    fn try_query(&self, text: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(super::DEADLINE)).ok()?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(head.contains(" 200 "), "{text}: {answer}");
        if !head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            return Some(body.to_owned());
        }
        // The answers of tests are one chunk or few.
        let mut text = String::new();
        let mut rest = body;
        while let Some((length, more)) = rest.split_once("\r\n") {
            let length = usize::from_str_radix(length, 16).ok()?;
            if length == 0 {
                break;
            }
            text += &more[..length];
            rest = &more[length + 2..];
        }
        Some(text)
    }
}
