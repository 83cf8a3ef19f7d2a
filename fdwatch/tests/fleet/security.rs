//! Permissions: what users made by `fdwatch fleet init --print-grants` may write and read. TLS: errors have a
//! help line, and no row is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fdwatch_agent::config::Fleet;
use fdwatch_fleet::{
    rows::{FindingRow, HeartbeatRow, Table, add_line},
    source::{GroupBy, Query, Source},
    store::{Address, Client, StoreError},
};
use fdwatch_test_support::{
    Finished, fdwatch, program, run,
    tls::{Authority, OPENSSL},
};

use crate::clickhouse::{ClickHouse, Engine, Setup, free_port};
use crate::rows::{NOW, Writer, client, config, counted, runtime, server, spooled};

/// Runs a query as a user would.
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

/// Adds a row to each table that agents write.
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

/// Asserts that every query is permitted and yields the rows.
async fn query_all(client: Client) {
    let query = Query::since(NOW - 100, NOW, 1);
    let source = Source::Server(client);
    for by in [
        GroupBy::Signature,
        GroupBy::Service,
        GroupBy::Host,
        GroupBy::Path,
    ] {
        assert_eq!(source.duplicates(&query, by, 9).await.unwrap().count, 1);
    }
    assert_eq!(source.hosts(&query).await.unwrap().len(), 1);
    assert!(source.shared(&query).await.is_ok());
    assert!(source.show(&query.of("v1:")).await.is_ok());
}

#[test]
fn printed_users_have_only_their_permissions() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path(), Setup::default()) else {
        return;
    };
    let printed = fleet(&["init", "--url", &server.url(), "--print-grants"]).stdout();
    assert!(printed.contains("<fdwatch_reader>"), "{printed}");
    // Follows the instructions in the output.
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
        query_all(reader.clone()).await;
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

/// Builds `users.xml` from the printed users, named as in the queries, and an administrator.
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

/// The engine only has users of its configuration, with grants: the printed statements are parsed only, and
/// the grants are applied by configuration.
#[test]
fn printed_grants_allow_only_their_statements() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup {
        users: Some(of_users("<access_management>1</access_management>")),
        ..Setup::default()
    };
    let Some(mut server) = ClickHouse::start_with(Engine::Current, directory.path(), setup) else {
        return;
    };
    // The user that creates the tables differs from the one that writes.
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
        query_all(reader).await;
    });
}

/// Invalid connection settings, and the expected error.
struct Wrong {
    url: String,
    ca: Option<PathBuf>,
    password: Option<PathBuf>,
    /// Accepted reasons; the error must contain one of them.
    reasons: &'static [&'static str],
    remedy: &'static str,
}

impl Wrong {
    fn assert_error(&self, error: &str) {
        let is_named = self.reasons.iter().any(|reason| error.contains(reason));
        assert!(is_named && error.contains(self.remedy), "{error}");
    }
}

#[test]
fn tls_errors_have_help_and_lose_no_row() {
    if !program(OPENSSL) {
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
    writer.send(0..100);
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
            ..wrong(
                &["UnknownIssuer"],
                "to trust the server, give its CA certificate",
            )
        },
        Wrong {
            url: format!("https://127.0.0.1:{port}"),
            ..wrong(
                &["not valid for name \"127.0.0.1\""],
                "use a host name for which the server's certificate is valid",
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
            ..wrong(&["connection to localhost"], "use https://")
        },
        Wrong {
            url: format!("https://localhost:{}", server.port),
            // The server refuses the random bytes of a greeting, or waits for the end of the line that they
            // start.
            ..wrong(&["InvalidContentType", "timed out"], "this port")
        },
    ];
    let mut sent = 100;
    for one in all {
        assert_query_fails(&one);
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
        writer.send(sent..sent + 100);
        sent += 100;
        let trouble = writer.trouble("fleet", one.remedy);
        one.assert_error(&trouble);
        assert_eq!(writer.counts.now()[2..], [0, 0]);
        writer.end();
        assert!(spooled(&spool) > left, "{trouble}");
    }
    let writer = Writer::start(right, "web-1");
    writer.wait_for(sent - 100);
    writer.assert_well();
    writer.end();
    assert_eq!(counted(&server), (sent, sent));
    let since = ["duplicates", "--since", "2026-09-21T13:00:00Z", "--json"];
    let found = fleet(&[&since, &trusting[..]].concat()).json();
    assert_eq!(found[0]["findings"], sent, "{found:?}");
}

fn assert_query_fails(one: &Wrong) {
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
    one.assert_error(finished.error());
}
