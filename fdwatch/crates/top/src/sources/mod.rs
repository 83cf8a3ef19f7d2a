//! Sources of the updates that the screen shows: the programs of this process, or an agent.

pub(crate) mod agent;
pub(crate) mod inbox;
pub(crate) mod own;

use std::time::Duration;

/// Maximum number of listed processes.
const MAX_ROWS: usize = 500;

/// Interval between readings of the open process; longer if a reading is slow.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// Readings of the open process use at most 1/`READ_SHARE` of one processor.
const READ_SHARE: u32 = 100;
