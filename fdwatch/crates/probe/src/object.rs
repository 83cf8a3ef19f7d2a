//! The object with the BPF programs, prepared for the running kernel: calls of `bpf_rdonly_cast` are
//! inserted if the kernel has it. aya supports helpers, whose numbers are fixed, but not kernel
//! functions, whose numbers are type ids of the running kernel's BTF.

use std::slice;

use fdwatch_common::CAST_CALL;

static BUILT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fdwatch-ebpf"));

/// Encodes a `BPF_JMP | BPF_CALL` instruction (`struct bpf_insn`, include/uapi/linux/bpf.h). `by` is
/// the kind of `number`.
const fn call(by: u8, number: i32) -> [u8; 8] {
    const CALL: u8 = 0x85;
    let [a, b, c, d] = number.to_ne_bytes();
    // The kind is in the field of the source register: the upper half of its byte on little-endian
    // machines.
    let registers = if cfg!(target_endian = "little") {
        by << 4
    } else {
        by
    };
    [CALL, registers, 0, 0, a, b, c, d]
}

/// Kinds of numbers: of a helper, and `BPF_PSEUDO_KFUNC_CALL`.
const HELPER: u8 = 0;
const KERNEL_FUNCTION: u8 = 2;

/// `BPF_ALU64 | BPF_MOV | BPF_X`: returns the first argument. Never executed.
const NO_CAST: [u8; 8] = {
    let registers = if cfg!(target_endian = "little") {
        0x10
    } else {
        0x01
    };
    [0xbf, registers, 0, 0, 0, 0, 0, 0]
};

/// The object to load. Stored as words, because it must be aligned.
pub(super) struct Object(Vec<u64>);

impl Object {
    /// Prepares the object. `cast` is the type ID of the kernel's `bpf_rdonly_cast`, if the kernel has it.
    pub(super) fn new(cast: Option<u32>) -> Self {
        let call_of_cast = u64::from_ne_bytes(call(HELPER, CAST_CALL));
        let with = cast.map_or(NO_CAST, |id| call(KERNEL_FUNCTION, id as i32));
        let with = u64::from_ne_bytes(with);
        let words = BUILT.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            match u64::from_ne_bytes(word) {
                word if word == call_of_cast => with,
                word => word,
            }
        });
        Self(words.collect())
    }

    /// Returns the bytes of the object.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the words hold at least as many bytes as `BUILT`.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), BUILT.len()) }
    }
}

#[cfg(test)]
mod tests {
    use fdwatch_common::programs;

    use super::*;

    #[test]
    fn cast_calls_are_replaced() {
        let count =
            |object: &[u8], what: [u8; 8]| object.chunks_exact(8).filter(|&at| at == what).count();
        let calls = count(BUILT, call(HELPER, CAST_CALL));
        assert!(calls > 0);
        for cast in [None, Some(65_486)] {
            let object = Object::new(cast);
            assert_eq!(count(object.bytes(), call(HELPER, CAST_CALL)), 0);
        }
        let object = Object::new(Some(65_486));
        assert_eq!(count(object.bytes(), call(KERNEL_FUNCTION, 65_486)), calls);
    }

    #[test]
    fn programs_of_object_match_table() {
        use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

        let file = object::File::parse(BUILT).unwrap();
        let mut built: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.is_global() && symbol.kind() == object::SymbolKind::Text)
            .filter_map(|symbol| {
                let section = file.section_by_index(symbol.section_index()?).ok()?;
                let section = section.name().ok()?.to_owned();
                // Other functions are in `.text`.
                (!section.starts_with('.')).then(|| (section, symbol.name().unwrap().to_owned()))
            })
            .collect();
        let syscalls = [programs::SYSCALLS, programs::PATHS, programs::NOOP].concat();
        let syscalls = syscalls.iter().map(|program| program.name);
        let tail_calls = programs::TAIL_CALLS.iter().map(|program| program.name);
        let on_syscalls = syscalls.chain(tail_calls);
        let raw = programs::RAW_TRACEPOINTS.iter();
        let mut table: Vec<_> = on_syscalls
            .map(|name| ("tracepoint".to_owned(), name.to_owned()))
            .chain(raw.map(|&name| (format!("tp_btf/{name}"), name.to_owned())))
            .chain([("iter/task_file".to_owned(), programs::SNAPSHOT.to_owned())])
            .collect();
        built.sort();
        table.sort();
        assert_eq!(built, table);
    }
}
