//! Errors: one message that starts with `error:`, exit code 2, never a panic.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::{self, BufRead, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use fdwatch_test_support::{Finished, Guard, Puppet, bpf, fdwatch, is_root, parse, run};

/// Runs fdwatch by another program, whose own arguments come first.
fn by<'a>(runner: &str, arguments: &[&'a str], fdwatch: &'a OsStr, its: &[&'a str]) -> Finished {
    let mut command = Command::new(runner);
    command
        .args(arguments)
        .arg(fdwatch)
        .args(its)
        .stdin(Stdio::null());
    run(command)
}

/// Shell command that hides tracefs.
const NO_TRACEFS: &str = "mount -t tmpfs tmpfs /sys/kernel/tracing \
    && mount -t tmpfs tmpfs /sys/kernel/debug";

/// Runs fdwatch by `runner` in a private mount namespace that a shell has changed.
fn elsewhere(change: &str, runner: &str, arguments: &[&str]) -> Finished {
    let binary = OsStr::new(env!("CARGO_BIN_EXE_fdwatch"));
    let script = format!("{change} && exec {runner} \"$0\" \"$@\"");
    by("unshare", &["-m", "sh", "-c", &script], binary, arguments)
}

/// Returns an unused process id.
fn unused_pid() -> String {
    let most = fs::read_to_string("/proc/sys/kernel/pid_max").expect("missing");
    let most: u32 = most.trim().parse().expect("not a number");
    (most + 1).to_string()
}

/// Makes more duplicates than fit into a pipe.
fn many_duplicates(puppet: &mut Puppet, directory: &tempfile::TempDir) {
    for i in 0..100 {
        let path = directory.path().join(i.to_string());
        puppet.open(&path, "WRONLY|CREAT");
        puppet.open(&path, "RDONLY");
    }
}

#[test]
fn unprivileged_error_has_help() {
    // The other user may not enter the directory of the binary.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("fdwatch");
    fs::copy(env!("CARGO_BIN_EXE_fdwatch"), &binary).unwrap();
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let as_other_user = |arguments: &[&str]| {
        if is_root() {
            by("setpriv", &nobody, binary.as_os_str(), arguments)
        } else {
            run(fdwatch(arguments))
        }
    };
    for arguments in [
        &["watch"][..],
        &["watch", "--json"],
        &["scan"],
        &["scan", "--json"],
        &["fds", "1"],
    ] {
        let finished = as_other_user(arguments);
        let error = finished.error();
        assert!(error.contains("privileges"), "{error}");
        assert!(error.contains("\nhelp: run fdwatch as root"), "{error}");
        assert!(finished.output.is_empty());
    }
    if is_root() {
        // Unreadable descriptors of another user are an error, not an empty list.
        for command in ["fds", "explain"] {
            let finished = as_other_user(&[command, "1", "--proc"]);
            assert!(
                finished.error().contains("\nhelp: run as root"),
                "{}",
                finished.stderr
            );
            assert!(finished.output.is_empty());
        }
    }
    let doctor = as_other_user(&["doctor"]);
    assert_eq!(doctor.code, Some(2));
    assert!(doctor.stdout().contains("root"), "{}", doctor.stdout());
}

#[test]
fn own_descriptors_need_no_privileges() {
    let own = std::process::id().to_string();
    let finished = run(fdwatch(["fds", &own, "--proc", "--json"]));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.json()[0]["type"], "table");
}

#[test]
fn missing_process_is_named() {
    let pid = unused_pid();
    for arguments in [
        &["fds", &pid][..],
        &["fds", &pid, "--json"],
        &["scan", "--pid", &pid],
        &["watch", "--pid", &pid],
    ] {
        let finished = run(fdwatch(arguments));
        let error = finished.error();
        assert!(error.contains(&pid), "{error}");
        assert!(finished.output.is_empty());
    }
}

#[test]
fn wrong_argument_is_named() {
    for (arguments, wrong) in [
        (&["scan", "--path", "[x"][..], "[x"),
        (&["watch", "--comm", "{a,b"], "{a,b"),
        (&["watch", "--duration", "soon"], "soon"),
        (&["watch", "--duration", "-5s"], "-5s"),
        (&["watch", "--duration", "0s"], "0s"),
        (&["watch", "--ring-size", "3M"], "3M"),
        (&["watch", "--ring-size", "lots"], "lots"),
        (&["scan", "--severity", "urgent"], "urgent"),
        (&["scan", "--min-fds", "few"], "few"),
        (&["scan", "--pid", "-1"], "-1"),
        (&["fds", "init"], "init"),
        (&["fds", "init"], "process ID"),
        (&["explain", "init"], "process ID"),
        (&["trace", "--pid", "init"], "process ID"),
        (&["history", "--pid", "init"], "process ID"),
        (&["run", "--error-exitcode", "256", "true"], "1 to 255"),
        (&["fds"], "PID"),
        (&["gaze"], "gaze"),
    ] {
        let finished = run(fdwatch(arguments));
        assert!(finished.error().contains(wrong), "{}", finished.stderr);
        assert!(finished.output.is_empty());
    }
}

#[test]
fn closed_pipe_is_no_error() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    many_duplicates(&mut puppet, &directory);
    let pid = puppet.pid().to_string();
    for arguments in [
        &["scan", "--all", "--json"][..],
        &["scan", "--pid", &pid],
        &["fds", &pid],
        &["fds", &pid, "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["watch", "--json"],
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = fdwatch(arguments);
        command.stdout(writer).stderr(Stdio::piped());
        let mut child = Guard::spawn(&mut command);
        // Closes the parent's copy of the writing end.
        drop(command);
        let mut message = String::new();
        let stderr = child.0.stderr.take().map(BufReader::new);
        for line in stderr.into_iter().flat_map(BufRead::lines) {
            message += &line.unwrap();
        }
        let code = child.wait();
        assert_eq!(code, Some(0), "{arguments:?}: {message}");
        assert!(!message.contains("error: "), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{arguments:?}: {message}");
    }
}

#[test]
fn watch_ends_with_its_reader() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    let mut command = fdwatch(["watch", "--json", "--pid", &pid]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guard::spawn(&mut command);
    let mut reader = BufReader::new(child.0.stdout.take().unwrap());
    let mut started = String::new();
    reader.read_line(&mut started).unwrap();
    assert_eq!(parse(&started)["type"], "started");
    drop(reader);
    many_duplicates(&mut puppet, &directory);
    assert_eq!(child.wait(), Some(0));
}

#[test]
fn full_disk_is_reported() {
    if !bpf() {
        return;
    }
    let own = std::process::id().to_string();
    for arguments in [
        &["scan", "--all", "--json"][..],
        &["fds", &own],
        &["fds", &own, "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["watch", "--json", "--duration", "1s"],
    ] {
        let full = File::create("/dev/full").unwrap();
        let mut command = fdwatch(arguments);
        command.stdout(full).stderr(Stdio::piped());
        let mut child = Guard::spawn(&mut command);
        let stderr = BufReader::new(child.0.stderr.take().unwrap());
        let message: Vec<_> = stderr.lines().map(Result::unwrap).collect();
        let message = message.join("\n");
        assert_eq!(child.wait(), Some(2), "{arguments:?}: {message}");
        assert!(message.starts_with("error: "), "{message}");
        assert!(message.contains("No space left"), "{message}");
    }
}

#[test]
fn pid_namespace_is_refused() {
    if !bpf() {
        return;
    }
    let binary = OsStr::new(env!("CARGO_BIN_EXE_fdwatch"));
    for arguments in [&["scan"][..], &["watch"], &["fds", "1"]] {
        let finished = by("unshare", &["-pf", "--mount-proc"], binary, arguments);
        let error = finished.error();
        assert!(error.contains("pid namespace"), "{error}");
        assert!(error.contains("\nhelp: run fdwatch on the host"), "{error}");
    }
}

/// Installs a seccomp filter that answers `EPERM` to one call, as container engines do.
fn without_call(command: &mut Command, call: libc::c_long) {
    // linux/filter.h, linux/bpf_common.h: classic BPF instructions on the number in seccomp_data.
    let instruction = |code: u32, if_true: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("code exceeds the type"),
        jt: if_true,
        jf: 0,
        k,
    };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            u32::try_from(call).expect("call number exceeds the type"),
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        instruction(libc::BPF_RET | libc::BPF_K, 0, refuse),
    ];
    // SAFETY: the calls are async-signal-safe; the closure owns the filter.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap_or_default(),
                filter: filter.as_mut_ptr(),
            };
            let result = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program);
            if result == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
}

#[test]
fn seccomp_error_names_call_to_allow() {
    if !bpf() {
        return;
    }
    let calls = [
        ("bpf()", libc::SYS_bpf),
        ("perf_event_open()", libc::SYS_perf_event_open),
    ];
    for (name, call) in calls {
        let behind = |arguments: &[&str]| {
            let mut command = fdwatch(arguments);
            without_call(&mut command, call);
            run(command)
        };
        let watch = behind(&["watch", "--duration", "1s"]);
        let error = watch.error();
        assert!(
            error.contains(&format!(
                "error: cannot call {name}: blocked by a seccomp filter"
            )) && error.contains("\nhelp: allow bpf() and perf_event_open()"),
            "{error}"
        );
        let doctor = behind(&["doctor"]);
        assert_eq!(doctor.code, Some(2), "{}", doctor.stderr);
        assert!(
            doctor.stdout().contains("missing  seccomp "),
            "{}",
            doctor.stdout()
        );
    }
    // A filter that forbids an unneeded call has no effect.
    let mut command = fdwatch(["doctor"]);
    without_call(&mut command, libc::SYS_reboot);
    let text = run(command).stdout();
    assert!(
        text.contains("ok       seccomp        filter allows"),
        "{text}"
    );
}

#[test]
fn missing_btf_error_names_kernel_option() {
    if !bpf() {
        return;
    }
    let change = "mount -t tmpfs tmpfs /sys/kernel/btf";
    for arguments in [&["scan"][..], &["watch", "--duration", "1s"]] {
        let finished = elsewhere(change, "", arguments);
        let error = finished.error();
        assert!(error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }
    let doctor = elsewhere(change, "", &["doctor", "--json"]);
    assert_eq!(doctor.code, Some(2), "{}", doctor.stderr);
    assert_eq!(doctor.json()[0]["verdict"], "missing");
}

#[test]
fn unmounted_tracefs_is_mounted() {
    if !bpf() {
        return;
    }
    let finished = elsewhere(NO_TRACEFS, "", &["watch", "--json", "--duration", "300ms"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[test]
fn unmountable_tracefs_error_has_command() {
    if !bpf() {
        return;
    }
    // With all capabilities but the one to mount.
    let finished = elsewhere(
        NO_TRACEFS,
        "setpriv --bounding-set=-sys_admin",
        &["watch", "--duration", "1s"],
    );
    let error = finished.error();
    assert!(error.contains("mount -t tracefs"), "{error}");
}
