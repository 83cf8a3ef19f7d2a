//! What xtask, the trials and fdwatch's build script share: running commands, installing packages, and
//! finding the toolchain that the BPF programs are built with.

pub mod apt;
pub mod bpf;
pub mod cache;
pub mod cargo;
pub mod progress;
pub mod pypi;
pub mod shell;
pub mod temp;
pub mod toolchain;
