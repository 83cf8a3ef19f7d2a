//! Each rule with small configurations.

use super::FakeHost;
use crate::{
    lint::{Problem, Rule, lint},
    logrotate::{self, Rotations},
    read,
};

const HEAD: &str = "[supervisord]\nlogfile=/l/s.log\n";

fn program(name: &str, settings: &str) -> String {
    format!("[program:{name}]\ncommand=/bin/{name}\nstderr_logfile=NONE\n{settings}\n")
}

fn problems_of(programs: &[String], host: FakeHost, rotate: &str) -> Vec<Problem> {
    let text = format!("{HEAD}{}", programs.concat());
    let mut host = host;
    host.files.insert("/etc/s.conf".to_owned(), text.into());
    host.files.insert("/etc/r.conf".to_owned(), rotate.into());
    let config = read("/etc/s.conf", &host).unwrap();
    let mut rotations = Rotations::default();
    logrotate::read("/etc/r.conf", &host, &mut rotations).unwrap();
    lint(&config, &rotations, &host)
}

fn problems(programs: &[String]) -> Vec<Problem> {
    problems_of(programs, FakeHost::default(), "")
}

/// Returns the only problem.
fn one(programs: &[String], host: FakeHost, rotate: &str) -> Problem {
    let mut problems = problems_of(programs, host, rotate);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

#[test]
fn valid_configuration_has_no_problems() {
    let right = [
        program("a", "stdout_logfile=/l/a.log"),
        program(
            "b",
            "stdout_logfile=/l/%(program_name)s.log\nredirect_stderr=true",
        ),
        program("c", "stdout_logfile=/dev/null"),
        program("d", "stdout_logfile=/dev/null\nstdout_logfile_maxbytes=0"),
        program("e", "stdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0"),
        program("f", "stdout_logfile=/dev/fd/1\nstdout_logfile_maxbytes=0"),
        program(
            "g",
            "numprocs=3\nprocess_name=%(process_num)s\nstdout_logfile=/l/g%(process_num)02d.log",
        ),
        "[rpcinterface:x]\nsupervisor.rpcinterface_factory=y\nz=1\n[unix_http_server]\nfile=/x\n"
            .to_owned(),
    ];
    assert_eq!(problems(&right), []);
}

#[test]
fn log_of_two_programs_is_reported() {
    let two = [
        program("a", "stdout_logfile=/l/x.log"),
        program("b", "stdout_logfile=/l/./x.log"),
    ];
    let problem = one(&two, FakeHost::default(), "");
    assert_eq!(problem.rule, Rule::SharedLog);
    assert_eq!(problem.rule.severity().name(), "warning");
    assert_eq!(problem.rule.cause(), Some("shared-config"));
    assert_eq!(
        (problem.at.file.as_str(), problem.at.line),
        ("/etc/s.conf", 6)
    );
    assert!(
        problem.message.contains("stdout of a, stdout of b"),
        "{problem:?}"
    );
    assert!(
        problem.message.contains("also as /l/./x.log (same path)"),
        "{problem:?}"
    );
    assert!(problem.message.contains("Each rotates it"), "{problem:?}");
    assert!(
        problem
            .advice
            .contains("/l/%(program_name)s.log (/etc/s.conf:6, /etc/s.conf:10)"),
        "{problem:?}"
    );
    assert_eq!(problem.related.len(), 1);
    assert_eq!(problem.related[0].0.line, 10);

    let unlimited =
        ["a", "b"].map(|name| program(name, "stdout_logfile=/l/x.log\nstdout_logfile_maxbytes=0"));
    let problem = one(&unlimited, FakeHost::default(), "");
    assert!(problem.message.contains("None rotates it"), "{problem:?}");
    let [a, _] = unlimited;
    let mixed = [a, program("b", "stdout_logfile=/l/x.log")];
    let problem = one(&mixed, FakeHost::default(), "");
    assert!(problem.message.contains("Some rotate it"), "{problem:?}");
}

#[test]
fn log_of_all_numprocs_is_reported() {
    let settings = "numprocs=9\nprocess_name=%(process_num)s\nstdout_logfile=/l/x.log";
    let problem = one(&[program("a", settings)], FakeHost::default(), "");
    assert_eq!((problem.rule, problem.at.line), (Rule::SharedLog, 8));
    assert!(
        problem
            .message
            .contains("stdout of a:0, stdout of a:1, stdout of a:2 and 6 more"),
        "{problem:?}"
    );
    assert!(
        problem.advice.starts_with("add %(process_num)d"),
        "{problem:?}"
    );
    assert!(!problem.advice.contains("program_name"), "{problem:?}");
    assert_eq!(problem.related, []);
}

#[test]
fn log_of_both_streams_is_reported() {
    let both = "[program:a]\ncommand=a\nstdout_logfile=/l/x.log\nstderr_logfile=/l/x.log\n";
    let problem = one(&[both.to_owned()], FakeHost::default(), "");
    assert_eq!(problem.rule, Rule::SharedLog);
    assert!(
        problem
            .advice
            .contains("redirect_stderr=true in [program:a]"),
        "{problem:?}"
    );
    let redirected = format!("{both}redirect_stderr=true\n");
    assert_eq!(
        one(&[redirected], FakeHost::default(), "").rule,
        Rule::NoEffect
    );
}

#[test]
fn log_of_program_in_two_groups_is_reported() {
    let groups = "[group:g]\nprograms=a\n[group:h]\nprograms=a\n".to_owned();
    let problem = one(
        &[program("a", "stdout_logfile=/l/x.log"), groups],
        FakeHost::default(),
        "",
    );
    assert!(
        problem.message.contains("g:a, stdout of h:a"),
        "{problem:?}"
    );
    assert!(
        problem.advice.starts_with("add %(group_name)s"),
        "{problem:?}"
    );
}

#[test]
fn linked_logs_are_reported() {
    let host = FakeHost {
        links: [("/link".to_owned(), "/l".to_owned())].into(),
        ..FakeHost::default()
    };
    let two = [
        program("a", "stdout_logfile=/l/x.log"),
        program("b", "stdout_logfile=/link/x.log"),
    ];
    let problem = one(&two, host, "");
    assert!(
        problem
            .message
            .contains("also as /link/x.log (same file, through links)"),
        "{problem:?}"
    );
}

#[test]
fn program_on_supervisords_log_is_reported() {
    let problem = one(
        &[program("a", "stdout_logfile=/l/s.log")],
        FakeHost::default(),
        "",
    );
    assert_eq!((problem.rule, problem.at.line), (Rule::OwnLog, 6));
    assert_eq!(problem.related[0].0.line, 2);
}

#[test]
fn size_limit_of_unseekable_log_is_reported() {
    for (settings, place) in [
        ("stdout_logfile=/dev/stdout", "50MB (the default)"),
        (
            "stdout_logfile=/dev/fd/2\nstdout_logfile_maxbytes=1KB",
            "1KB (/etc/s.conf:7)",
        ),
        ("stdout_logfile=/dev/tty1", ": each line causes an error"),
    ] {
        let problem = one(&[program("a", settings)], FakeHost::default(), "");
        assert_eq!(problem.rule, Rule::UnseekableLog, "{problem:?}");
        assert!(problem.message.contains(place), "{problem:?}");
        assert!(
            problem
                .advice
                .contains("stdout_logfile_maxbytes=0 in [program:a]"),
            "{problem:?}"
        );
    }
}

#[test]
fn unwritable_logs_are_reported() {
    let unwritable = |path: &str| FakeHost {
        unwritable: vec![path.to_owned()],
        ..FakeHost::of(&[("/l/there.log", "")])
    };
    let lint_one = |settings: &str, host| one(&[program("a", settings)], host, "");
    let missing = FakeHost {
        missing: vec!["/none".to_owned()],
        ..FakeHost::default()
    };
    let problem = lint_one("stdout_logfile=/none/a.log", missing);
    assert_eq!(problem.rule, Rule::MissingDirectory);
    assert_eq!(problem.rule.severity().name(), "critical");
    let problem = lint_one("stdout_logfile=/w/a.log", unwritable("/w"));
    assert_eq!(problem.rule, Rule::UnwritableLog);
    assert!(
        problem.message.contains("leaves 6 pipe descriptors"),
        "{problem:?}"
    );
    let problem = lint_one(
        "stdout_logfile=/l/there.log\nredirect_stderr=true",
        unwritable("/l/there.log"),
    );
    assert_eq!(problem.rule, Rule::UnwritableLog);
    assert!(
        problem.message.contains("leaves 4 pipe descriptors"),
        "{problem:?}"
    );
    let problem = lint_one("stdout_logfile=/l/dir", FakeHost::default());
    assert!(problem.message.contains("is a directory"), "{problem:?}");
    let problems = problems_of(
        &[program("a", "stdout_logfile=/l/there.log")],
        unwritable("/l"),
        "",
    );
    let rules: Vec<_> = problems.iter().map(|problem| problem.rule).collect();
    // supervisord's own log cannot be created there either.
    assert_eq!(rules, [Rule::UnwritableLog, Rule::UnrotatableLog]);
}

#[test]
fn logs_rotated_by_logrotate_are_reported() {
    let rotate =
        |script: &str| format!("# all\n\"/l/a*.log\" /l/b.log\n{{\n weekly\n {script}\n}}\n");
    let [cut, renamed] = ["copytruncate", ""].map(rotate);
    let notified = rotate("postrotate\n kill -USR2 `cat /run/supervisord.pid`\n endscript");
    let limited = [program("a", "stdout_logfile=/l/a1.log")];
    let unlimited = [program(
        "a",
        "stdout_logfile=/l/a1.log\nstdout_logfile_maxbytes=0",
    )];

    let problem = one(&limited, FakeHost::default(), &cut);
    assert_eq!((problem.rule, problem.at.line), (Rule::RotatedTwice, 6));
    assert!(problem.message.contains("(/etc/r.conf:2)"), "{problem:?}");
    assert!(problem.message.contains("hole of zeros"), "{problem:?}");
    assert!(!problem.advice.contains("use copytruncate"), "{problem:?}");
    let problem = one(&limited, FakeHost::default(), &renamed);
    assert!(problem.message.contains("renames"), "{problem:?}");
    assert!(problem.advice.contains("use copytruncate"), "{problem:?}");
    assert_eq!(
        one(&limited, FakeHost::default(), &notified).rule,
        Rule::RotatedTwice
    );

    assert_eq!(problems_of(&unlimited, FakeHost::default(), &cut), []);
    assert_eq!(problems_of(&unlimited, FakeHost::default(), &notified), []);
    let problem = one(&unlimited, FakeHost::default(), &renamed);
    assert_eq!(problem.rule, Rule::NotReopened);
    let all = format!("copytruncate\n{renamed}");
    assert_eq!(problems_of(&unlimited, FakeHost::default(), &all), []);
    let auto = [program("a", "")];
    let problem = one(&auto, FakeHost::default(), "/tmp/*.log { copytruncate }");
    assert_eq!(
        problem.path.as_deref(),
        Some("/tmp/a-stdout---supervisor-*.log")
    );
}

#[test]
fn ignored_settings_are_reported() {
    let rule = |settings: &str| {
        let problem = one(&[program("a", settings)], FakeHost::default(), "");
        (problem.rule, problem.advice)
    };
    let meant = |advice: &str| advice.to_owned();
    assert_eq!(
        rule("stdout_logfil=/x"),
        (Rule::UnknownKey, meant("did you mean stdout_logfile?"))
    );
    assert_eq!(rule("weather=fair"), (Rule::UnknownKey, meant("")));
    assert_eq!(
        rule("[programs:b]"),
        (Rule::UnknownSection, meant("did you mean [program:NAME]?"))
    );
    assert_eq!(
        rule("[include]\nfiles=/none/*.conf").0,
        Rule::NothingIncluded
    );
    assert_eq!(rule("[include]\nfiles=/none/a").0, Rule::NotIncluded);
    assert_eq!(
        rule("stdout_logfile=syslog"),
        (Rule::NoEffect, meant("set stdout_syslog=true"))
    );
    assert_eq!(rule("stdout_logfile_maxbytes=0").0, Rule::NoEffect);
    assert_eq!(rule("stdout_logfile=a.log").0, Rule::RelativeLog);
    let problem = one(
        &[program("a", "stdout_logfile=/l/%(nope)s")],
        FakeHost::default(),
        "",
    );
    assert_eq!((problem.rule, problem.at.line), (Rule::Refused, 6));
}

#[test]
fn nested_include_is_reported() {
    let host = FakeHost::of(&[("/etc/i.conf", "[include]\nfiles=/etc/j.conf\n")]);
    let problem = one(&["[include]\nfiles=/etc/i.conf\n".to_owned()], host, "");
    assert_eq!(problem.rule, Rule::NotIncluded);
    assert_eq!(
        (problem.at.file.as_str(), problem.at.line),
        ("/etc/i.conf", 2)
    );
}

#[test]
fn duplicate_names_are_reported() {
    let named = "process_name=same\nstdout_logfile=/l/%(program_name)s.log";
    let two = [program("a", named), program("b", named)];
    let group = "[group:g]\nprograms=a,b\n".to_owned();
    let [a, b] = two;
    let problem = one(&[a.clone(), b.clone(), group], FakeHost::default(), "");
    assert_eq!((problem.rule, problem.at.line), (Rule::SameName, 8));
    assert!(
        problem.message.contains("processes are named g:same"),
        "{problem:?}"
    );
    assert_eq!(problem.related[0].0.line, 3);
    assert_eq!(problems(&[a.clone(), b.clone()]), []);
    let problem = one(
        &[a, b, "[group:b]\nprograms=a\n".to_owned()],
        FakeHost::default(),
        "",
    );
    assert!(
        problem.message.contains("two groups are named b"),
        "{problem:?}"
    );
}

#[test]
fn listener_is_not_advised_to_redirect() {
    let listener = "[eventlistener:e]\ncommand=e\nevents=TICK_5\nstdout_logfile=/l/e.log\n\
                    stderr_logfile=/l/e.log\n";
    let problem = one(&[listener.to_owned()], FakeHost::default(), "");
    assert!(
        problem
            .advice
            .starts_with("give stderr of [eventlistener:e] its own log"),
        "{problem:?}"
    );
}
