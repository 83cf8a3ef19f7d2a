//! A parser for the kernel's type information (BTF, Documentation/bpf/btf.rst): offsets of fields, and
//! IDs of structures and functions. One pass over more than 100,000 types stores only the position of
//! each, which takes a few milliseconds. Parsing everything took 100 ms and tens of megabytes.

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Kinds of types: include/uapi/linux/btf.h.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

const MAGIC: u16 = 0xeb9f;

/// Sizes of `struct btf_type` and `struct btf_member`, in bytes.
const TYPE: usize = 12;
const MEMBER: usize = 12;

/// Maximum depth of nested structures, and of chains of typedefs and qualifiers.
const MAX_DEPTH: u32 = 16;

/// The types of a kernel.
pub(super) struct Types {
    bytes: Vec<u8>,
    /// Position of the names.
    strings: usize,
    /// Position of each type; the first has id 1.
    positions: Vec<u32>,
    /// Ids of the wanted structures and functions.
    structures: FxHashMap<Box<[u8]>, u32>,
    functions: FxHashMap<Box<[u8]>, u32>,
}

/// A `struct btf_type`.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Number of members, parameters or values.
    len: u32,
    /// Offsets of members include the size of bit fields.
    has_bit_fields: bool,
    /// Id of the type it refers to, or its size.
    other: u32,
    /// Position of the data after it.
    rest: usize,
}

impl Types {
    /// Parses the bytes of `/sys/kernel/btf/vmlinux`. Only structures and functions of the given names
    /// can be looked up.
    ///
    /// # Errors
    ///
    /// If the bytes are not valid BTF, with the reason.
    pub(super) fn parse(
        bytes: Vec<u8>,
        structures: &[&str],
        functions: &[&str],
    ) -> Result<Self, String> {
        let word = |at| word(&bytes, at).ok_or("truncated header");
        let magic = bytes.first_chunk().copied().map(u16::from_ne_bytes);
        if magic != Some(MAGIC) {
            return Err("invalid magic number".to_owned());
        }
        let header = word(4)? as usize;
        let types = header + word(8)? as usize;
        let end = types + word(12)? as usize;
        let strings = header + word(16)? as usize;
        let mut all = Self {
            positions: Vec::with_capacity(end.saturating_sub(types) / (2 * TYPE)),
            bytes,
            strings,
            structures: FxHashMap::with_capacity_and_hasher(structures.len(), FxBuildHasher),
            functions: FxHashMap::with_capacity_and_hasher(functions.len(), FxBuildHasher),
        };
        if end > all.bytes.len() || strings > all.bytes.len() {
            return Err("truncated".to_owned());
        }
        let mut at = types;
        while at < end {
            let position = u32::try_from(at).map_err(|_| "too large")?;
            let it = all.at(at).ok_or("truncated type")?;
            all.positions.push(position);
            let id = u32::try_from(all.positions.len()).map_err(|_| "too large")?;
            let (wanted, found) = match it.kind {
                STRUCT => (structures, &mut all.structures),
                FUNC => (functions, &mut all.functions),
                _ => (&[][..], &mut all.structures),
            };
            if !wanted.is_empty()
                && let Some(name) = name(&all.bytes, all.strings, it.name)
                && wanted.iter().any(|wanted| wanted.as_bytes() == name)
            {
                found.entry(name.into()).or_insert(id);
            }
            at = it.rest
                + it.len_of_rest()
                    .ok_or_else(|| format!("unknown kind of type: {}", it.kind))?;
        }
        Ok(all)
    }

    /// Returns the id of a structure.
    pub(super) fn structure(&self, name: &str) -> Option<u32> {
        self.structures.get(name.as_bytes()).copied()
    }

    /// Returns the id of a function.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.functions.get(name.as_bytes()).copied()
    }

    /// Returns the offset of a field in bytes. Nested fields are separated by dots.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = self.structure(structure)?;
        let mut offset = 0;
        for field in path.split('.') {
            let (at, of) = self.member(self.resolve(id)?, field.as_bytes(), MAX_DEPTH)?;
            offset = u32::checked_add(offset, at)?;
            id = of;
        }
        (offset % 8 == 0).then_some(offset / 8)
    }

    /// Returns the offset of a member in bits, and the id of its type. Searches anonymous members too.
    fn member(&self, of: Type, wanted: &[u8], depth: u32) -> Option<(u32, u32)> {
        if ![STRUCT, UNION].contains(&of.kind) || depth == 0 {
            return None;
        }
        let members = (0..of.len as usize).map(|i| of.rest + i * MEMBER);
        for at in members {
            let word = |i: usize| word(&self.bytes, at + 4 * i);
            let (name_at, id, place) = (word(0)?, word(1)?, word(2)?);
            let (offset, is_bit_field) = if of.has_bit_fields {
                (place & 0x00ff_ffff, place >> 24 != 0)
            } else {
                (place, false)
            };
            let name = name(&self.bytes, self.strings, name_at)?;
            if name == wanted {
                return (!is_bit_field).then_some((offset, id));
            }
            if name.is_empty()
                && let Some(inner) = self.resolve(id)
                && let Some((within, id)) = self.member(inner, wanted, depth - 1)
            {
                return Some((offset.checked_add(within)?, id));
            }
        }
        None
    }

    /// Returns the type with that id, without typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let position = self.positions.get((id as usize).checked_sub(1)?)?;
            let it = self.at(*position as usize)?;
            if ![TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG].contains(&it.kind) {
                return Some(it);
            }
            id = it.other;
        }
        None
    }

    fn at(&self, at: usize) -> Option<Type> {
        let word = |i: usize| word(&self.bytes, at + 4 * i);
        let (name, info, other) = (word(0)?, word(1)?, word(2)?);
        Some(Type {
            name,
            kind: info >> 24 & 0x1f,
            len: info & 0xffff,
            has_bit_fields: info >> 31 != 0,
            other,
            rest: at + TYPE,
        })
    }
}

impl Type {
    /// Returns the number of bytes that follow it, if its kind is known.
    fn len_of_rest(self) -> Option<usize> {
        let each = match self.kind {
            INT | VAR | DECL_TAG => return Some(4),
            ARRAY => return Some(12),
            STRUCT | UNION => MEMBER,
            ENUM | FUNC_PROTO => 8,
            DATASEC | ENUM64 => 12,
            // Pointers, declarations, typedefs and qualifiers.
            2 | 7..=FUNC | FLOAT | TYPE_TAG => 0,
            _ => return None,
        };
        Some(self.len as usize * each)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

/// Returns the name at an offset into the names.
fn name(bytes: &[u8], strings: usize, at: u32) -> Option<&[u8]> {
    let rest = bytes.get(strings.checked_add(at as usize)?..)?;
    rest.split(|&byte| byte == 0).next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A writer of BTF.
    #[derive(Default)]
    struct Written {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Written {
        fn new() -> Self {
            Self {
                types: Vec::new(),
                strings: vec![0],
            }
        }

        fn string(&mut self, string: &str) -> u32 {
            if string.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend(string.bytes().chain([0]));
            at
        }

        fn add(&mut self, name: &str, kind: u32, len: u32, other: u32, rest: &[u32]) {
            let name = self.string(name);
            for word in [name, kind << 24 | len, other].iter().chain(rest) {
                self.types.extend(word.to_ne_bytes());
            }
        }

        fn structure(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) {
            let mut rest = Vec::new();
            for &(member, id, offset) in members {
                rest.extend([self.string(member), id, offset * 8]);
            }
            self.add(name, kind, members.len() as u32, 64, &rest);
        }

        fn bytes(&self) -> Vec<u8> {
            let mut bytes = MAGIC.to_ne_bytes().to_vec();
            bytes.extend([1, 0]);
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            for word in [24, 0, types, types, strings] {
                bytes.extend(u32::to_ne_bytes(word));
            }
            bytes.extend(&self.types);
            bytes.extend(&self.strings);
            bytes
        }
    }

    fn written() -> Vec<u8> {
        let mut written = Written::new();
        written.add("int", INT, 0, 4, &[32]);
        written.structure(STRUCT, "", &[("deep", 1, 4)]);
        written.structure(UNION, "", &[("one", 1, 0), ("", 2, 0)]);
        written.structure(STRUCT, "atomic", &[("counter", 1, 0)]);
        written.add("atomic_t", TYPEDEF, 0, 4, &[]);
        written.add("", CONST, 0, 5, &[]);
        written.structure(
            STRUCT,
            "thing",
            &[("first", 1, 0), ("", 3, 8), ("count", 6, 24)],
        );
        written.add("call", FUNC, 0, 1, &[]);
        written.bytes()
    }

    fn parse(bytes: Vec<u8>) -> Result<Types, String> {
        Types::parse(bytes, &["thing"], &["call"])
    }

    #[test]
    fn nested_fields_are_found() {
        let types = parse(written()).unwrap();
        assert_eq!(types.offset("thing", "first"), Some(0));
        assert_eq!(types.offset("thing", "one"), Some(8));
        assert_eq!(types.offset("thing", "deep"), Some(12));
        assert_eq!(types.offset("thing", "count.counter"), Some(24));
        assert_eq!(types.offset("thing", "none"), None);
        assert_eq!(
            types.offset("atomic", "counter"),
            None,
            "not among the wanted names"
        );
        assert_eq!(types.structure("thing"), Some(7));
        assert_eq!(types.function("call"), Some(8));
    }

    #[test]
    fn truncated_and_unknown_types_are_rejected() {
        let bytes = written();
        for len in 0..bytes.len() {
            // Truncated names are not an error.
            let _ = parse(bytes[..len].to_vec());
        }
        assert!(parse(bytes[..100].to_vec()).is_err());
        let mut written = Written::new();
        written.add("new", 31, 0, 0, &[]);
        assert_eq!(
            parse(written.bytes()).err().unwrap(),
            "unknown kind of type: 31"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..400, byte: u8) {
            let _ = parse(bytes.clone());
            bytes.splice(..bytes.len().min(24), written().into_iter().take(24));
            let _ = parse(bytes).map(|types| types.offset("thing", "deep"));
            let mut damaged = written();
            let at = at % damaged.len();
            damaged[at] = byte;
            let _ = parse(damaged).map(|types| types.offset("thing", "count.counter"));
        }
    }
}
