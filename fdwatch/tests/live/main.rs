//! Programs that run and what fdwatch reports about their descriptors: commands that read the live system.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails, fails its test")]

mod causes;
mod detach;
mod detail;
mod double_close;
mod duplicates;
mod errors;
mod explain;
mod filters;
mod hostile;
mod inherited;
mod model_vs_proc;
mod names;
mod run;
mod signals;
mod stacks;
mod top;
mod trace;
mod transparent;
mod who;
