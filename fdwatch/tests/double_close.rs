//! Numbers that are closed again though they are not open.

mod common;

use common::{Log, Puppet, Watch, procfs};

#[test]
fn what_another_thread_has_closed_and_its_owner_closes_again_is_told_with_both() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let other = log.directory.path().join("other");
    std::fs::write(&other, "").expect("a file can be written");
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    let fd = puppet.open(&log.path, "RDONLY");
    puppet.tell(&format!(
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
    // The other thread's: it still has the number when that is another file's.
    puppet.tell("by_other()");
    let again = puppet.open(&other, "WRONLY");
    assert_eq!(again, fd);
    puppet.tell("by_other()");
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
    watch.end().assert_told(1, 0, 0);
}

#[test]
fn loops_that_close_all_there_could_be_are_not_counted_and_what_is_alone_is() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let watch = Watch::start(&["--detail", "never", "--path", log.glob()]);
    // With some that are open between.
    puppet.tell("held = [libc.dup(0) for _ in range(3)]");
    puppet.tell("for fd in range(3, 2000): libc.close(fd)");
    puppet.tell("for fd in range(1999, 200, -1): libc.close(fd)");
    puppet.tell("[libc.close(-1) for _ in range(5)]");
    for fd in [500, 900] {
        puppet.tell(&format!("libc.close({fd})"));
    }
    // That which is alone is known to be so after a while.
    std::thread::sleep(std::time::Duration::from_millis(600));
    let ended = watch.end();
    let counted = ended.summary["closed_unopened"].as_u64();
    // Others on the host may do so, too; the loops alone are thousands.
    assert!((Some(2)..Some(100)).contains(&counted), "{}", ended.summary);
    ended.assert_told(0, 0, 0);
}
