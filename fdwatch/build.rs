//! Builds the BPF programs and the OpenAPI document, both of which become part of the binary.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};

#[path = "build/openapi.rs"]
mod openapi;

fn main() -> Result<()> {
    let out = env::var_os("OUT_DIR").context("OUT_DIR is not set")?;
    let document = openapi::document(
        Path::new("src/agent/api/openapi.json"),
        Path::new("../docs/schema"),
    )?;
    fs::write(Path::new(&out).join("openapi.json"), document)
        .context("cannot write the OpenAPI document")?;
    xtask_support::bpf::build()
}
