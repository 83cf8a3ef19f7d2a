//! Builds the BPF programs, with the toolchain that `cargo xtask setup` finds or makes, and puts the
//! document of the agent's API together, for both to be part of the binary.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

#[path = "build/openapi.rs"]
mod openapi;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> Result<()> {
    let out = env::var_os("OUT_DIR").context("cargo does not tell where to write to")?;
    let document = openapi::document(
        Path::new("src/agent/api/openapi.json"),
        Path::new("../docs/schema"),
    )?;
    fs::write(Path::new(&out).join("openapi.json"), document)
        .context("cannot write the document of the API")?;
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
            root_dir: "../fdwatch-ebpf",
            ..Package::default()
        }],
        Toolchain::Custom(name),
    )
}
