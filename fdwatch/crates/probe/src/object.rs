//! The programs, as cargo built them for this binary, and as they are loaded: with calls of
//! `bpf_rdonly_cast` where the kernel has that. aya knows of helpers, whose numbers are fixed, but
//! not of functions that are numbered as in the running kernel's BTF.

use std::slice;

use fdwatch_common::CAST_CALL;

static BUILT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fdwatch-ebpf"));

/// A `struct bpf_insn`, include/uapi/linux/bpf.h, that calls something: `BPF_JMP | BPF_CALL`; who is
/// called by what kind of number; the number.
const fn call(by: u8, number: i32) -> [u8; 8] {
    const CALL: u8 = 0x85;
    let [a, b, c, d] = number.to_ne_bytes();
    // The kind is where the source register is: in the upper half of its byte in the bit order of
    // little-endian machines.
    let registers = if cfg!(target_endian = "little") {
        by << 4
    } else {
        by
    };
    [CALL, registers, 0, 0, a, b, c, d]
}

/// By the number of a helper, and `BPF_PSEUDO_KFUNC_CALL`.
const HELPER: u8 = 0;
const KERNEL_FUNCTION: u8 = 2;

/// `BPF_ALU64 | BPF_MOV | BPF_X`: the result is the first argument. It is never run.
const NOTHING: [u8; 8] = {
    let registers = if cfg!(target_endian = "little") {
        0x10
    } else {
        0x01
    };
    [0xbf, registers, 0, 0, 0, 0, 0, 0]
};

/// The object that is to be loaded, in words, for it must be aligned.
pub(super) struct Object(Vec<u64>);

impl Object {
    /// With the number of the kernel's `bpf_rdonly_cast`, if it has that.
    pub(super) fn new(cast: Option<u32>) -> Self {
        let call_of_cast = u64::from_ne_bytes(call(HELPER, CAST_CALL));
        let with = cast.map_or(NOTHING, |id| call(KERNEL_FUNCTION, id as i32));
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

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: these are as many bytes, and there are no fewer than were copied.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), BUILT.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_stands_in_the_object_and_is_replaced() {
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
}
