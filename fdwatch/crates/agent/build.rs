//! Assembles the OpenAPI document of the agent's API, which is part of the binary.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};

#[path = "build/openapi.rs"]
mod openapi;

fn main() -> Result<()> {
    let out = env::var_os("OUT_DIR").context("OUT_DIR is not set")?;
    let document = openapi::document(
        Path::new("src/api/openapi.json"),
        Path::new("../../../docs/schema"),
    )?;
    fs::write(Path::new(&out).join("openapi.json"), document)
        .context("cannot write the OpenAPI document")
}
