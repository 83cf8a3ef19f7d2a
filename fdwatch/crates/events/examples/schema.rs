//! Writes `docs/schema`: `cargo xtask schema` runs it.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/schema");
    for (name, text) in fdwatch_events::schema::files() {
        fs::write(directory.join(format!("{name}.schema.json")), text)?;
    }
    Ok(())
}
