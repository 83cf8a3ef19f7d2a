//! Closes of descriptors that are not open.

use fdwatch_test_support::{Log, Puppet, Watch, bpf, procfs};

#[test]
fn double_close_names_both_threads() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let other = log.directory.path().join("other");
    std::fs::write(&other, "").expect("cannot write a file");
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    let fd = puppet.open(&log.path, "RDONLY");
    puppet.exec(&format!(
        "import threading\n\
         def close():\n    \
             global tid\n    \
             tid = threading.get_native_id()\n    \
             libc.close({fd})\n\
         def by_other():\n    \
             thread = threading.Thread(target=close)\n    \
             thread.start()\n    \
             thread.join()"
    ));
    // The other thread closes the descriptor, and closes its number again when it refers to another file.
    puppet.exec("by_other()");
    let again = puppet.open(&other, "WRONLY");
    assert_eq!(again, fd);
    puppet.exec("by_other()");
    let tid = puppet.number("tid");
    assert_eq!(puppet.number(&format!("libc.close({fd}) + 1")), 0);
    let found = watch.finding("found");
    assert_eq!(found["cause"], "double-close");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["process"]["pid"], puppet.pid());
    assert_eq!(procfs::numbers(&found["fds"]), [0; 0]);
    assert_eq!(found["closed"].as_array().map(Vec::len), Some(2), "{found}");
    let [before, first] = [&found["closed"][0], &found["closed"][1]];
    assert_eq!([&before["fd"], &first["fd"]], [fd, fd]);
    assert_eq!(before["access"], "r");
    assert_eq!(first["access"], "w");
    assert_eq!(first["origin"], "openat");
    assert_eq!(first["tid"], puppet.pid());
    assert_eq!(first["closed_by"], tid);
    assert_eq!(first["asked_path"], other.to_str().unwrap_or_default());
    assert_eq!(found["file"]["path"], first["asked_path"]);
    for stack in ["stack", "closed_stack"] {
        let frames = first[stack].as_array().map_or(0, Vec::len);
        assert!(frames > 0, "{first}");
    }
    assert_eq!(found["closed_again"]["tid"], puppet.pid());
    assert!(found["closed_again"]["stack"].is_array(), "{found}");
    watch.end().assert_counts(1, 0, 0);
}

#[test]
fn closing_loops_are_no_double_close() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let watch = Watch::start(&["--detail", "never", "--path", log.glob()]);
    // With some open ones in between.
    puppet.exec("held = [libc.dup(0) for _ in range(3)]");
    puppet.exec("for fd in range(3, 2000): libc.close(fd)");
    puppet.exec("for fd in range(1999, 200, -1): libc.close(fd)");
    puppet.exec("[libc.close(-1) for _ in range(5)]");
    for fd in [500, 900] {
        puppet.exec(&format!("libc.close({fd})"));
    }
    // A single one is reported after a short delay.
    std::thread::sleep(std::time::Duration::from_millis(600));
    let ended = watch.end();
    let counted = ended.summary["closed_unopened"].as_u64();
    // Other processes may close invalid numbers too, but the loops alone do so thousands of times.
    assert!((Some(2)..Some(100)).contains(&counted), "{}", ended.summary);
    ended.assert_counts(0, 0, 0);
}
