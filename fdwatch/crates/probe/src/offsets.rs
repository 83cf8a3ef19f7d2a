//! Offsets of the fields that the programs read, and type ids, resolved from the running kernel's BTF.
//! None are built in: rustc emits no CO-RE relocations, and a wrong offset gives wrong numbers without
//! an error.

use fdwatch_common::{Casts, FileWindow, MAX_FILE_WINDOW, MAX_INODE_WINDOW, Offsets};

use super::{ProbeError, btf::Types};

/// The running kernel's types.
pub(super) struct Kernel {
    types: Types,
}

/// The structures to resolve.
const STRUCTURES: [&str; 12] = [
    "file",
    "inode",
    "task_struct",
    "signal_struct",
    "files_struct",
    "fdtable",
    "super_block",
    "socket",
    "sock",
    "timespec64",
    "mm_struct",
    "pt_regs",
];

/// Fields of `struct pt_regs` that stacks are unwound from: `ip`, `sp`, `bp`, `lr` and `cs`. The number
/// of bytes is added for registers in an array. A register that the processor lacks is replaced by
/// another, and its value is not used.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [(&str, u32); 5] = [("ip", 0), ("sp", 0), ("bp", 0), ("ip", 0), ("cs", 0)];
#[cfg(target_arch = "aarch64")]
const REGISTERS: [(&str, u32); 5] = [
    ("pc", 0),
    ("sp", 0),
    ("regs", 29 * 8),
    ("regs", 30 * 8),
    ("pc", 0),
];
/// Unknown processor: the values are not used.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REGISTERS: [(&str, u32); 5] = [("", 0); 5];
const CAST: &str = "bpf_rdonly_cast";

/// How to turn addresses into typed pointers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    /// Type id of the function `bpf_rdonly_cast`.
    pub(super) function: u32,
    /// The types to cast to.
    pub(super) to: Casts,
}

impl Kernel {
    /// Parses `btf`, the bytes of `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    ///
    /// If the bytes are not valid BTF.
    pub(super) fn parse(btf: Vec<u8>) -> Result<Self, ProbeError> {
        Types::parse(btf, &STRUCTURES, &[CAST])
            .map(|types| Self { types })
            .map_err(|reason| ProbeError::UnreadableBtf { reason })
    }

    /// Resolves every offset.
    ///
    /// # Errors
    ///
    /// If a field of a known kernel, 5.8 or newer, does not exist.
    pub(super) fn offsets(&self) -> Result<Offsets, ProbeError> {
        offsets(&self.types)
    }

    /// Returns the offset of a task's registers on its kernel stack (`task_pt_regs`,
    /// arch/x86/include/asm/processor.h); 0 if unknown. Needed before 5.15, where the kernel has no
    /// helper for them.
    ///
    /// # Errors
    ///
    /// If the BTF lacks a field.
    pub(super) fn registers_on_stack(&self) -> Result<u32, ProbeError> {
        /// `THREAD_SIZE`, arch/x86/include/asm/page_64_types.h, since 3.15. Twice as much with KASAN,
        /// which BTF does not show; the programs check that the registers are plausible.
        const STACK: u32 = 16 << 10;
        if !cfg!(target_arch = "x86_64") {
            return Ok(0);
        }
        // The last register of 8 bytes. The fields after it exist from 6.9 on only.
        let size = field(&self.types, "pt_regs", "ss")? + 8;
        Ok(STACK - size)
    }

    /// Returns how to turn addresses into typed pointers, if the kernel can: since 6.2.
    pub(super) fn cast(&self) -> Option<Cast> {
        let function = self.types.function(CAST)?;
        if self.types.offset("timespec64", "tv_sec")? != 0 {
            return None;
        }
        let to = Casts {
            file: self.types.structure("file")?,
            word: self.types.structure("timespec64")?,
        };
        Some(Cast { function, to })
    }
}

fn offsets(types: &Types) -> Result<Offsets, ProbeError> {
    let field = |structure, path| field(types, structure, path);
    let file = window(
        &[
            (field("file", "f_inode")?, 8),
            (field("file", "f_flags")?, 4),
        ],
        "struct file",
        MAX_FILE_WINDOW,
    )?;
    let inode = window(
        &[
            (field("inode", "i_mode")?, 2),
            (field("inode", "i_sb")?, 8),
            (field("inode", "i_ino")?, 8),
            (field("inode", "i_nlink")?, 4),
        ],
        "struct inode",
        MAX_INODE_WINDOW,
    )?;
    let [ip, sp, bp, lr, cs] = REGISTERS.map(|(name, extra)| {
        let at = if name.is_empty() {
            Ok(0)
        } else {
            field("pt_regs", name)
        };
        at.map(|at| at + extra)
    });
    // Arguments of the call; only x86 has these fields, none of them at offset 0.
    let argument = |name| types.offset("pt_regs", name).unwrap_or(0);
    Ok(Offsets {
        task_flags: field("task_struct", "flags")?,
        task_pid: field("task_struct", "pid")?,
        task_tgid: field("task_struct", "tgid")?,
        task_files: field("task_struct", "files")?,
        task_group_leader: field("task_struct", "group_leader")?,
        task_real_parent: field("task_struct", "real_parent")?,
        task_start_boottime: field("task_struct", "start_boottime")?,
        task_comm: field("task_struct", "comm")?,
        task_signal: field("task_struct", "signal")?,
        signal_live: field("signal_struct", "live.counter")?,
        files_count: field("files_struct", "count.counter")?,
        files_fdt: field("files_struct", "fdt")?,
        fdt_max_fds: field("fdtable", "max_fds")?,
        fdt_fd: field("fdtable", "fd")?,
        fdt_close_on_exec: field("fdtable", "close_on_exec")?,
        fdt_open_fds: field("fdtable", "open_fds")?,
        super_block_dev: field("super_block", "s_dev")?,
        file_private_data: field("file", "private_data")?,
        socket_sk: field("socket", "sk")?,
        sock_family: field("sock", "__sk_common.skc_family")?,
        task_stack: field("task_struct", "stack")?,
        task_mm: field("task_struct", "mm")?,
        mm_start_stack: field("mm_struct", "start_stack")?,
        registers_ip: ip?,
        registers_sp: sp?,
        registers_bp: bp?,
        registers_lr: lr?,
        registers_cs: cs?,
        registers_first: argument("di"),
        registers_second: argument("si"),
        file: FileWindow {
            file_start: file.start,
            file_len: file.len,
            f_inode: field("file", "f_inode")? - file.start,
            f_flags: field("file", "f_flags")? - file.start,
            inode_start: inode.start,
            inode_len: inode.len,
            i_mode: field("inode", "i_mode")? - inode.start,
            i_sb: field("inode", "i_sb")? - inode.start,
            i_ino: field("inode", "i_ino")? - inode.start,
            i_nlink: field("inode", "i_nlink")? - inode.start,
        },
    })
}

/// A part of a structure that is read at once.
struct Window {
    start: u32,
    len: u32,
}

/// Returns the smallest window, aligned to 8 bytes at both ends, that holds `fields` (offset and size).
fn window(fields: &[(u32, u32)], name: &str, max: usize) -> Result<Window, ProbeError> {
    let start = fields.iter().map(|field| field.0).min().unwrap_or(0) & !7;
    let end = fields.iter().map(|field| field.0 + field.1).max();
    let end = end.unwrap_or(0).next_multiple_of(8);
    let len = end - start;
    if len as usize > max {
        return Err(ProbeError::UnknownKernel {
            what: format!("fields of {name} are {len} bytes apart"),
        });
    }
    Ok(Window { start, len })
}

fn field(types: &Types, structure: &str, path: &str) -> Result<u32, ProbeError> {
    types
        .offset(structure, path)
        .ok_or_else(|| ProbeError::UnknownKernel {
            what: format!("field {structure}.{path} not found in BTF"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_running_kernel_resolve() {
        // Tests that require BTF fail elsewhere.
        let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        let kernel = Kernel::parse(btf).unwrap();
        let offsets = kernel.offsets().unwrap();
        assert_eq!(offsets.task_tgid, offsets.task_pid + 4);
        assert!(offsets.file.file_len >= 16, "{offsets:?}");
    }

    #[test]
    fn invalid_btf_is_rejected() {
        for bytes in [b"\x9f\xeb\x01".to_vec(), Vec::new()] {
            let error = Kernel::parse(bytes).err().unwrap();
            assert!(matches!(error, ProbeError::UnreadableBtf { .. }), "{error}");
        }
    }

    #[test]
    fn windows_are_aligned_and_bounded() {
        let Window { start, len } = window(&[(36, 4), (12, 4)], "x", 64).unwrap();
        assert_eq!((start, len), (8, 32));
        assert!(window(&[(0, 8), (64, 2)], "x", 64).is_err());
    }
}
