//! Unwinds stacks from a thread's registers and a copy of its stack, by the unwind tables that compilers
//! write (`.eh_frame`), because most programs are built without frame pointers. Code without tables, such
//! as that of just-in-time compilers, is unwound by frame pointers.
//!
//! A stack must be unwound soon after it was recorded, before the process exits or maps other code.

mod code_file;
mod code_mappings;
mod file_cache;
mod identity;
mod machine;
mod sound;
mod unwinder;

pub use self::unwinder::Unwinder;
