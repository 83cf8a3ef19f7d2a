//! Tables that become larger and larger, until nothing is left.

mod common;

use std::{thread, time::Duration};

use common::{Log, Puppet, Watch};

#[test]
fn a_process_that_runs_out_of_descriptors_is_told_before_it_has() {
    /// Files that are opened each second, of those it may have.
    const EACH: u32 = 4;
    const LIMIT: u32 = 400;
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    puppet.tell(&format!(
        "resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))"
    ));
    puppet.tell("held = [libc.dup(0) for _ in range(150)]");
    puppet.tell(&format!(
        "import threading, time\n\
         def leak():\n    \
             for i in range(1000):\n        \
                 [os.open({:?} + str([i, j]), os.O_CREAT) for j in range({EACH})]\n        \
                 time.sleep(1)\n\
         thread = threading.Thread(target=leak, daemon=True)",
        log.glob(),
    ));
    let mut watch = Watch::of(puppet.pid(), &["--severity", "critical"]);
    puppet.tell("thread.start()");
    let grows = watch.next_of("growth");
    assert_eq!(grows["change"], "found");
    assert_eq!(grows["severity"], "critical");
    assert_eq!(grows["process"]["pid"], puppet.pid());
    assert_eq!(grows["limit"], LIMIT);
    let open = grows["open"].as_u64().unwrap_or_default();
    assert!((200..=u64::from(LIMIT)).contains(&open), "{grows}");
    // What has become more is what was opened, and nothing else.
    let more = grows["more_by_origin"].as_object().expect("it is counted");
    assert!(
        more.contains_key("openat") && !more.contains_key("dup"),
        "{grows}"
    );
    let hourly = grows["per_hour"].as_u64().unwrap_or_default();
    let expected = u64::from(EACH) * 3600;
    assert!((expected / 2..expected * 2).contains(&hourly), "{grows}");
    let left = grows["seconds_left"].as_f64().unwrap_or_default();
    assert!(left > 0.0 && left < 200.0, "{grows}");
    puppet.kill();
    thread::sleep(Duration::from_millis(100));
    watch.end().assert_told(0, 0, 0);
}
