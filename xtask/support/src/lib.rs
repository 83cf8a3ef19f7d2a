//! Code shared by xtask, the trials and fdwatch's build script: runs commands, installs packages, and finds the
//! toolchain that builds the BPF programs.

pub mod apt;
pub mod bpf;
pub mod cache;
pub mod cargo;
pub mod progress;
pub mod pypi;
pub mod shell;
pub mod temp;
pub mod toolchain;
