//! The kernel's side of fdwatch, as seen from userspace: loads the programs, attaches them, and
//! hands over the records of the ring. The only module that knows aya. It does not know what the
//! records mean.

mod attach;
mod btf;
mod control;
mod error;
pub mod host;
mod lost;
mod memory;
mod notes;
mod object;
mod offsets;
mod tracepoints;

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    process, thread,
    time::{Duration, Instant},
};

use self::{attach::Attached, control::Control, notes::Notes, object::Object, offsets::Kernel};
pub use self::{error::ProbeError, memory::MemoryEvents};
use aya::{
    Btf, Ebpf, EbpfLoader, Endianness,
    maps::{MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::{BtfTracePoint, Iter, TracePoint},
};
use fdwatch_common::{
    BTF_TASK, CAST, DETAIL, Header, INHERITED, LOST_KINDS, NOT_FOLLOWED, Settings, TASK_REGISTERS,
};
pub use fdwatch_core::{
    Lost,
    ring::{LARGEST_RING_BYTES, default_ring_bytes},
};

/// Whether this thread may open perf events, with the capabilities that it has now: programs are attached
/// by these. Some kernels want more for it than `CAP_PERFMON`.
#[must_use]
pub fn may_open_events() -> bool {
    attach::may_open_events()
}

/// How long a snapshot may wait for room in the ring. It is never long, but where events come faster than
/// they are read there is none, and there will be none.
const MAX_SNAPSHOT: Duration = Duration::from_secs(10);

/// How many processes something may be asked of at once, as a rule.
const ASKED_OF: u32 = 1024;

/// The same, where children inherit it: as many as there can be on a host as it is set up by default
/// (`PID_MAX_DEFAULT`, include/linux/threads.h).
pub const ASKED_OF_FAMILY: u32 = 32_768;

/// What the programs are loaded with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the ring, in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// The one process the snapshot is to be about.
    pub only_tgid: Option<u32>,
    /// How many processes something may be asked of at once.
    pub asked_of: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: default_ring_bytes(),
            only_tgid: None,
            asked_of: ASKED_OF,
        }
    }
}

/// The loaded programs and their ring.
pub struct Probe {
    ebpf: Ebpf,
    /// More records than this are not in the ring at once.
    most_records: usize,
    /// For loading; dropped when that is done, for it is large.
    btf: Option<Btf>,
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, [u64; LOST_KINDS]>,
    /// What the programs have to say in words, on rare occasions.
    notes: Notes,
    /// Holds the programs that others go on in, as long as it is there.
    continuations: Vec<ProgramArray<MapData>>,
    asked: Control,
    /// Programs see a call's arguments at its exit.
    shows_arguments: bool,
    /// What keeps the programs on syscalls attached.
    attached: Attached,
    /// What keeps the programs that tell of paths attached, while they are.
    paths: Attached,
}

impl Probe {
    /// Checks what the host allows, and loads what all programs share. The programs themselves are
    /// loaded as they are attached or run.
    ///
    /// # Errors
    ///
    /// If the host does not allow it.
    pub fn load(options: Options) -> Result<Self, ProbeError> {
        host::check_privileges()?;
        host::check_seccomp()?;
        let version = host::check_kernel()?;
        host::check_pid_namespace()?;
        host::check_lockdown()?;
        host::raise_memlock();
        let bytes = host::read_btf()?;
        let btf = Btf::parse(&bytes, Endianness::default()).map_err(|error| {
            ProbeError::UnreadableBtf {
                reason: error.to_string(),
            }
        })?;
        let kernel = Kernel::parse(bytes)?;
        let cast = kernel.cast();
        let typed = version.is_none_or(|version| version >= host::BTF_TASK_KERNEL);
        let has_registers = version.is_none_or(|version| version >= host::TASK_REGISTERS_KERNEL);
        let feature = |is_there, feature| if is_there { feature } else { 0 };
        let settings = Settings {
            offsets: kernel.offsets()?,
            casts: cast.map(|cast| cast.to).unwrap_or_default(),
            features: feature(typed, BTF_TASK)
                | feature(cast.is_some(), CAST)
                | feature(has_registers, TASK_REGISTERS),
            registers_on_stack: kernel.registers_on_stack()?,
            own_tgid: process::id(),
            only_tgid: options.only_tgid.unwrap_or(0),
            wake_at: options.ring_bytes / 16,
            pause_at: options.ring_bytes / 4,
        };
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .map_max_entries("RING", options.ring_bytes)
            .map_max_entries("PROCESSES", options.asked_of)
            .override_global("SETTINGS", settings.as_bytes(), true)
            .load(Object::new(cast.map(|cast| cast.function)).bytes())
            .map_err(|error| ProbeError::refused("to make the BPF maps", &error))?;
        let ring = take_map(&mut ebpf, "RING")?;
        let lost = take_map(&mut ebpf, "LOST")?;
        let notes = Notes::of(&mut ebpf)?;
        let asked = Control::new(
            take_map(&mut ebpf, ".bss.asked")?,
            take_map(&mut ebpf, "PROCESSES")?,
        );
        let continuations = tracepoints::CONTINUATIONS
            .iter()
            .map(|(_, map)| take_map(&mut ebpf, map))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            ebpf,
            most_records: options.ring_bytes as usize / size_of::<Header>(),
            btf: Some(btf),
            ring,
            lost,
            notes,
            continuations,
            asked,
            shows_arguments: has_registers && settings.offsets.registers_first != 0,
            attached: Attached::default(),
            paths: Attached::default(),
        })
    }

    /// Attaches the programs that tell of events.
    ///
    /// # Errors
    ///
    /// If the kernel refuses one, or a tracepoint is missing or of another layout.
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        self.load_continuations()?;
        self.attached = self.attach_to_syscalls(tracepoints::SYSCALLS)?;
        let btf = self.btf()?;
        for name in tracepoints::PROCESS_LIFE {
            let program: &mut BtfTracePoint = program(&mut self.ebpf, name)?;
            program
                .load(name, &btf)
                .and_then(|()| program.attach())
                .map_err(|error| ProbeError::refused(format!("the program {name}"), &error))?;
        }
        self.btf = Some(btf);
        Ok(())
    }

    /// Attaches programs that do nothing instead, to opens and closes: for benchmarks, which hold
    /// what the others cost against it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses them.
    pub fn attach_floor(&mut self) -> Result<(), ProbeError> {
        self.attached = self.attach_to_syscalls(tracepoints::FLOOR)?;
        Ok(())
    }

    /// Attaches programs for as long as what is returned is there.
    fn attach_to_syscalls(
        &mut self,
        attachments: &[tracepoints::Attachment],
    ) -> Result<Attached, ProbeError> {
        let mut all = Attached::default();
        let tracefs = host::mounted_tracefs()?;
        for attachment in attachments {
            let &tracepoints::Attachment {
                program: name,
                side,
                calls,
            } = attachment;
            let program: &mut TracePoint = program(&mut self.ebpf, name)?;
            if program.fd().is_err() {
                program
                    .load()
                    .map_err(|error| ProbeError::refused(format!("the program {name}"), &error))?;
            }
            let fd = program
                .fd()
                .map_err(|error| ProbeError::refused(format!("the program {name}"), &error))?
                .as_fd();
            let mut attached = 0;
            for call in calls {
                let tracepoint = format!("{side}_{call}");
                if !tracepoints::check(tracefs, &tracepoint)? {
                    continue;
                }
                all.attach(fd, tracefs, &tracepoint).map_err(|error| {
                    ProbeError::refused(format!("{name} on {tracepoint}"), &error)
                })?;
                attached += 1;
            }
            // close_range is of 5.9; the first of all others is everywhere.
            if attached == 0 && calls != ["close_range"] {
                return Err(ProbeError::NoTracepoint {
                    name: format!("syscalls:{side}_{}", calls[0]),
                });
            }
        }
        Ok(all)
    }

    fn load_continuations(&mut self) -> Result<(), ProbeError> {
        for ((name, _), array) in tracepoints::CONTINUATIONS
            .iter()
            .zip(&mut self.continuations)
        {
            let refused = |error: &dyn std::error::Error| {
                ProbeError::refused(format!("the program {name}"), error)
            };
            let program: &mut TracePoint = program(&mut self.ebpf, name)?;
            program.load().map_err(|error| refused(&error))?;
            let fd = program.fd().map_err(|error| refused(&error))?;
            array.set(0, fd, 0).map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    /// Has the kernel write all descriptors into the ring, among the events that happen meanwhile,
    /// and hands all of it to `on_record`, and what was in the ring at the end.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the program, or breaks off.
    pub fn snapshot(&mut self, mut on_record: impl FnMut(&[u8])) -> Result<(), ProbeError> {
        let mut file = self.snapshot_file()?;
        let mut buffer = [0; 4096];
        let mut stalls = 0;
        let began = Instant::now();
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The program waits for room in the ring.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if began.elapsed() > MAX_SNAPSHOT {
                        return Err(ProbeError::Snapshot(io::Error::new(
                            ErrorKind::TimedOut,
                            "the ring is filled faster than it is read",
                        )));
                    }
                    if self.drain_once(&mut on_record) > 0 {
                        stalls = 0;
                    } else if stalls < 1000 {
                        stalls += 1;
                        thread::yield_now();
                    } else {
                        return Err(ProbeError::Snapshot(error));
                    }
                }
                Err(error) => return Err(ProbeError::Snapshot(error)),
            }
        }
        self.drain_once(&mut on_record);
        Ok(())
    }

    fn snapshot_file(&mut self) -> Result<File, ProbeError> {
        let refused = |error: &dyn std::error::Error| {
            ProbeError::refused("the snapshot of descriptors (iter/task_file)", error)
        };
        let is_loaded = program::<Iter>(&mut self.ebpf, "snapshot")?.fd().is_ok();
        if !is_loaded {
            let btf = self.btf()?;
            let program: &mut Iter = program(&mut self.ebpf, "snapshot")?;
            program.load("task_file", &btf).map_err(|e| refused(&e))?;
            self.btf = Some(btf);
        }
        let program: &mut Iter = program(&mut self.ebpf, "snapshot")?;
        let link = program.attach().map_err(|e| refused(&e))?;
        let link = program.take_link(link).map_err(|e| refused(&e))?;
        link.into_file().map_err(|e| refused(&e))
    }

    /// Gives back the memory that only loading needs. What is loaded later reads it again.
    pub fn forget_btf(&mut self) {
        self.btf = None;
    }

    fn btf(&mut self) -> Result<Btf, ProbeError> {
        match self.btf.take() {
            Some(btf) => Ok(btf),
            None => Btf::from_sys_fs().map_err(|error| ProbeError::UnreadableBtf {
                reason: error.to_string(),
            }),
        }
    }

    /// Asks for stacks and paths of all processes.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn detail_of_all(&mut self, wanted: bool) -> Result<(), ProbeError> {
        self.asked.ask_all(wanted).map_err(ProbeError::asking)?;
        self.attach_paths_if_wanted()
    }

    /// Asks for stacks and paths of a process, or no longer.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it, or it is asked of too many.
    pub fn detail_of(&mut self, tgid: u32, wanted: bool) -> Result<(), ProbeError> {
        let asked = self.asked.ask(tgid, DETAIL, wanted);
        asked.map_err(ProbeError::asking)?;
        self.attach_paths_if_wanted()
    }

    /// Asks for stacks and paths of a process and of all that come of it, each from its first
    /// instruction on.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn detail_of_family(&mut self, tgid: u32) -> Result<(), ProbeError> {
        let asked = self.asked.ask(tgid, DETAIL | INHERITED, true);
        asked.map_err(ProbeError::asking)?;
        self.attach_paths_if_wanted()?;
        self.allow_detail(u64::MAX)
    }

    /// Allows so many more stacks and paths to be told, until the next time: what is beyond is left
    /// out, and counted.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn allow_detail(&mut self, records: u64) -> Result<(), ProbeError> {
        if self.asked.is_detail_wanted() {
            self.asked.allow(records).map_err(ProbeError::asking)?;
        }
        Ok(())
    }

    /// Asks that nothing be told of a process's descriptors, or all again.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it, or it is asked of too many.
    pub fn follow(&mut self, tgid: u32, wanted: bool) -> Result<(), ProbeError> {
        let asked = self.asked.ask(tgid, NOT_FOLLOWED, !wanted);
        asked.map_err(ProbeError::asking)
    }

    /// The programs that tell of paths are only attached while detail is wanted of anyone, for they
    /// cost every open.
    fn attach_paths_if_wanted(&mut self) -> Result<(), ProbeError> {
        let wanted = if self.shows_arguments {
            // Of the others they are told at the exits.
            self.asked.is_detail_of_one_wanted()
        } else {
            self.asked.is_detail_wanted()
        };
        if wanted && self.paths.is_empty() {
            self.paths = self.attach_to_syscalls(tracepoints::PATHS)?;
        } else if !wanted && !self.paths.is_empty() {
            let paths = std::mem::take(&mut self.paths);
            // The kernel takes its time: see the module `attach`.
            thread::Builder::new()
                .name("detach".to_owned())
                .spawn(move || drop(paths))
                .map_err(ProbeError::asking)?;
        }
        Ok(())
    }

    /// Hands all records that are in the ring now to `on_record`, and tells how many there were. It may be
    /// filled as fast as it is read: there is an end to it nonetheless.
    pub fn drain_once(&mut self, on_record: impl FnMut(&[u8])) -> usize {
        self.drain(self.most_records, on_record)
    }

    /// Hands up to `most` records to `on_record`, and tells how many there were. Does not wait.
    pub fn drain(&mut self, most: usize, mut on_record: impl FnMut(&[u8])) -> usize {
        for count in 0..most {
            match self.ring.next() {
                Some(record) => on_record(&record),
                None => return count,
            }
        }
        most
    }

    /// What the programs have said in words since the last time: nothing, as long as all is well.
    pub fn notes(&mut self) -> Vec<String> {
        self.notes.take()
    }

    /// Has the programs do nothing from here on, at once and on any kernel: the first step of
    /// detaching them. What they have told can still be read.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn stop(&mut self) -> Result<(), ProbeError> {
        self.asked.stop().map_err(ProbeError::asking)
    }

    /// Detaches without waiting for it. The programs do nothing from here on; they are out within a
    /// few grace periods of the kernel, and what the tracepoints themselves take, seconds for all of
    /// them, comes after that (the module `attach` says why). A child inherits what keeps them attached, closes what
    /// fdwatch was given by others, and does the waiting: from when this process has closed its own,
    /// for the last to close is who waits.
    pub fn detach(mut self) {
        // Refused or not: they go.
        let _ = self.stop();
        let Ok((until, open)) = io::pipe() else {
            return;
        };
        self.attached.append(std::mem::take(&mut self.paths));
        let mut release = self.attached.release();
        // SAFETY: the child calls nothing but fcntl, close, read and what `Release` does, which may
        // be called after a fork whatever other threads did.
        unsafe {
            if libc::fork() == 0 {
                libc::close(open.as_raw_fd());
                for fd in 0..MAX_GIVEN {
                    // All of its own close on exec.
                    if libc::fcntl(fd, libc::F_GETFD) == 0 {
                        libc::close(fd);
                    }
                }
                let mut byte = 0_u8;
                libc::read(until.as_raw_fd(), (&raw mut byte).cast(), 1);
                release.run();
            }
        }
        drop(self);
        drop(open);
    }
}

/// Numbers of descriptors that fdwatch may have been given, as a rule.
const MAX_GIVEN: i32 = 1024;

impl AsFd for Probe {
    /// Readable when the ring has filled up to where its reader is to be woken.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

fn take_map<T>(ebpf: &mut Ebpf, name: &str) -> Result<T, ProbeError>
where
    T: TryFrom<aya::maps::Map, Error: std::error::Error>,
{
    let map = ebpf.take_map(name).ok_or_else(|| ProbeError::Refused {
        what: format!("the map {name}"),
        reason: "it is not in the object".to_owned(),
    })?;
    T::try_from(map).map_err(|error| ProbeError::refused(format!("the map {name}"), &error))
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error: std::error::Error>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| ProbeError::Refused {
        what: format!("the program {name}"),
        reason: "it is not in the object".to_owned(),
    })?;
    program
        .try_into()
        .map_err(|error| ProbeError::refused(format!("the program {name}"), &error))
}
