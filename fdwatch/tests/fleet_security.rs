//! Who may write to the fleet's server and who may read, by what `fdwatch fleet init --print-grants`
//! prints; and TLS, where what is wrong is told with what to do, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "what helps tests may fail as these do")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{
    Finished,
    clickhouse::{ClickHouse, Engine, Setup, free_port},
    fdwatch,
    fleet::{NOW, Writer, client, config, counted, runtime, server, spooled},
    run,
    tls::{Authority, OPENSSL},
};
use fdwatch_agent::config::Fleet;
use fdwatch_fleet::{
    questions::{Asked, By, Source},
    rows::{FindingRow, HeartbeatRow, Table, add_line},
    store::{Address, Client, StoreError},
};

/// Asks as users do.
fn fleet(arguments: &[&str]) -> Finished {
    run(fdwatch([&["fleet"], arguments].concat()))
}

fn as_user(server: &ClickHouse, user: &str, password: &str) -> Client {
    let address = Address {
        url: server.url(),
        database: "fdwatch".into(),
        user: Some(user.into()),
        password: Some(password.into()),
        ca: None,
    };
    Client::new(address).unwrap()
}

/// A row of each table that agents write.
async fn write_all(client: &Client) -> Result<(), StoreError> {
    let (mut finding, mut heartbeat) = (Vec::new(), Vec::new());
    let row = FindingRow {
        time: NOW,
        host: "web-1".into(),
        severity: 2,
        network: "nas:/x".into(),
        writers: 1,
        ..FindingRow::default()
    };
    add_line(&mut finding, &row).unwrap();
    let row = HeartbeatRow {
        time: NOW,
        host: "web-1".into(),
        ..HeartbeatRow::default()
    };
    add_line(&mut heartbeat, &row).unwrap();
    client.insert(Table::Findings, &finding).await?;
    client.insert(Table::Heartbeats, &heartbeat).await?;
    client
        .insert(Table::Examples, b"{\"host\":\"web-1\"}\n")
        .await
}

/// Holds that all may be asked, and that what was written is there.
async fn ask_all(client: Client) {
    let asked = Asked::since(NOW - 100, NOW, 1);
    let source = Source::Server(client);
    for by in [By::Signature, By::Service, By::Host, By::Path] {
        assert_eq!(source.duplicates(&asked, by, 9).await.unwrap().count, 1);
    }
    assert_eq!(source.hosts(&asked).await.unwrap().len(), 1);
    assert!(source.shared(&asked).await.is_ok());
    assert!(source.show(&asked.of("v1:")).await.is_ok());
}

#[test]
fn the_printed_users_of_debians_may_write_or_ask_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path(), Setup::default()) else {
        return;
    };
    let printed = fleet(&["init", "--url", &server.url(), "--print-grants"]).stdout();
    assert!(printed.contains("<fdwatch_reader>"), "{printed}");
    // As it says there.
    let mut hash = Command::new("/bin/sh");
    hash.args(["-c", "printf %s secret | sha256sum"]);
    let hash = run(hash).stdout();
    let hash = hash.split(' ').next().unwrap();
    let users = directory.path().join("users.d");
    fs::create_dir(&users).unwrap();
    let place = users.join("fdwatch.xml");
    fs::write(place, printed.replace("CHANGE ME", hash)).unwrap();
    server.query("CREATE DATABASE other");
    server.query("CREATE TABLE other.secrets (a UInt8) ENGINE = Memory");
    server.query("SYSTEM RELOAD CONFIG");
    runtime().block_on(async {
        let writer = as_user(&server, "fdwatch_writer", "secret");
        write_all(&writer).await.unwrap();
        let reader = as_user(&server, "fdwatch_reader", "secret");
        let error = write_all(&reader).await.unwrap_err().to_string();
        assert!(error.contains("readonly"), "{error}");
        assert!(
            error.contains("fdwatch fleet init --print-grants"),
            "{error}"
        );
        ask_all(reader.clone()).await;
        for client in [writer, reader] {
            let other = client.run("SELECT * FROM other.secrets", &[]).await;
            let error = other.unwrap_err().to_string();
            assert!(error.contains("Code: 291"), "{error}");
        }
        let wrong = as_user(&server, "fdwatch_reader", "wrong");
        let error = wrong.run("SELECT 1", &[]).await.unwrap_err().to_string();
        assert!(error.contains("Wrong password"), "{error}");
    });
}

/// The users of a `users.xml` that have what is printed for one of ours, under the name that questions
/// are asked as there, and one that may do anything.
fn granted(printed: &str, user: &str) -> String {
    let end = format!(" TO {user};");
    let grants = printed
        .lines()
        .filter_map(|line| line.strip_suffix(&end[..]));
    let grants: Vec<_> = grants.map(|it| format!("<query>{it}</query>")).collect();
    assert!(grants.len() >= 3, "{printed}");
    of_users(&format!("<grants>{}</grants>", grants.concat()))
}

fn of_users(rights: &str) -> String {
    ["default", "owner"].map(|name| {
        let rights = if name == "owner" { "<access_management>1</access_management>" } else { rights };
        format!(
            "<{name}><no_password/><profile>default</profile><quota>default</quota>{rights}</{name}>"
        )
    })
    .concat()
}

/// That engine has no users but those of its configuration, which may have grants: the statements that
/// make users are only read, and what is granted holds.
#[test]
fn the_printed_grants_of_the_present_engine_let_users_write_or_ask_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup {
        users: Some(of_users("<access_management>1</access_management>")),
        ..Setup::default()
    };
    let Some(mut server) = ClickHouse::start_with(Engine::Present, directory.path(), setup) else {
        return;
    };
    // Made by another than who writes.
    let statements = fleet(&["init", "--url", &server.url(), "--print"]).stdout();
    for statement in statements.trim_end().trim_end_matches(';').split(";\n") {
        server.query(&statement.replace("CURRENT_USER", "owner"));
    }
    let printed = fleet(&["init", "--url", &server.url(), "--print-grants"]).stdout();
    let made: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("CREATE USER "))
        .collect();
    assert_eq!(made.len(), 2, "{printed}");
    for statement in made {
        server.query(&format!("EXPLAIN AST {}", statement.trim_end_matches(';')));
    }
    let refused = |error: StoreError| {
        let error = error.to_string();
        assert!(error.contains("Not enough privileges"), "{error}");
        assert!(
            error.contains("fdwatch fleet init --print-grants"),
            "{error}"
        );
    };
    server.restart_with_users(granted(&printed, "fdwatch_writer"));
    runtime().block_on(async {
        let writer = client(&server.url());
        write_all(&writer).await.unwrap();
        for table in [
            "findings",
            "examples",
            "heartbeats",
            "signature_hours",
            "hosts",
        ] {
            let read = writer
                .run(&format!("SELECT * FROM fdwatch.{table}"), &[])
                .await;
            refused(read.unwrap_err());
        }
        let dropped = writer.run("DROP TABLE fdwatch.findings", &[]).await;
        refused(dropped.unwrap_err());
    });
    server.restart_with_users(granted(&printed, "fdwatch_reader"));
    runtime().block_on(async {
        let reader = client(&server.url());
        refused(write_all(&reader).await.unwrap_err());
        ask_all(reader).await;
    });
}

/// A way to the server that is wrong, and what is said of it.
struct Wrong {
    url: String,
    ca: Option<PathBuf>,
    password: Option<PathBuf>,
    /// One of these.
    reasons: &'static [&'static str],
    remedy: &'static str,
}

impl Wrong {
    fn assert_told(&self, error: &str) {
        let is_told = self.reasons.iter().any(|reason| error.contains(reason));
        assert!(is_told && error.contains(self.remedy), "{error}");
    }
}

#[test]
fn over_tls_what_is_wrong_is_told_with_its_remedy_and_nothing_is_lost() {
    if !common::program(OPENSSL) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("own"));
    let other = Authority::new(&directory.path().join("other"));
    let (certificate, key) = authority.sign("server", "DNS:localhost");
    let port = free_port();
    let setup = Setup {
        config: format!(
            "<https_port>{port}</https_port><openSSL><server><certificateFile>{}</certificateFile>\
             <privateKeyFile>{}</privateKeyFile><verificationMode>none</verificationMode>\
             </server></openSSL>",
            certificate.display(),
            key.display()
        ),
        ..Setup::default()
    };
    let Some(server) = ClickHouse::start_with(Engine::Debian, directory.path(), setup) else {
        return;
    };
    let ca = authority.certificate();
    let url = format!("https://localhost:{port}");
    let trusting = ["--url", &url, "--ca-file", ca.to_str().unwrap()];
    let made = fleet(&[&["init"], &trusting[..]].concat());
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let spool = directory.path().join("spool");
    let right = Fleet {
        ca_file: Some(ca.clone()),
        ..config(&url, &spool)
    };
    let writer = Writer::start(right.clone(), "web-1");
    writer.tell(0..100);
    writer.wait_for(100);
    writer.assert_well();
    writer.end();

    let password = directory.path().join("password");
    fs::write(&password, "wrong\n").unwrap();
    let wrong = |reasons, remedy| Wrong {
        url: url.clone(),
        ca: Some(ca.clone()),
        password: None,
        reasons,
        remedy,
    };
    let all = [
        Wrong {
            ca: None,
            ..wrong(&["UnknownIssuer"], "--ca-file, or ca_file in [fleet]")
        },
        Wrong {
            ca: Some(other.certificate()),
            ..wrong(&["UnknownIssuer"], "name the certificate of who signed it")
        },
        Wrong {
            url: format!("https://127.0.0.1:{port}"),
            ..wrong(
                &["not valid for name \"127.0.0.1\""],
                "Say a name that its certificate is for",
            )
        },
        Wrong {
            password: Some(password),
            ..wrong(
                &["Wrong password for user default"],
                "user and password_file in [fleet]",
            )
        },
        Wrong {
            url: format!("http://localhost:{port}"),
            ..wrong(&["cannot speak to localhost"], "say https://")
        },
        Wrong {
            url: format!("https://localhost:{}", server.port),
            // It refuses the random bytes of a greeting, or waits for the end of the line that they begin.
            ..wrong(&["InvalidContentType", "timed out"], "speak TLS there")
        },
    ];
    let mut told = 100;
    for one in all {
        ask_wrongly(&one);
        let (user, left) = (
            one.password.as_ref().map(|_| "default".into()),
            spooled(&spool),
        );
        let config = Fleet {
            user,
            password_file: one.password.clone(),
            ca_file: one.ca.clone(),
            ..config(&one.url, &spool)
        };
        let writer = Writer::start(config, "web-1");
        writer.tell(told..told + 100);
        told += 100;
        let trouble = writer.trouble("fleet", one.remedy);
        one.assert_told(&trouble);
        assert_eq!(writer.counts.now()[2..], [0, 0]);
        writer.end();
        assert!(spooled(&spool) > left, "{trouble}");
    }
    let writer = Writer::start(right, "web-1");
    writer.wait_for(told - 100);
    writer.assert_well();
    writer.end();
    assert_eq!(counted(&server), (told, told));
    let since = ["duplicates", "--since", "2026-09-21T13:00:00Z", "--json"];
    let found = fleet(&[&since, &trusting[..]].concat()).json();
    assert_eq!(found[0]["findings"], told, "{found:?}");
}

fn ask_wrongly(one: &Wrong) {
    let mut arguments = vec!["hosts", "--url", &one.url];
    let text = |path: &'_ Path| path.to_str().unwrap().to_owned();
    let ca = one.ca.as_deref().map(text);
    let password = one.password.as_deref().map(text);
    if let Some(ca) = &ca {
        arguments.extend(["--ca-file", ca]);
    }
    if let Some(password) = &password {
        arguments.extend(["--user", "default", "--password-file", password]);
    }
    let finished = fleet(&arguments);
    one.assert_told(finished.error());
}
