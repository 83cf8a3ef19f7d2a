//! Loads and attaches the BPF programs, and reads the records of their ring. The only crate that uses
//! aya. It does not interpret records.

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

use self::{
    attach::{AttachError, Attached},
    control::Control,
    notes::Notes,
    object::Object,
    offsets::Kernel,
};
pub use self::{error::ProbeError, memory::MemoryEvents};
use aya::{
    Btf, Ebpf, EbpfLoader, Endianness,
    maps::{MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::{BtfTracePoint, Iter, TracePoint},
};
use fdwatch_common::{
    BTF_TASK, CAST, DETAIL, EXCLUDED, Header, INHERIT, LOST_KINDS, Settings, TASK_REGISTERS,
    programs::{self, SyscallProgram},
};
pub use fdwatch_core::{
    Lost,
    ring::{MAX_RING_BYTES, default_ring_bytes},
};

/// Returns whether this thread can open perf events, which attach programs, with its current
/// capabilities. Some kernels require more than `CAP_PERFMON`.
#[must_use]
pub fn may_open_events() -> bool {
    attach::may_open_events()
}

/// Maximum time that a snapshot waits for room in the ring. Waits are short, unless events arrive faster
/// than they are read.
const MAX_SNAPSHOT: Duration = Duration::from_secs(30);

/// A snapshot that is taken in parts.
pub struct Snapshot {
    file: File,
    /// Time that its parts took.
    took: Duration,
}

/// Default number of processes that can have control flags.
const DEFAULT_PROCESSES: u32 = 1024;

/// Number of processes that can have control flags when children inherit them: the default maximum
/// number of processes (`PID_MAX_DEFAULT`, include/linux/threads.h).
pub const MAX_FAMILY_PROCESSES: u32 = 32_768;

/// Options of the programs, fixed when they are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the ring in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// The only process in snapshots.
    pub only_tgid: Option<u32>,
    /// Number of processes that can have control flags.
    pub max_processes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: default_ring_bytes(),
            only_tgid: None,
            max_processes: DEFAULT_PROCESSES,
        }
    }
}

/// The loaded programs and their ring.
pub struct Probe {
    ebpf: Ebpf,
    /// Maximum number of records in the ring.
    max_records: usize,
    /// Required for loading; dropped afterwards, because it is large.
    btf: Option<Btf>,
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, [u64; LOST_KINDS]>,
    notes: Notes,
    /// Keep the tail-called programs alive.
    tail_calls: Vec<ProgramArray<MapData>>,
    control: Control,
    /// Programs can read a call's arguments at its exit.
    has_arguments_at_exit: bool,
    attached: Attached,
    /// The programs that record paths.
    paths: Attached,
}

impl Probe {
    /// Checks the host, and creates the maps. The programs themselves are loaded when they are attached
    /// or run.
    ///
    /// # Errors
    ///
    /// If the host does not meet a requirement.
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
        let feature = |available, feature| if available { feature } else { 0 };
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
            .map_max_entries("PROCESS_FLAGS", options.max_processes)
            .override_global("SETTINGS", settings.as_bytes(), true)
            .load(Object::new(cast.map(|cast| cast.function)).bytes())
            .map_err(|error| ProbeError::refused("create BPF maps", &error))?;
        let ring = take_map(&mut ebpf, "RING")?;
        let lost = take_map(&mut ebpf, "LOST")?;
        let notes = Notes::of(&mut ebpf)?;
        let control = Control::new(
            take_map(&mut ebpf, ".bss.control")?,
            take_map(&mut ebpf, "PROCESS_FLAGS")?,
        );
        let tail_calls = programs::TAIL_CALLS
            .iter()
            .map(|tail_call| take_map(&mut ebpf, tail_call.map))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            ebpf,
            max_records: options.ring_bytes as usize / size_of::<Header>(),
            btf: Some(btf),
            ring,
            lost,
            notes,
            tail_calls,
            control,
            has_arguments_at_exit: has_registers && settings.offsets.registers_first != 0,
            attached: Attached::default(),
            paths: Attached::default(),
        })
    }

    /// Attaches the programs that record events. Loads all of them first: those that are attached fill the
    /// ring while the verifier is at work, which can take seconds on a busy host.
    ///
    /// # Errors
    ///
    /// If the kernel rejects a program, or a tracepoint is missing or has an unexpected layout.
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        self.load_tail_calls()?;
        self.load_syscall_programs(programs::SYSCALLS)?;
        let btf = self.btf()?;
        let refused = |name: &str, error: &dyn std::error::Error| {
            ProbeError::refused(format!("attach program {name}"), error)
        };
        for name in programs::RAW_TRACEPOINTS {
            let program: &mut BtfTracePoint = program(&mut self.ebpf, name)?;
            program
                .load(name, &btf)
                .map_err(|error| refused(name, &error))?;
        }
        self.btf = Some(btf);
        self.attached = self.attach_to_syscalls(programs::SYSCALLS)?;
        for name in programs::RAW_TRACEPOINTS {
            let program: &mut BtfTracePoint = program(&mut self.ebpf, name)?;
            program.attach().map_err(|error| refused(name, &error))?;
        }
        Ok(())
    }

    /// Attaches programs that do nothing instead, to openat and close: a baseline for benchmarks.
    ///
    /// # Errors
    ///
    /// If the kernel rejects them.
    pub fn attach_floor(&mut self) -> Result<(), ProbeError> {
        self.attached = self.attach_to_syscalls(programs::NOOP)?;
        Ok(())
    }

    fn load_syscall_programs(&mut self, programs: &[SyscallProgram]) -> Result<(), ProbeError> {
        for &SyscallProgram { name, .. } in programs {
            let program: &mut TracePoint = program(&mut self.ebpf, name)?;
            if program.fd().is_err() {
                program.load().map_err(|error| cannot_load(name, &error))?;
            }
        }
        Ok(())
    }

    /// Attaches programs until the result is dropped.
    fn attach_to_syscalls(&mut self, programs: &[SyscallProgram]) -> Result<Attached, ProbeError> {
        self.load_syscall_programs(programs)?;
        let mut all = Attached::default();
        let tracefs = host::mounted_tracefs()?;
        for &SyscallProgram { name, side, calls } in programs {
            let program: &mut TracePoint = program(&mut self.ebpf, name)?;
            let fd = program
                .fd()
                .map_err(|error| cannot_load(name, &error))?
                .as_fd();
            let mut attached = 0;
            for call in calls {
                let tracepoint = format!("{side}_{call}");
                if !tracepoints::check(tracefs, &tracepoint)? {
                    continue;
                }
                all.attach(fd, tracefs, &tracepoint).map_err(|error| {
                    let what = format!("program {name} to {tracepoint}");
                    match error {
                        AttachError::Paranoid { paranoid } => {
                            ProbeError::Paranoid { what, paranoid }
                        }
                        error => ProbeError::refused(format!("attach {what}"), &error),
                    }
                })?;
                attached += 1;
            }
            // close_range was added in 5.9; every kernel has the first call of the other programs.
            if attached == 0 && calls != ["close_range"] {
                return Err(ProbeError::NoTracepoint {
                    name: format!("syscalls:{side}_{}", calls[0]),
                });
            }
        }
        Ok(all)
    }

    fn load_tail_calls(&mut self) -> Result<(), ProbeError> {
        for (tail_call, array) in programs::TAIL_CALLS.iter().zip(&mut self.tail_calls) {
            let name = tail_call.name;
            let program: &mut TracePoint = program(&mut self.ebpf, name)?;
            program.load().map_err(|error| cannot_load(name, &error))?;
            let fd = program.fd().map_err(|error| cannot_load(name, &error))?;
            array
                .set(0, fd, 0)
                .map_err(|error| cannot_load(name, &error))?;
        }
        Ok(())
    }

    /// Has the kernel write all descriptors into the ring, among concurrent events, and passes all
    /// records to `on_record` until the ring is empty.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the program or stops early.
    pub fn snapshot(&mut self, mut on_record: impl FnMut(&[u8])) -> Result<(), ProbeError> {
        let mut snapshot = self.begin_snapshot()?;
        while !self.continue_snapshot(&mut snapshot, None, &mut on_record)? {}
        Ok(())
    }

    /// Begins a snapshot that [`Self::continue_snapshot`] takes in parts.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the program.
    pub fn begin_snapshot(&mut self) -> Result<Snapshot, ProbeError> {
        Ok(Snapshot {
            file: self.snapshot_file()?,
            took: Duration::ZERO,
        })
    }

    /// Has the kernel write more descriptors into the ring, and passes all records to `on_record`. Returns
    /// whether the snapshot is complete; false if that takes longer than `limit`.
    ///
    /// # Errors
    ///
    /// If the kernel stops early.
    pub fn continue_snapshot(
        &mut self,
        snapshot: &mut Snapshot,
        limit: Option<Duration>,
        mut on_record: impl FnMut(&[u8]),
    ) -> Result<bool, ProbeError> {
        let mut buffer = [0; 4096];
        let mut stalls = 0;
        let began = Instant::now();
        loop {
            match snapshot.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The program waits for room in the ring.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if snapshot.took + began.elapsed() > MAX_SNAPSHOT {
                        return Err(ProbeError::Snapshot(io::Error::new(
                            ErrorKind::TimedOut,
                            "events arrive faster than they are read",
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
            if limit.is_some_and(|limit| began.elapsed() >= limit) {
                self.drain_once(&mut on_record);
                snapshot.took += began.elapsed();
                return Ok(false);
            }
        }
        self.drain_once(&mut on_record);
        Ok(true)
    }

    fn snapshot_file(&mut self) -> Result<File, ProbeError> {
        let refused = |error: &dyn std::error::Error| {
            ProbeError::refused("take a snapshot of all descriptors (iter/task_file)", error)
        };
        let is_loaded = program::<Iter>(&mut self.ebpf, programs::SNAPSHOT)?
            .fd()
            .is_ok();
        if !is_loaded {
            let btf = self.btf()?;
            let program: &mut Iter = program(&mut self.ebpf, programs::SNAPSHOT)?;
            program.load("task_file", &btf).map_err(|e| refused(&e))?;
            self.btf = Some(btf);
        }
        let program: &mut Iter = program(&mut self.ebpf, programs::SNAPSHOT)?;
        let link = program.attach().map_err(|e| refused(&e))?;
        let link = program.take_link(link).map_err(|e| refused(&e))?;
        link.into_file().map_err(|e| refused(&e))
    }

    /// Frees the BTF, which only loading requires. Later loads read it again.
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

    /// Enables or disables stacks and paths of all processes.
    ///
    /// # Errors
    ///
    /// If a map cannot be written, or a program cannot be attached.
    pub fn set_global_detail(&mut self, enabled: bool) -> Result<(), ProbeError> {
        self.control
            .set_global_detail(enabled)
            .map_err(ProbeError::control)?;
        self.update_paths()
    }

    /// Enables or disables stacks and paths of a process.
    ///
    /// # Errors
    ///
    /// If a map cannot be written or is full, or a program cannot be attached.
    pub fn set_detail(&mut self, tgid: u32, enabled: bool) -> Result<(), ProbeError> {
        self.control
            .set(tgid, DETAIL, enabled)
            .map_err(ProbeError::control)?;
        self.update_paths()
    }

    /// Enables stacks and paths of a process and its descendants, from their first instruction on.
    ///
    /// # Errors
    ///
    /// If a map cannot be written, or a program cannot be attached.
    pub fn enable_family_detail(&mut self, tgid: u32) -> Result<(), ProbeError> {
        self.control
            .set(tgid, DETAIL | INHERIT, true)
            .map_err(ProbeError::control)?;
        self.update_paths()?;
        self.allow_detail(u64::MAX)
    }

    /// Sets the number of stacks and paths that may be recorded until the next call. More are dropped
    /// and counted.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn allow_detail(&mut self, records: u64) -> Result<(), ProbeError> {
        if self.control.has_detail() {
            self.control.allow(records).map_err(ProbeError::control)?;
        }
        Ok(())
    }

    /// Includes or excludes a process. Nothing is recorded of an excluded process's descriptors.
    ///
    /// # Errors
    ///
    /// If a map cannot be written or is full.
    pub fn follow(&mut self, tgid: u32, included: bool) -> Result<(), ProbeError> {
        self.control
            .set(tgid, EXCLUDED, !included)
            .map_err(ProbeError::control)
    }

    /// Attaches the programs that record paths while detail is enabled, and detaches them otherwise:
    /// they slow down every open.
    fn update_paths(&mut self) -> Result<(), ProbeError> {
        let wanted = if self.has_arguments_at_exit {
            // Inherited detail records paths at the exits.
            self.control.has_uninherited_detail()
        } else {
            self.control.has_detail()
        };
        if wanted && self.paths.is_empty() {
            self.paths = self.attach_to_syscalls(programs::PATHS)?;
        } else if !wanted && !self.paths.is_empty() {
            let paths = std::mem::take(&mut self.paths);
            // Closing the events is slow, as the module `attach` explains.
            thread::Builder::new()
                .name("detach".to_owned())
                .spawn(move || drop(paths))
                .map_err(|error| ProbeError::refused("start a thread", &error))?;
        }
        Ok(())
    }

    /// Passes the records in the ring to `on_record`, and returns their number. Terminates even if the
    /// ring is filled as fast as it is read.
    pub fn drain_once(&mut self, on_record: impl FnMut(&[u8])) -> usize {
        self.drain(self.max_records, on_record)
    }

    /// Passes up to `max` records to `on_record`, and returns their number. Does not wait.
    pub fn drain(&mut self, max: usize, mut on_record: impl FnMut(&[u8])) -> usize {
        for count in 0..max {
            match self.ring.next() {
                Some(record) => on_record(&record),
                None => return count,
            }
        }
        max
    }

    /// Returns the log messages of the programs since the last call.
    pub fn notes(&mut self) -> Vec<String> {
        self.notes.take()
    }

    /// Stops recording immediately, on any kernel: the first step of detaching. Records in the ring can
    /// still be read.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn stop(&mut self) -> Result<(), ProbeError> {
        self.control.stop().map_err(ProbeError::control)
    }

    /// Detaches without waiting. Recording stops immediately. The programs are removed within a few grace
    /// periods, and the tracepoints disabled within seconds after that (the module `attach` explains why).
    /// A forked child waits for it: it inherits the descriptors that keep programs attached, closes
    /// those that fdwatch was started with, and begins when this process has closed its own, because
    /// the last one to close is the one that waits.
    pub fn detach(mut self) {
        // Detach even if that fails.
        let _ = self.stop();
        let Ok((reader, writer)) = io::pipe() else {
            return;
        };
        self.attached.append(std::mem::take(&mut self.paths));
        let mut release = self.attached.release();
        // SAFETY: the child calls only fcntl, close, read and `Release::run`, which are allowed after a
        // fork whatever other threads did.
        unsafe {
            if libc::fork() == 0 {
                libc::close(writer.as_raw_fd());
                for fd in 0..MAX_INHERITED_FD {
                    // Descriptors that fdwatch opened are closed on exec.
                    if libc::fcntl(fd, libc::F_GETFD) == 0 {
                        libc::close(fd);
                    }
                }
                let mut byte = 0_u8;
                libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                release.run();
            }
        }
        drop(self);
        drop(writer);
    }
}

/// Descriptors that fdwatch was started with are assumed to be below this.
const MAX_INHERITED_FD: i32 = 1024;

impl AsFd for Probe {
    /// Readable when the ring is filled to [`Settings::wake_at`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

fn take_map<T>(ebpf: &mut Ebpf, name: &str) -> Result<T, ProbeError>
where
    T: TryFrom<aya::maps::Map, Error: std::error::Error>,
{
    let what = || format!("open map {name}");
    let map = ebpf.take_map(name).ok_or_else(|| ProbeError::Refused {
        what: what(),
        reason: "not found in the object".to_owned(),
    })?;
    T::try_from(map).map_err(|error| ProbeError::refused(what(), &error))
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error: std::error::Error>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| ProbeError::Refused {
        what: format!("load program {name}"),
        reason: "not found in the object".to_owned(),
    })?;
    program
        .try_into()
        .map_err(|error| cannot_load(name, &error))
}

fn cannot_load(name: &str, error: &dyn std::error::Error) -> ProbeError {
    ProbeError::refused(format!("load program {name}"), error)
}
