//! Details of processes and files from /proc. Every read can fail, because the process may exit at any time;
//! findings then lack the detail.

mod device;
mod file;
mod own;
mod process;

pub use self::{
    device::anonymous_devices,
    file::{name, path_of},
    own::{
        boot_id, booted, boottime, effective_user, hostname, resident, thread_time, usage,
        wall_time,
    },
    process::{
        exists, fd_limit, has_no_descriptors, is_fdwatch, is_running, is_stale_process,
        other_fdwatches, process, user,
    },
};
pub(crate) use self::{
    file::path_exists,
    process::{environment, non_root_cgroup, supervisor_names},
};
