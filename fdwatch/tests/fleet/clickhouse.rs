//! ClickHouse servers on loopback with their own directories: Debian's server, and the current engine
//! through chdb.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fdwatch_test_support::{DEADLINE, Guard, eventually, program, python_with_packages};

/// Debian's server.
pub(crate) const SERVER: &str = "/usr/sbin/clickhouse-server";

/// The engine of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Debian,
    Current,
}

pub(crate) const ENGINES: [Engine; 2] = [Engine::Debian, Engine::Current];

/// Optional settings of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// A listening address besides 127.0.0.1.
    pub(crate) listen: Option<String>,
    /// Directory of its data, if not in the server's directory.
    pub(crate) data: Option<PathBuf>,
    /// Port for other servers, if it must be known in advance.
    pub(crate) native_port: Option<u16>,
    /// More elements of its configuration.
    pub(crate) config: String,
    /// Users of the current engine, as elements of `<users>`. By default everyone may do anything.
    pub(crate) users: Option<String>,
}

/// A server that is stopped when its test ends.
pub(crate) struct ClickHouse {
    engine: Engine,
    setup: Setup,
    directory: PathBuf,
    pub(crate) port: u16,
    native_port: u16,
    pub(crate) process: Option<Guard>,
}

/// Returns a port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("cannot bind a port");
    listener.local_addr().expect("no local address").port()
}

impl ClickHouse {
    /// Starts a server in this directory; `None` if it is not installed.
    pub(crate) fn start(engine: Engine, directory: &Path) -> Option<Self> {
        Self::start_with(engine, directory, Setup::default())
    }

    /// Starts a server with further settings.
    pub(crate) fn start_with(engine: Engine, directory: &Path, setup: Setup) -> Option<Self> {
        let is_here = match engine {
            Engine::Debian => program(SERVER),
            Engine::Current => python_with_packages().is_some(),
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

    /// Restarts it with other users.
    pub(crate) fn restart_with_users(&mut self, users: String) {
        self.setup.users = Some(users);
        self.restart();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it again with its old data.
    pub(crate) fn restart(&mut self) {
        self.process = None;
        match self.engine {
            Engine::Debian => self.start_debian(),
            Engine::Current => self.start_current(),
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    fn start_current(&mut self) {
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
            fs::write(&file, users).expect("cannot write a file");
            fs::write(&config, text).expect("cannot write a file");
            session.push("?config-file=");
            session.push(config);
        }
        let mut command = Command::new(python_with_packages().expect("missing"));
        command
            .arg(fixture)
            .arg(session)
            .arg(self.port.to_string())
            .stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let mut line = String::new();
        let output = process.0.stdout.take().expect("no standard output");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("cannot read a file");
        assert_eq!(line.trim(), self.port.to_string(), "chdb did not start");
        self.process = Some(process);
    }

    fn start_debian(&mut self) {
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
        fs::write(self.directory.join("users.xml"), users).expect("cannot write a file");
        fs::write(self.directory.join("config.xml"), config).expect("cannot write a file");
        let log = fs::File::create(self.directory.join("log")).expect("cannot write a file");
        let mut command = Command::new(SERVER);
        command
            .arg(format!("--config-file={path}/config.xml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(Guard::spawn(&mut command));
        eventually("ClickHouse", || {
            (self.try_query("SELECT 1").as_deref() == Some("1\n")).then_some(())
        });
    }

    /// Runs a query and returns its output.
    pub(crate) fn query(&self, text: &str) -> String {
        self.try_query(text)
            .unwrap_or_else(|| panic!("no response from the server: {text}"))
    }

    fn try_query(&self, text: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
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
        // Responses in tests have few chunks.
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
