//! Sources of the updates that the screen shows: the programs of this process, or an agent.

pub(crate) mod agent;
pub(crate) mod inbox;
pub(crate) mod own;

use std::time::Duration;

/// Processes that are shown, at most.
const MAX_ROWS: usize = 500;

/// Interval at which an opened process is read again; longer if reading is slow.
const LOOK: Duration = Duration::from_secs(2);

/// Share of one processor that reading an opened process may take: one in this many.
const LOOK_SHARE: u32 = 100;
