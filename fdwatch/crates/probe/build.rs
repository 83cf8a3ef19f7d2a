//! Builds the BPF programs, which become part of the binary.

fn main() -> anyhow::Result<()> {
    xtask_support::bpf::build()
}
