//! What /proc shows of processes and files: the details of a finding. Every read can fail, because the
//! process may end at any time; then the detail is missing.

mod device;
mod file;
mod own;
mod process;

pub use self::{
    device::anonymous_devices,
    file::{name, path_of},
    own::{boot_id, booted, boottime, effective_user, hostname, resident, usage, wall_time},
    process::{exists, fd_limit, has_no_descriptors, is_running, is_stale_process, process},
};
pub(crate) use self::{
    file::path_exists,
    process::{environment, non_root_cgroup, supervisor_names},
};
