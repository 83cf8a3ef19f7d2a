//! Removal of the BPF programs from the kernel when a watch ends: they first stop by themselves, then they
//! are unloaded. The time is printed, not asserted.

use std::{fs, time::Instant};

use fdwatch_common::Event;
use fdwatch_probe::{Options, Probe};
use fdwatch_test_support::{Puppet, Watch, bpf, eventually};

/// Ids of BPF objects of one kind.
struct Ids {
    /// Name of the id in a descriptor's fdinfo.
    field: &'static str,
    /// Command that returns the next id: include/uapi/linux/bpf.h.
    next: libc::c_long,
    ids: Vec<u32>,
}

impl Ids {
    /// Reads the ids of the objects that a process has open.
    fn of(pid: u32, field: &'static str, next: libc::c_long) -> Self {
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("missing");
        let mut ids = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines = info.lines().filter_map(|line| line.strip_prefix(field));
            ids.extend(lines.filter_map(|id| id.trim().parse::<u32>().ok()));
        }
        ids.sort_unstable();
        ids.dedup();
        Self { field, next, ids }
    }

    fn programs(pid: u32) -> Self {
        const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
        Self::of(pid, "prog_id:", BPF_PROG_GET_NEXT_ID)
    }

    fn links(pid: u32) -> Self {
        const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
        Self::of(pid, "link_id:", BPF_LINK_GET_NEXT_ID)
    }

    fn exists(&self, id: u32) -> bool {
        // Start id, next id, flags.
        let mut attributes = [id - 1, 0, 0];
        // SAFETY: the kernel accesses no more bytes than the given size.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                self.next,
                &raw mut attributes,
                size_of_val(&attributes),
            )
        };
        result == 0 && attributes[1] == id
    }

    /// Waits until the kernel has none of them.
    fn wait_until_gone(&self, since: Instant) {
        eventually(&format!("the removal of each {}", self.field), || {
            let is_left = self.ids.iter().any(|&id| self.exists(id));
            (!is_left).then_some(())
        });
        let (count, took) = (self.ids.len(), since.elapsed());
        println!("{} {count} gone after {took:?}", self.field);
    }
}

fn nothing_is_left_after(end: impl FnOnce(Watch)) {
    if !bpf() {
        return;
    }
    let watch = Watch::start(&[]);
    let (programs, links) = (Ids::programs(watch.pid()), Ids::links(watch.pid()));
    // Tracepoints of process life are links on all kernels.
    assert!(links.ids.len() >= 3, "{:?}", links.ids);
    assert!(programs.ids.len() > 3, "{:?}", programs.ids);
    assert!(programs.ids.iter().all(|&id| programs.exists(id)));
    assert!(links.ids.iter().all(|&id| links.exists(id)));
    let since = Instant::now();
    end(watch);
    println!("ended after {:?}", since.elapsed());
    links.wait_until_gone(since);
    programs.wait_until_gone(since);
}

#[test]
fn interrupted_watch_unloads_programs() {
    nothing_is_left_after(|watch| {
        watch.signal(libc::SIGINT);
        assert_eq!(watch.ended().code, Some(0));
    });
}

#[test]
fn terminated_watch_unloads_programs() {
    nothing_is_left_after(|watch| {
        watch.signal(libc::SIGTERM);
        assert_eq!(watch.ended().code, Some(0));
    });
}

#[test]
fn killed_watch_unloads_programs() {
    // SIGKILL, as on drop.
    nothing_is_left_after(drop);
}

/// Statements that cause each kind of record.
const STATEMENTS: &str = "
import array, fcntl, socket
a = os.open('/dev/null', os.O_RDONLY)
b = os.dup(a)
os.set_inheritable(b, True)
fcntl.fcntl(b, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
c = fcntl.fcntl(b, fcntl.F_DUPFD, 50)
os.close(a)
os.close(b)
os.close(c)
r, w = os.pipe()
os.close(r)
os.close(w)
one, other = socket.socketpair()
socket.send_fds(one, [b'x'], [0])
os.close(socket.recv_fds(other, 1, 1)[1][0])
one.close()
other.close()
child = os.fork()
if child == 0:
    os.execv('/bin/true', ['true'])
os.waitpid(child, 0)
";

#[test]
fn stopped_programs_write_no_record() {
    if !bpf() {
        return;
    }
    let mut puppet = Puppet::start();
    let mut probe = Probe::load(Options::default()).unwrap();
    probe.attach().unwrap();
    assert!(count_records(&mut probe, &mut puppet) >= 15);
    probe.stop().unwrap();
    assert_eq!(count_records(&mut probe, &mut puppet), 0);
    // Other requests do not restart them.
    probe.set_detail(puppet.pid(), true).unwrap();
    probe.follow(puppet.pid(), false).unwrap();
    probe.follow(puppet.pid(), true).unwrap();
    assert_eq!(count_records(&mut probe, &mut puppet), 0);
    probe.detach();
}

/// Counts records about the puppet and its children.
fn count_records(probe: &mut Probe, puppet: &mut Puppet) -> usize {
    // Records from before.
    probe.drain(usize::MAX, |_| ());
    puppet.exec(STATEMENTS);
    let mut family = vec![puppet.pid()];
    let mut reported = 0;
    probe.drain(usize::MAX, |record| {
        let event = Event::parse(record).expect("unknown");
        if let Event::Fork(fork) = event
            && family.contains(&fork.parent_tgid)
        {
            family.push(fork.header.tgid);
        }
        reported += usize::from(family.contains(&event.header().tgid));
    });
    reported
}
