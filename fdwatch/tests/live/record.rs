//! Recordings: who can read them, and what they reveal.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    process::Stdio,
};

use fdwatch_common::Event;
use fdwatch_core::recording::{Frame, Player};
use fdwatch_test_support::{Finished, Guard, Log, Puppet, bpf, fdwatch, lines::Lines, run};

/// Records for a moment.
fn record(file: &Path) -> Finished {
    let mut command = fdwatch(["record", "--duration", "100ms"]);
    command.arg(file);
    run(command)
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("no file").mode() & 0o7777
}

#[test]
fn recording_is_private() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let file = directory.path().join("new.fdw");
    let recorded = record(&file);
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
    assert_eq!(mode(&file), 0o600);

    // An earlier file of the same user is overwritten, and becomes private.
    let mut long = fs::read(&file).expect("cannot read");
    long.resize(1 << 24, 0);
    fs::write(&file, &long).expect("cannot write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("not its owner");
    let recorded = record(&file);
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
    assert_eq!(mode(&file), 0o600);
    let replayed = run(fdwatch(["replay", file.to_str().expect("not UTF-8")]));
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
}

#[test]
fn placed_file_is_not_overwritten() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("target"), "kept").expect("cannot write");
    symlink(at("target"), at("link")).expect("cannot link");
    symlink(at("missing"), at("dangling")).expect("cannot link");
    fs::write(at("others"), "kept").expect("cannot write");
    chown(at("others"), Some(65_534), None).expect("cannot change the owner");
    for (name, reason) in [
        ("link", "it is a symbolic link"),
        ("dangling", "it is a symbolic link"),
        ("others", "not a regular file of this user"),
        ("/dev/null", "not a regular file of this user"),
    ] {
        let refused = record(&at(name));
        let error = refused.error();
        assert!(error.contains(reason), "{error}");
        assert!(
            error.contains("\nhelp: remove it, or use another path"),
            "{error}"
        );
    }
    assert!(!at("missing").exists());
    for name in ["target", "others"] {
        assert_eq!(fs::read(at(name)).expect("no file"), b"kept");
    }
}

#[test]
fn recording_has_no_kernel_addresses() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let file = log.directory.path().join("new.fdw");
    let mut command = fdwatch(["record"]);
    command.arg(&file).stderr(Stdio::piped());
    let mut recording = Guard::spawn(&mut command);
    let message = Lines::of(recording.0.stderr.take().expect("the pipe was requested"));
    assert!(message.next().is_some_and(|line| line.contains("watching")));
    let held = [(); 3].map(|()| puppet.open(&log.path, "WRONLY|APPEND"));
    let child = puppet.number("os.fork() or signal.pause()");
    puppet.close(held[2]);
    recording.signal(libc::SIGINT);
    assert_eq!(recording.wait(), Some(0));
    puppet.exec(&format!("os.kill({child}, 9)"));

    let mut player = Player::new(fs::File::open(&file).expect("no file")).expect("no recording");
    loop {
        let (frame, _) = player.next_frame().expect("damaged");
        if frame == Frame::End {
            break;
        }
        let checked = player.records(|record| {
            // These have bitmaps of descriptors, which may look like addresses.
            if let Ok(Event::TableBits(_) | Event::Exec(_)) = Event::parse(record) {
                return;
            }
            for word in record.chunks_exact(8) {
                let word = u64::from_ne_bytes(word.try_into().expect("8 bytes"));
                // The kernel's half of the address space.
                assert_ne!(word >> 47, 0x1_ffff, "{word:#x} in {record:x?}");
            }
        });
        checked.expect("damaged");
    }

    let replayed = run(fdwatch([
        "replay",
        "--json",
        file.to_str().expect("not UTF-8"),
    ]));
    let lines = replayed.json();
    let mut findings = lines.iter().filter(|line| line["type"] == "finding");
    let found = findings.find(|finding| finding["process"]["pid"] == puppet.pid());
    assert_eq!(found.expect("no finding")["change"], "found");
    let summary = lines.last().expect("no summary");
    assert_eq!(summary["malformed"], 0, "{summary}");
    assert_eq!(summary["drift"]["missing"], 0, "{summary}");
}
