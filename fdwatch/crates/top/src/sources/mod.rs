//! Sources of the updates that the screen shows: the programs of this process, or an agent.

pub(crate) mod agent;
pub(crate) mod inbox;
pub(crate) mod own;

use std::time::Duration;

/// Processes that are listed, at most.
const MAX_ROWS: usize = 500;

/// Interval at which an open process is read; longer if reading is slow.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// Divisor of the share of one processor that reading an open process may take.
const READ_SHARE: u32 = 100;
