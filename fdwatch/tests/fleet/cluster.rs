//! The fleet's tables on a cluster: two of Debian's ClickHouse servers as replicas, with a real ZooKeeper.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use fdwatch_fleet::{
    schema::{self, SchemaOptions, VERSION},
    setup,
};
use fdwatch_test_support::{Guard, eventually, program};

use crate::clickhouse::{ClickHouse, Engine, Setup, free_port};
use crate::rows::{Writer, client, config, counted, runtime, wanted};

const JAVA: &str = "/usr/bin/java";

/// Debian's ZooKeeper; the script names its classes.
const ZOOKEEPER: &str = "/usr/share/java/zookeeper.jar";

const CLUSTER: &str = "main";

/// Starts a ZooKeeper and returns its port.
fn zookeeper(directory: &Path) -> (Guard, u16) {
    let port = free_port();
    let data = directory.join("zookeeper");
    fs::create_dir(&data).unwrap();
    let file = directory.join("zoo.cfg");
    let text = format!(
        "tickTime=500\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
         admin.enableServer=false\n",
        data.display()
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(JAVA);
    command
        .args(["-Xmx128m", "-cp", ZOOKEEPER])
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = Guard::spawn(&mut command);
    // It listens before it serves, which ClickHouse 18.16 does not tolerate.
    eventually("ZooKeeper", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("Mode: standalone").then_some(())
    });
    (process, port)
}

/// Starts two servers that are replicas of one shard.
fn replicas(directory: &Path, zookeeper: u16) -> Option<[ClickHouse; 2]> {
    let ports = [free_port(), free_port()];
    let replicas =
        ports.map(|port| format!("<replica><host>127.0.0.1</host><port>{port}</port></replica>"));
    let start = |number: usize| {
        let own = directory.join(format!("replica-{number}"));
        fs::create_dir(&own).unwrap();
        let setup = Setup {
            native_port: Some(ports[number]),
            config: format!(
                "<zookeeper><node><host>127.0.0.1</host><port>{zookeeper}</port></node></zookeeper>\
                 <interserver_http_host>127.0.0.1</interserver_http_host>\
                 <interserver_http_port>{}</interserver_http_port>\
                 <macros><shard>1</shard><replica>{number}</replica></macros>\
                 <remote_servers><{CLUSTER}><shard><internal_replication>true</internal_replication>\
                 {}</shard></{CLUSTER}></remote_servers>\
                 <distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>",
                free_port(),
                replicas.concat()
            ),
            ..Setup::default()
        };
        ClickHouse::start_with(Engine::Debian, &own, setup)
    };
    Some([start(0)?, start(1)?])
}

/// Returns the statements that made the tables.
fn tables(server: &ClickHouse) -> String {
    let tables = "SELECT name, engine, create_table_query FROM system.tables \
                  WHERE database = 'fdwatch' ORDER BY name";
    server.query(tables)
}

#[test]
fn rows_are_replicated_within_cluster() {
    if !program(JAVA) || !program(ZOOKEEPER) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (_zookeeper, port) = zookeeper(directory.path());
    let Some([mut one, other]) = replicas(directory.path(), port) else {
        return;
    };
    let wanted = SchemaOptions {
        cluster: Some(CLUSTER.into()),
        ..wanted()
    };
    // Tables of the first version, then of the current one.
    runtime().block_on(async {
        let client = client(&one.url());
        let engine = setup::engine(&client).await.unwrap();
        let since = schema::statements(&wanted, engine, 1).unwrap();
        for statement in schema::statements(&wanted, engine, 0).unwrap() {
            if !since.contains(&statement) {
                client.run(&statement, engine.settings()).await.unwrap();
            }
        }
        let first = "INSERT INTO fdwatch.schema_version (version, time) VALUES (1, now())";
        client.run(first, &[]).await.unwrap();
        assert_eq!(setup::init(&client, &wanted).await.unwrap().from, 1);
    });
    let made = tables(&one);
    assert!(
        made.contains("shared_files_local\tReplicatedReplacingMergeTree"),
        "{made}"
    );
    assert_eq!(tables(&other), made);

    let writer = Writer::start(config(&one.url(), &directory.path().join("one")), "web-1");
    writer.send(0..1000);
    writer.wait_for(1000);
    writer.end();
    let writer = Writer::start(
        config(&other.url(), &directory.path().join("other")),
        "web-2",
    );
    writer.send(1000..2000);
    writer.wait_for(2000 - 1000);
    both_have(&[&one, &other], 2000);

    // A repeated setup changes nothing, on either server.
    for server in [&other, &one] {
        let again = runtime().block_on(setup::init(&client(&server.url()), &wanted));
        let again = again.unwrap();
        assert_eq!((again.from, again.deleted), (VERSION, 0));
        assert_eq!(tables(server), made);
    }
    both_have(&[&one, &other], 2000);

    // One server is down for a while.
    one.kill();
    writer.send(2000..2500);
    writer.wait_for(1500);
    writer.assert_well();
    writer.end();
    assert_eq!(counted(&other), (2500, 2500));
    one.restart();
    both_have(&[&one, &other], 2500);
}

/// Waits until each server stores this many findings.
fn both_have(servers: &[&ClickHouse], findings: u64) {
    for server in servers {
        let own = "SELECT uniqExact(host, run, number, time) FROM fdwatch.findings_local";
        eventually("rows on all replicas", || {
            let own = server.query(own).trim().parse::<u64>().ok();
            (own? == findings && counted(server) == (findings, findings)).then_some(())
        });
    }
}
