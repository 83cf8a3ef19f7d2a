//! Builds the BPF programs, with the toolchain that `cargo xtask setup` finds or installs.

use std::env;

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

#[path = "../../../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> Result<()> {
    println!(
        "cargo::rerun-if-env-changed={}",
        toolchain::TOOLCHAIN_VARIABLE
    );
    println!("cargo::rerun-if-env-changed=PATH");
    let found = toolchain::find()?;
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")
        .context("cargo does not tell the byte order")?
        .as_str()
    {
        "big" => "BPFEB",
        _ => "BPFEL",
    };
    // SAFETY: nothing else runs in this process yet.
    unsafe {
        if found.compiler.needs_bootstrap {
            env::set_var("RUSTC_BOOTSTRAP", "1");
        }
        env::set_var(
            format!("CARGO_TARGET_{target}_UNKNOWN_NONE_LINKER"),
            &found.linker.path,
        );
    }
    let name = found.compiler.name.as_deref().unwrap_or_default();
    aya_build::build_ebpf(
        [Package {
            name: "fdwatch-ebpf",
            root_dir: "../../../fdwatch-ebpf",
            ..Package::default()
        }],
        Toolchain::Custom(name),
    )
}
