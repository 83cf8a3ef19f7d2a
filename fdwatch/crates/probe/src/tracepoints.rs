//! Layout checks of system call tracepoints.

use std::{fs, io::ErrorKind, path::Path};

use super::ProbeError;

/// Returns whether the tracepoint exists, after comparing its layout with what the programs read: the
/// number of the call at 8, its result or its first argument at 16.
///
/// # Errors
///
/// If the layout differs or cannot be read.
pub(super) fn check(tracefs: &Path, name: &str) -> Result<bool, ProbeError> {
    let path = tracefs.join("events/syscalls").join(name).join("format");
    let format = match fs::read_to_string(path) {
        Ok(format) => format,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            let what = format!("read the layout of tracepoint {name}");
            return Err(ProbeError::refused(what, &error));
        }
    };
    if is_expected(&format) {
        return Ok(true);
    }
    Err(ProbeError::UnknownKernel {
        what: format!("unexpected layout of tracepoint {name}"),
    })
}

fn is_expected(format: &str) -> bool {
    let mut fields = format
        .lines()
        .filter_map(|line| line.trim().strip_prefix("field:"))
        .filter(|field| !field.split(';').next().unwrap_or("").contains(" common_"));
    let number = fields.next().unwrap_or("");
    number.contains(" __syscall_nr;")
        && number.contains("offset:8;")
        && number.contains("size:4;")
        && fields
            .next()
            .is_none_or(|first| first.contains("offset:16;") && first.contains("size:8;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: sys_exit_openat
ID: 730
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;
";

    #[test]
    fn unexpected_layout_is_detected() {
        assert!(is_expected(FORMAT));
        assert!(!is_expected(&FORMAT.replace("offset:16", "offset:12")));
        assert!(!is_expected(&FORMAT.replace("offset:8", "offset:12")));
        assert!(!is_expected(&FORMAT.replace("__syscall_nr", "nr")));
        assert!(!is_expected(""));
    }
}
