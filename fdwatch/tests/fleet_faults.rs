//! Nothing is lost on the way to the fleet's server, and nothing counted twice, whatever breaks.

#![allow(clippy::unwrap_used, reason = "what helps tests may fail as these do")]

mod common;

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

use crate::exporter::spool::Spool;
use common::{
    Guard,
    clickhouse::Setup,
    eventually,
    fleet::{Small, Writer, config, counted, server, spooled},
};

/// Lets connections through to a port, and cuts each after a while: one in the middle of a request, the
/// next when the server has answered and before that is passed on.
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
    let (mut asked, mut answers, mut idle) = (0, 0, 0);
    loop {
        if let Ok(length) = from.read(&mut buffer) {
            asked += length;
            // In the middle of what is sent.
            if length == 0 || (number.is_multiple_of(2) && asked > 20_000) {
                cuts.fetch_add(usize::from(length > 0), Ordering::Relaxed);
                return;
            }
            if server.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
        match server.read(&mut buffer) {
            // The server has it, and no one is told.
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
fn nothing_is_lost_or_counted_twice_though_servers_die_and_connections_are_cut() {
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
        writer.tell(part * 500..(part + 1) * 500);
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
    assert!(cuts.load(Ordering::Relaxed) > 0, "nothing was cut");
    assert_eq!(counted(&server), (10_000, 10_000));
}

#[test]
fn what_a_full_disk_does_not_take_waits_in_memory_for_the_server() {
    if !common::root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(mut server) = server(directory.path(), Setup::default()) else {
        return;
    };
    let small = Small::at(directory.path().join("small"), "256k");
    let spool = small.0.join("spool");
    let writer = Writer::start(config(&server.url(), &spool), "web-1");
    // There is little room, and the server is there.
    writer.tell(0..5000);
    writer.wait_for(5000);
    eventually("an empty spool", || (spooled(&spool) == 0).then_some(()));
    // There is none, and it is not.
    server.kill();
    let ballast = small.fill();
    for part in 10..20 {
        writer.tell(part * 500..(part + 1) * 500);
        thread::sleep(Duration::from_millis(150));
    }
    let told = writer.trouble("fleet.spool", "No space left on device");
    assert!(told.contains("kept in memory, up to 8 MiB"), "{told}");
    writer.trouble("fleet", "cannot speak to 127.0.0.1");
    server.restart();
    writer.wait_for(10_000);
    // Each was sent once.
    assert_eq!(writer.counts.now()[2], 10_000);
    // There is room, and a spool again with the next rows.
    fs::remove_file(ballast).unwrap();
    writer.tell(10_000..10_001);
    writer.wait_for(10_001);
    writer.assert_well();
    writer.end();
    assert_eq!(counted(&server), (10_001, 10_001));
    assert_eq!(spooled(&spool), 0);
}

#[test]
fn rows_wait_while_the_servers_disk_is_full() {
    if !common::root() {
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
    writer.tell(0..1000);
    writer.wait_for(1000);
    let ballast = small.fill();
    writer.tell(1000..3000);
    let told = writer.trouble("fleet", "strerror: No space left on device");
    assert!(
        told.contains("go on trying: the server refuses (500): Code: 75"),
        "{told}"
    );
    assert!(
        told.ends_with(&format!("findings wait in {}", spool.display())),
        "{told}"
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

/// Waits until a server has refused rows so often, for want of space.
fn refused(directory: &Path, times: usize) {
    eventually("tries that fail", || {
        let log = fs::read_to_string(directory.join("log")).unwrap();
        (log.matches("No space left on device").count() >= times).then_some(())
    });
}

#[test]
fn rows_that_came_into_some_tables_alone_come_into_all() {
    if !common::root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(mut server) = server(directory.path(), Setup::default()) else {
        return;
    };
    // The hours' numbers alone are on a disk that is full: a view that is filled after the rows are there.
    server.kill();
    let hours = directory.path().join("data/data/fdwatch/signature_hours");
    let kept = directory.path().join("kept");
    copy(&hours, &kept);
    let small = Small::at(hours.clone(), "64k");
    copy(&kept.join("."), &hours);
    server.restart();
    let spool = directory.path().join("spool");
    let writer = Writer::start(config(&server.url(), &spool), "web-1");
    writer.tell(0..2000);
    writer.trouble(
        "fleet",
        "while pushing to view fdwatch.signature_hours_view",
    );
    refused(directory.path(), 2);
    // These are there already, and yet they are not taken.
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

/// How often a writer is killed, and how many rows each has before that.
const LIVES: u64 = 12;
const ROWS: u64 = 3000;

const STRACE: &str = "/usr/bin/strace";

/// Where a writer that is to be killed finds what it is to do: URL, spool, and its first row.
const TO_BE_KILLED: &str = "FDWATCH_TO_BE_KILLED";

#[test]
#[ignore = "is what the next one runs, as a process of its own"]
fn a_writer_to_be_killed() {
    let Ok(orders) = env::var(TO_BE_KILLED) else {
        return;
    };
    let orders: Vec<_> = orders.split(' ').collect();
    let &[url, spool, first] = &orders[..] else {
        panic!("these are no orders: {orders:?}");
    };
    let first: u64 = first.parse().unwrap();
    let writer = Writer::start(config(url, Path::new(spool)), "web-1");
    for part in 0..3 {
        writer.tell(first + part * ROWS / 3..first + (part + 1) * ROWS / 3);
        thread::sleep(Duration::from_millis(90));
    }
    // Until it is killed.
    thread::sleep(common::DEADLINE);
}

#[test]
fn of_a_writer_that_is_killed_nothing_is_lost_that_was_in_its_spool() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path(), Setup::default()) else {
        return;
    };
    if !common::program(STRACE) {
        return;
    }
    let spool = directory.path().join("spool");
    let mut kept = Vec::new();
    let mut torn = 0;
    let mut segments = 0;
    for life in 0..LIVES {
        // Killed between the two writes of a frame, at any moment, or just when there is more.
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
            .args(["--exact", "a_writer_to_be_killed", "--ignored"])
            .env(
                TO_BE_KILLED,
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
        assert!(is_torn || !is_between, "not in the middle of a frame");
        torn += u64::from(is_torn);
        segments = next;
        kept.extend(numbers);
    }
    println!(
        "{torn} of {LIVES} were killed in the middle of a frame; {} rows were left",
        kept.len()
    );
    // One that is not killed sends what the others left.
    let writer = Writer::start(config(&server.url(), &spool), "web-1");
    writer.tell(LIVES * ROWS..LIVES * ROWS + 1);
    eventually("an empty spool", || (spooled(&spool) == 0).then_some(()));
    writer.assert_well();
    writer.end();
    let text = server.query("SELECT DISTINCT number FROM fdwatch.findings ORDER BY number");
    let there: Vec<u64> = text.lines().map(|it| it.parse().unwrap()).collect();
    let lost = kept.iter().find(|it| there.binary_search(it).is_err());
    assert_eq!(lost, None, "{}", kept.len());
    // What each had in its hands when it was killed is the last of its rows, and no other.
    for life in 0..LIVES {
        let of_life = there.iter().filter(|it| *it / ROWS == life);
        let expected = life * ROWS..life * ROWS + of_life.clone().count() as u64;
        assert!(of_life.copied().eq(expected), "holes in what {life} wrote");
    }
    let all = there.len() as u64;
    assert_eq!(counted(&server), (all, all));
}

/// The numbers of rows in a spool, whether the last is torn, and which segment will be the next.
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

/// Takes all out of a spool: the numbers of its rows, and bytes of it that were none.
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
