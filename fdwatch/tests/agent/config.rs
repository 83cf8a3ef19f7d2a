//! Checks of the agent's configuration: `fdwatch agent --check` and `--print-example`.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use fdwatch_test_support::{Finished, fdwatch, is_root, program, run};

struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("cannot create a directory");
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().expect("not UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("cannot write a file");
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, permissions).expect("cannot change a file");
        path
    }

    fn check(&self, text: impl AsRef<[u8]>) -> Finished {
        self.write("agent.toml", text, 0o644);
        let mut command = fdwatch(["agent", "--check", "agent.toml"]);
        command.current_dir(self.directory.path());
        run(command)
    }
}

fn check(path: &str) -> Finished {
    run(fdwatch(["agent", "--check", path]))
}

#[test]
fn example_from_pipe_is_valid() {
    let example = run(fdwatch(["agent", "--print-example"]));
    assert_eq!(example.code, Some(0), "{}", example.stderr);
    assert!(example.stdout().contains("[watch]"));
    let mut command = fdwatch(["agent", "--check", "/dev/stdin"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("cannot start");
    let mut stdin = child.stdin.take().expect("no standard input");
    stdin.write_all(&example.output).expect("cannot read");
    drop(stdin);
    let output = child.wait_with_output().expect("cannot wait for fdwatch");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b""[..], &b""[..])
    );
}

#[test]
fn each_config_error_has_its_position() {
    let finished = Case::new()
        .check("[watch]\nseverty = \"info\"\nmax_cpu = 200\n[api]\nlisten = [\"0.0.0.0:9464\"]\n");
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert_eq!(
        finished.stdout(),
        "agent.toml:2:1: unknown key severty in [watch]: did you mean severity?\n\
         agent.toml:3:11: max_cpu: expected a percentage above 0 and up to 100\n\
         agent.toml:5:11: listen: 0.0.0.0:9464 can be reached from other hosts, which requires \
         TLS and a token: add tls and token_file, or listen on 127.0.0.1 or [::1]\n"
    );
    assert_eq!(finished.stderr, "");
}

#[test]
fn invalid_toml_is_rejected_with_line() {
    let case = Case::new();
    let finished = case.check(b"[watch]\n# \xff\n");
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(
        finished
            .stdout()
            .starts_with("agent.toml:2:3: invalid UTF-8")
    );
    let finished = case.check("[watch]\nmax_cpu 1\n");
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stdout().starts_with("agent.toml:2:"));
}

#[test]
fn quoted_values_stay_on_one_line() {
    let finished = Case::new().check("[watch]\n\"a\\nb\\u001b[2J\" = 1\n");
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert_eq!(finished.stdout().lines().count(), 1);
    assert!(finished.stdout().contains("a\\nb\\x1b[2J"));
}

#[test]
fn unreadable_config_is_an_error() {
    let case = Case::new();
    let nowhere = check(&case.path("nowhere.toml"));
    assert!(nowhere.error().contains("No such file"));
    let directory = check(case.directory.path().to_str().expect("not UTF-8"));
    assert!(directory.error().contains("Is a directory"));
    let endless = check("/dev/zero");
    assert!(endless.error().contains("larger than"));
    let secret = case.write("secret.toml", "", 0o000);
    if is_root() {
        // Root can read everything, except what belongs to others where it has no privileges.
        fs::set_permissions(case.directory.path(), fs::Permissions::from_mode(0o755))
            .expect("cannot change a file");
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]);
        command.args([env!("CARGO_BIN_EXE_fdwatch"), "agent", "--check", &secret]);
        command.stdin(Stdio::null());
        assert!(run(command).error().contains("Permission denied"));
    } else {
        assert!(check(&secret).error().contains("Permission denied"));
    }
}

#[test]
fn referenced_files_are_checked() {
    let case = Case::new();
    let token = case.write("token", "0123456789abcdef0123456789abcdef\n", 0o600);
    let short = case.write("short", "secret\n", 0o600);
    let empty = case.write("empty", "\n", 0o600);
    let two = case.write("two", "a\nb\n", 0o600);
    let open = case.write("open", "0123456789abcdef0123456789abcdef\n", 0o644);
    for (path, expected) in [
        (&token, None),
        (&short, Some("has fewer than 16 characters")),
        (&empty, Some("is empty")),
        (&two, Some("must be one line of ASCII")),
        (&case.path("nowhere"), Some("cannot be read: No such file")),
    ] {
        let finished = case.check(format!("[api]\ntoken_file = \"{path}\"\n"));
        let reported = finished.stdout();
        assert_eq!(finished.stderr, "");
        match expected {
            None => assert_eq!((finished.code, reported.as_str()), (Some(0), "")),
            Some(reason) => {
                assert_eq!(finished.code, Some(1), "{path}");
                let expected = format!("agent.toml:2:14: {path} {reason}");
                assert!(reported.starts_with(&expected), "{reported}");
            }
        }
    }
    let finished = case.check(format!("[api]\ntoken_file = \"{open}\"\n"));
    assert_eq!(finished.code, Some(0), "{}", finished.stdout());
    assert_eq!(
        finished.stderr,
        format!(
            "fdwatch: warning: agent.toml:2:14: {open} is readable by all users: run chmod o= {open}\n"
        )
    );
}

const OPENSSL: &str = "/usr/bin/openssl";

#[test]
fn mismatched_certificate_and_key_are_rejected() {
    if !program(OPENSSL) {
        return;
    }
    let case = Case::new();
    let make = |name: &str| {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        let mut command = Command::new(OPENSSL);
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
        command.args([
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
        ]);
        command.args(["-addext", "subjectAltName=DNS:localhost"]);
        command.args(["-out", &certificate, "-keyout", &key]);
        command.current_dir(case.directory.path());
        let made = run(command);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        (case.path(&certificate), case.path(&key))
    };
    let (one, one_key) = make("one");
    let (_, other_key) = make("other");
    let token = case.write("token", "0123456789abcdef0123456789abcdef\n", 0o600);
    let listen = |certificate: &str, key: &str| {
        case.check(format!(
            "[api]\nlisten = [\"0.0.0.0:9464\"]\ntoken_file = \"{token}\"\n\
             tls = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n"
        ))
    };
    let finished = listen(&one, &one_key);
    assert_eq!(finished.code, Some(0), "{}", finished.stdout());
    let finished = listen(&one, &other_key);
    assert_eq!(finished.code, Some(1), "{}", finished.stdout());
    assert!(finished.stdout().contains("does not match it"));
    for (file, reason) in [(&one, None), (&token, Some("contains no certificate"))] {
        let finished = case.check(format!(
            "[otlp]\nurl = \"https://h.example/\"\nca_file = \"{file}\"\n"
        ));
        let code = if reason.is_some() { 1 } else { 0 };
        assert_eq!(finished.code, Some(code), "{}", finished.stdout());
        assert!(finished.stdout().contains(reason.unwrap_or("")));
    }
    let finished = listen(&token, &one_key);
    assert!(finished.stdout().contains("contains no certificate"));
    let finished = listen(&one, &token);
    assert!(finished.stdout().contains("is not a PEM key"));
}

#[test]
fn conflicting_agent_options_are_rejected() {
    let finished = run(fdwatch(["agent", "--check", "/x", "--print-example"]));
    assert_eq!(finished.code, Some(2));
    let finished = run(fdwatch(["agent", "--stop", "--config", "/x"]));
    assert_eq!(finished.code, Some(2));
}
