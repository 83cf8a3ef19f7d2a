//! Growing descriptor tables.

use std::{thread, time::Duration};

use fdwatch_test_support::{Log, Puppet, Watch, bpf};

use super::alone;

#[test]
fn growth_is_reported_before_the_limit() {
    /// Files that are opened per second.
    const PER_SECOND: u32 = 4;
    const LIMIT: u32 = 400;
    if !bpf() {
        return;
    }
    let _alone = alone();
    let log = Log::create();
    let mut puppet = Puppet::start();
    puppet.exec(&format!(
        "resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))"
    ));
    puppet.exec("held = [libc.dup(0) for _ in range(150)]");
    puppet.exec(&format!(
        "import threading, time\n\
         def leak():\n    \
             for i in range(1000):\n        \
                 [os.open({:?} + str([i, j]), os.O_CREAT) for j in range({PER_SECOND})]\n        \
                 time.sleep(1)\n\
         thread = threading.Thread(target=leak, daemon=True)",
        log.glob(),
    ));
    let mut watch = Watch::of(puppet.pid(), &["--severity", "critical"]);
    puppet.exec("thread.start()");
    let grows = watch.next_of("growth");
    assert_eq!(grows["change"], "found");
    assert_eq!(grows["severity"], "critical");
    assert_eq!(grows["process"]["pid"], puppet.pid());
    assert_eq!(grows["limit"], LIMIT);
    let open = grows["open"].as_u64().unwrap_or_default();
    assert!((200..=u64::from(LIMIT)).contains(&open), "{grows}");
    // Growth is counted by origin, and only opens are counted.
    let more = grows["more_by_origin"].as_object().expect("not counted");
    assert!(
        more.contains_key("openat") && !more.contains_key("dup"),
        "{grows}"
    );
    let hourly = grows["per_hour"].as_u64().unwrap_or_default();
    let expected = u64::from(PER_SECOND) * 3600;
    assert!((expected / 2..expected * 2).contains(&hourly), "{grows}");
    let left = grows["seconds_left"].as_f64().unwrap_or_default();
    assert!(left > 0.0 && left < 200.0, "{grows}");
    puppet.kill();
    thread::sleep(Duration::from_millis(100));
    watch.end().assert_counts(0, 0, 0);
}
