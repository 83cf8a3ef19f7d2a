//! How fdwatch's programs leave the kernel: at once by what they do, and then altogether, whatever
//! ends the watch. How long that takes is printed, and decides nothing.

mod common;

use std::{fs, time::Instant};

use common::{Puppet, Watch, eventually};
use fdwatch_common::Event;
use fdwatch_probe::{Options, Probe};

/// Numbers of what BPF knows as one kind of thing.
struct Ids {
    /// How one of them is called in a descriptor's fdinfo.
    field: &'static str,
    /// Which command looks for the next: include/uapi/linux/bpf.h.
    next: libc::c_long,
    ids: Vec<u32>,
}

impl Ids {
    /// Those that the process holds by descriptors.
    fn of(pid: u32, field: &'static str, next: libc::c_long) -> Self {
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it is there");
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

    fn is_there(&self, id: u32) -> bool {
        // Where to start, what came next, and flags.
        let mut attributes = [id - 1, 0, 0];
        // SAFETY: the kernel reads and writes as many bytes as it is told there are.
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

    /// Waits until the kernel knows none of them.
    fn wait_until_gone(&self, since: Instant) {
        eventually(&format!("the end of each {}", self.field), || {
            let is_left = self.ids.iter().any(|&id| self.is_there(id));
            (!is_left).then_some(())
        });
        let (count, took) = (self.ids.len(), since.elapsed());
        println!("{} {count} gone after {took:?}", self.field);
    }
}

fn nothing_is_left_after(end: impl FnOnce(Watch)) {
    if !common::bpf() {
        return;
    }
    let watch = Watch::start(&[]);
    let (programs, links) = (Ids::programs(watch.pid()), Ids::links(watch.pid()));
    // Those on the life of processes are links on all kernels.
    assert!(links.ids.len() >= 3, "{:?}", links.ids);
    assert!(programs.ids.len() > 3, "{:?}", programs.ids);
    assert!(programs.ids.iter().all(|&id| programs.is_there(id)));
    assert!(links.ids.iter().all(|&id| links.is_there(id)));
    let since = Instant::now();
    end(watch);
    println!("ended after {:?}", since.elapsed());
    links.wait_until_gone(since);
    programs.wait_until_gone(since);
}

#[test]
fn an_interrupted_watch_leaves_no_program_behind() {
    nothing_is_left_after(|watch| {
        watch.signal(libc::SIGINT);
        assert_eq!(watch.ended().code, Some(0));
    });
}

#[test]
fn a_terminated_watch_leaves_no_program_behind() {
    nothing_is_left_after(|watch| {
        watch.signal(libc::SIGTERM);
        assert_eq!(watch.ended().code, Some(0));
    });
}

#[test]
fn a_killed_watch_leaves_no_program_behind() {
    // Which is how it is dropped.
    nothing_is_left_after(drop);
}

/// Each kind of thing that programs tell of.
const DOINGS: &str = "
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
fn programs_that_are_stopped_tell_nothing() {
    if !common::bpf() {
        return;
    }
    let mut puppet = Puppet::start();
    let mut probe = Probe::load(Options::default()).unwrap();
    probe.attach().unwrap();
    assert!(told(&mut probe, &mut puppet) >= 15);
    probe.stop().unwrap();
    assert_eq!(told(&mut probe, &mut puppet), 0);
    // Whatever else is asked of them.
    probe.detail_of(puppet.pid(), true).unwrap();
    probe.follow(puppet.pid(), false).unwrap();
    probe.follow(puppet.pid(), true).unwrap();
    assert_eq!(told(&mut probe, &mut puppet), 0);
    probe.detach();
}

/// How many records there are of what the puppet and its children do.
fn told(probe: &mut Probe, puppet: &mut Puppet) -> usize {
    // What was told before.
    probe.drain(usize::MAX, |_| ());
    puppet.tell(DOINGS);
    let mut family = vec![puppet.pid()];
    let mut told = 0;
    probe.drain(usize::MAX, |record| {
        let event = Event::parse(record).expect("it is one of ours");
        if let Event::Fork(fork) = event
            && family.contains(&fork.parent_tgid)
        {
            family.push(fork.header.tgid);
        }
        told += usize::from(family.contains(&event.header().tgid));
    });
    told
}
