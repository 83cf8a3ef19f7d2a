//! The settings that the loader writes before the programs are loaded.

use fdwatch_common::Settings;

/// Written by the loader. Read through [`settings!`] only.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings::ZERO;

/// Reads one of the [`Settings`]. The read is volatile: otherwise the compiler would use the value in
/// this object instead of the one that the loader writes.
macro_rules! settings {
    ($($field:ident).+) => {
        // SAFETY: a reference to a static is valid for reads.
        unsafe { ::core::ptr::read_volatile(&raw const $crate::settings::SETTINGS.$($field).+) }
    };
}
pub(crate) use settings;
