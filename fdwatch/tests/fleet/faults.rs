//! Failures between agent and fleet server: no row is lost or counted twice.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fdwatch_agent::exporter::spool::Spool;
use fdwatch_test_support::{DEADLINE, Guard, eventually, program, root};

use crate::clickhouse::Setup;
use crate::rows::{Small, Writer, config, counted, server, spooled};

/// Forwards connections to a port and cuts each after a while: alternately within a request, and after the
/// server's response but before it is forwarded.
fn cutting_proxy(to: u16, cuts: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, from) in listener.incoming().flatten().enumerate() {
            let cuts = Arc::clone(&cuts);
            thread::spawn(move || pass(from, to, number, &cuts));
        }
    });
    port
}

fn pass(mut from: TcpStream, to: u16, number: usize, cuts: &AtomicUsize) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    let wait = Some(Duration::from_millis(20));
    let _ = (from.set_read_timeout(wait), server.set_read_timeout(wait));
    let mut buffer = [0; 4096];
    let (mut sent, mut answers, mut idle) = (0, 0, 0);
    loop {
        if let Ok(length) = from.read(&mut buffer) {
            sent += length;
            // Within the request.
            if length == 0 || (number.is_multiple_of(2) && sent > 20_000) {
                cuts.fetch_add(usize::from(length > 0), Ordering::Relaxed);
                return;
            }
            if server.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
        match server.read(&mut buffer) {
            // The server has the rows; the client gets no response.
            Ok(length) if length > 0 && !number.is_multiple_of(2) && answers == 3 => {
                cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(0) => return,
            Ok(length) if from.write_all(&buffer[..length]).is_err() => return,
            Ok(_) => (answers, idle) = (answers + 1, 0),
            Err(_) => idle += 1,
        }
        if idle > 3000 {
            return;
        }
    }
}

#[test]
fn server_deaths_and_cut_connections_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut server) = server(directory.path(), Setup::default()) else {
        return;
    };
    let cuts = Arc::new(AtomicUsize::new(0));
    let port = cutting_proxy(server.port, Arc::clone(&cuts));
    let spool = directory.path().join("spool");
    let url = format!("http://127.0.0.1:{port}");
    let writer = Writer::start(config(&url, &spool), "web-1");
    for part in 0..20 {
        writer.send(part * 500..(part + 1) * 500);
        thread::sleep(Duration::from_millis(150));
        if part == 7 {
            server.kill();
        }
        if part == 14 {
            server.restart();
        }
    }
    writer.wait_for(10_000);
    writer.assert_well();
    writer.end();
    assert!(cuts.load(Ordering::Relaxed) > 0, "no connection was cut");
    assert_eq!(counted(&server), (10_000, 10_000));
}

#[test]
fn full_spool_disk_keeps_rows_in_memory() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(mut server) = server(directory.path(), Setup::default()) else {
        return;
    };
    let small = Small::at(directory.path().join("small"), "256k");
    let spool = small.0.join("spool");
    let writer = Writer::start(config(&server.url(), &spool), "web-1");
    // The disk is nearly full and the server is up.
    writer.send(0..5000);
    writer.wait_for(5000);
    eventually("an empty spool", || (spooled(&spool) == 0).then_some(()));
    // The disk is full and the server is down.
    server.kill();
    let ballast = small.fill();
    for part in 10..20 {
        writer.send(part * 500..(part + 1) * 500);
        thread::sleep(Duration::from_millis(150));
    }
    let reported = writer.trouble("fleet.spool", "No space left on device");
    assert!(
        reported.contains("kept in memory, up to 8 MiB"),
        "{reported}"
    );
    writer.trouble("fleet", "connection to 127.0.0.1");
    server.restart();
    writer.wait_for(10_000);
    // Each row was sent once.
    assert_eq!(writer.counts.now()[2], 10_000);
    // With free space, the next rows are spooled again.
    fs::remove_file(ballast).unwrap();
    writer.send(10_000..10_001);
    writer.wait_for(10_001);
    writer.assert_well();
    writer.end();
    assert_eq!(counted(&server), (10_001, 10_001));
    assert_eq!(spooled(&spool), 0);
}

#[test]
fn full_server_disk_delays_rows() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let small = Small::at(directory.path().join("small"), "64m");
    let setup = Setup {
        data: Some(small.0.clone()),
        ..Setup::default()
    };
    let Some(server) = server(directory.path(), setup) else {
        return;
    };
    let spool = directory.path().join("spool");
    let writer = Writer::start(config(&server.url(), &spool), "web-1");
    writer.send(0..1000);
    writer.wait_for(1000);
    let ballast = small.fill();
    writer.send(1000..3000);
    let reported = writer.trouble("fleet", "strerror: No space left on device");
    assert!(
        reported.contains("retrying: server returned status 500: Code: 75"),
        "{reported}"
    );
    assert!(
        reported.ends_with(&format!("findings wait in {}", spool.display())),
        "{reported}"
    );
    refused(directory.path(), 3);
    assert_eq!(writer.counts.now()[2..], [1000, 0]);
    assert!(spooled(&spool) > 0);
    fs::remove_file(ballast).unwrap();
    writer.wait_for(3000);
    writer.assert_well();
    writer.end();
    assert_eq!(counted(&server), (3000, 3000));
    assert_eq!(spooled(&spool), 0);
}

/// Waits until a server has refused rows this often for lack of space.
fn refused(directory: &Path, times: usize) {
    eventually("failed attempts", || {
        let log = fs::read_to_string(directory.join("log")).unwrap();
        (log.matches("No space left on device").count() >= times).then_some(())
    });
}

#[test]
fn partial_insert_is_completed() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(mut server) = server(directory.path(), Setup::default()) else {
        return;
    };
    // Only the hourly rollup is on the full disk: a view that is filled after the rows are stored.
    server.kill();
    let hours = directory.path().join("data/data/fdwatch/signature_hours");
    let kept = directory.path().join("kept");
    copy(&hours, &kept);
    let small = Small::at(hours.clone(), "64k");
    copy(&kept.join("."), &hours);
    server.restart();
    let spool = directory.path().join("spool");
    let writer = Writer::start(config(&server.url(), &spool), "web-1");
    writer.send(0..2000);
    writer.trouble(
        "fleet",
        "while pushing to view fdwatch.signature_hours_view",
    );
    refused(directory.path(), 2);
    // The rows are stored already, but the server reports an error.
    let rows = server.query("SELECT count() FROM fdwatch.findings");
    assert!(rows.trim().parse::<u64>().unwrap() > 0);
    assert_eq!(
        server.query("SELECT count() FROM fdwatch.signature_hours"),
        "0\n"
    );
    assert_eq!(writer.counts.now()[2..], [0, 0]);
    small.resize("64m");
    writer.wait_for(2000);
    writer.assert_well();
    writer.end();
    assert_eq!(counted(&server), (2000, 2000));
    server.kill();
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("/bin/cp");
    let done = command.arg("-a").arg(from).arg(to).status();
    assert!(done.is_ok_and(|it| it.success()), "{}", from.display());
}

/// Number of killed writers, and of rows that each writes before.
const LIVES: u64 = 12;
const ROWS: u64 = 3000;

const STRACE: &str = "/usr/bin/strace";

/// Environment variable with the URL, spool and first row for the writer to be killed.
const WRITER: &str = "FDWATCH_TO_BE_KILLED";

#[test]
#[ignore = "run by the next test in a separate process"]
fn child_writes_to_spool_until_killed() {
    let Ok(arguments) = env::var(WRITER) else {
        return;
    };
    let arguments: Vec<_> = arguments.split(' ').collect();
    let &[url, spool, first] = &arguments[..] else {
        panic!("malformed {WRITER}: {arguments:?}");
    };
    let first: u64 = first.parse().unwrap();
    let writer = Writer::start(config(url, Path::new(spool)), "web-1");
    for part in 0..3 {
        writer.send(first + part * ROWS / 3..first + (part + 1) * ROWS / 3);
        thread::sleep(Duration::from_millis(90));
    }
    // Until it is killed.
    thread::sleep(DEADLINE);
}

#[test]
fn spooled_rows_survive_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path(), Setup::default()) else {
        return;
    };
    if !program(STRACE) {
        return;
    }
    let spool = directory.path().join("spool");
    let mut kept = Vec::new();
    let mut torn = 0;
    let mut segments = 0;
    for life in 0..LIVES {
        // Killed between the two writes of a frame, at any moment, or while rows arrive.
        let (is_between, is_any) = (life % 4 == 0, life % 4 == 1);
        let mut command = Command::new(STRACE);
        if is_between {
            let next = spool.join(format!("{segments:016x}.spool"));
            command
                .args(["-f", "-o", "/dev/null", "-e", "trace=write", "-P"])
                .arg(next)
                .args(["-e", "inject=write:signal=KILL:when=4"])
                .arg(env::current_exe().unwrap());
        } else {
            command = Command::new(env::current_exe().unwrap());
        }
        command
            .args([
                "--exact",
                "faults::child_writes_to_spool_until_killed",
                "--ignored",
            ])
            .env(
                WRITER,
                format!("{} {} {}", server.url(), spool.display(), life * ROWS),
            )
            .stdout(Stdio::null());
        let mut writer = Guard::spawn(&mut command);
        if is_between {
            writer.wait();
        } else {
            thread::sleep(Duration::from_millis(50 + life * 73 % 300));
            let before = spooled(&spool);
            let patience = Instant::now() + Duration::from_millis(500);
            while !is_any && spooled(&spool) <= before && Instant::now() < patience {}
            writer.kill();
        }
        let (numbers, is_torn, next) = in_spool(&spool, &directory.path().join("copy"));
        assert!(is_torn || !is_between, "frame is complete");
        torn += u64::from(is_torn);
        segments = next;
        kept.extend(numbers);
    }
    println!(
        "{torn} of {LIVES} were killed in the middle of a frame; {} rows were left",
        kept.len()
    );
    // A writer that is not killed sends the rows of the others.
    let writer = Writer::start(config(&server.url(), &spool), "web-1");
    writer.send(LIVES * ROWS..LIVES * ROWS + 1);
    eventually("an empty spool", || (spooled(&spool) == 0).then_some(()));
    writer.assert_well();
    writer.end();
    let text = server.query("SELECT DISTINCT number FROM fdwatch.findings ORDER BY number");
    let there: Vec<u64> = text.lines().map(|it| it.parse().unwrap()).collect();
    let lost = kept.iter().find(|it| there.binary_search(it).is_err());
    assert_eq!(lost, None, "{}", kept.len());
    // Only the last row of each writer may be missing.
    for life in 0..LIVES {
        let of_life = there.iter().filter(|it| *it / ROWS == life);
        let expected = life * ROWS..life * ROWS + of_life.clone().count() as u64;
        assert!(
            of_life.copied().eq(expected),
            "gaps in the rows of writer {life}"
        );
    }
    let all = there.len() as u64;
    assert_eq!(counted(&server), (all, all));
}

/// Returns the row numbers in a spool, whether the last frame is torn, and the number of the next segment.
fn in_spool(spool: &Path, place: &Path) -> (Vec<u64>, bool, u64) {
    let _ = fs::remove_dir_all(place);
    copy(spool, place);
    let (numbers, _) = drained(place);
    let entries = fs::read_dir(spool).unwrap().flatten();
    let mut segments: Vec<_> = entries.map(|it| it.path()).collect();
    segments.retain(|it| it.extension().is_some());
    let Some(last) = segments.iter().max() else {
        return (numbers, false, 0);
    };
    copy(last, place);
    let (_, damaged) = drained(place);
    let name = last.file_stem().unwrap().to_str().unwrap();
    let number = u64::from_str_radix(name, 16).unwrap();
    (numbers, damaged > 0, number + 1)
}

/// Removes everything from a spool: returns the numbers of its rows and the count of damaged bytes.
fn drained(spool: &Path) -> (Vec<u64>, u64) {
    let mut spool = Spool::open(spool, 64 << 20).unwrap();
    let mut numbers = Vec::new();
    while let Some(batch) = spool.next(1 << 20).unwrap() {
        for line in batch.lines.split(|it| *it == b'\n') {
            let row = serde_json::from_slice::<serde_json::Value>(line).unwrap_or_default();
            numbers.extend(row["number"].as_u64());
        }
        spool.done(&batch).unwrap();
    }
    (numbers, spool.losses.damaged)
}
