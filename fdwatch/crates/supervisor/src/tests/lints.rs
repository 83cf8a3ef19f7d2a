//! The rules, each by what it says of small configurations.

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

/// The one problem there is.
fn one(programs: &[String], host: FakeHost, rotate: &str) -> Problem {
    let mut problems = problems_of(programs, host, rotate);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

#[test]
fn what_is_right_is_not_told() {
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
fn two_programs_on_one_log_are_told() {
    let two = [
        program("a", "stdout_logfile=/l/x.log"),
        program("b", "stdout_logfile=/l/./x.log"),
    ];
    let told = one(&two, FakeHost::default(), "");
    assert_eq!(told.rule, Rule::SharedLog);
    assert_eq!(told.rule.severity().name(), "warning");
    assert_eq!(told.rule.cause(), Some("shared-config"));
    assert_eq!((told.at.file.as_str(), told.at.line), ("/etc/s.conf", 6));
    assert!(
        told.message.contains("stdout of a, stdout of b"),
        "{told:?}"
    );
    assert!(
        told.message.contains("also as /l/./x.log (the same path)"),
        "{told:?}"
    );
    assert!(told.message.contains("Each rotates it"), "{told:?}");
    assert!(
        told.advice
            .contains("/l/%(program_name)s.log (/etc/s.conf:6, /etc/s.conf:10)"),
        "{told:?}"
    );
    assert_eq!(told.related.len(), 1);
    assert_eq!(told.related[0].0.line, 10);

    let unlimited =
        ["a", "b"].map(|name| program(name, "stdout_logfile=/l/x.log\nstdout_logfile_maxbytes=0"));
    let told = one(&unlimited, FakeHost::default(), "");
    assert!(told.message.contains("None rotates it"), "{told:?}");
    let [a, _] = unlimited;
    let mixed = [a, program("b", "stdout_logfile=/l/x.log")];
    let told = one(&mixed, FakeHost::default(), "");
    assert!(told.message.contains("Some rotate it"), "{told:?}");
}

#[test]
fn numprocs_on_one_log_are_told() {
    let settings = "numprocs=9\nprocess_name=%(process_num)s\nstdout_logfile=/l/x.log";
    let told = one(&[program("a", settings)], FakeHost::default(), "");
    assert_eq!((told.rule, told.at.line), (Rule::SharedLog, 8));
    assert!(
        told.message
            .contains("stdout of a:0, stdout of a:1, stdout of a:2 and 6 more"),
        "{told:?}"
    );
    assert!(told.advice.starts_with("put %(process_num)d"), "{told:?}");
    assert!(!told.advice.contains("program_name"), "{told:?}");
    assert_eq!(told.related, []);
}

#[test]
fn both_streams_on_one_log_are_told() {
    let both = "[program:a]\ncommand=a\nstdout_logfile=/l/x.log\nstderr_logfile=/l/x.log\n";
    let told = one(&[both.to_owned()], FakeHost::default(), "");
    assert_eq!(told.rule, Rule::SharedLog);
    assert!(
        told.advice.contains("redirect_stderr=true in [program:a]"),
        "{told:?}"
    );
    let redirected = format!("{both}redirect_stderr=true\n");
    assert_eq!(
        one(&[redirected], FakeHost::default(), "").rule,
        Rule::NoEffect
    );
}

#[test]
fn a_program_in_two_groups_is_told() {
    let groups = "[group:g]\nprograms=a\n[group:h]\nprograms=a\n".to_owned();
    let told = one(
        &[program("a", "stdout_logfile=/l/x.log"), groups],
        FakeHost::default(),
        "",
    );
    assert!(told.message.contains("g:a, stdout of h:a"), "{told:?}");
    assert!(told.advice.starts_with("put %(group_name)s"), "{told:?}");
}

#[test]
fn links_to_one_log_are_told() {
    let host = FakeHost {
        links: [("/link".to_owned(), "/l".to_owned())].into(),
        ..FakeHost::default()
    };
    let two = [
        program("a", "stdout_logfile=/l/x.log"),
        program("b", "stdout_logfile=/link/x.log"),
    ];
    let told = one(&two, host, "");
    assert!(
        told.message
            .contains("also as /link/x.log (one file, by links)"),
        "{told:?}"
    );
}

#[test]
fn supervisord_s_own_log_is_told() {
    let told = one(
        &[program("a", "stdout_logfile=/l/s.log")],
        FakeHost::default(),
        "",
    );
    assert_eq!((told.rule, told.at.line), (Rule::OwnLog, 6));
    assert_eq!(told.related[0].0.line, 2);
}

#[test]
fn what_cannot_be_sought_in_is_told() {
    for (settings, place) in [
        ("stdout_logfile=/dev/stdout", "50MB (the default)"),
        (
            "stdout_logfile=/dev/fd/2\nstdout_logfile_maxbytes=1KB",
            "1KB (/etc/s.conf:7)",
        ),
        ("stdout_logfile=/dev/tty1", "each line makes an error"),
    ] {
        let told = one(&[program("a", settings)], FakeHost::default(), "");
        assert_eq!(told.rule, Rule::UnseekableLog, "{told:?}");
        assert!(told.message.contains(place), "{told:?}");
        assert!(
            told.advice
                .contains("stdout_logfile_maxbytes=0 in [program:a]"),
            "{told:?}"
        );
    }
}

#[test]
fn what_cannot_be_written_is_told() {
    let unwritable = |path: &str| FakeHost {
        unwritable: vec![path.to_owned()],
        ..FakeHost::of(&[("/l/there.log", "")])
    };
    let told = |settings: &str, host| one(&[program("a", settings)], host, "");
    let missing = FakeHost {
        missing: vec!["/none".to_owned()],
        ..FakeHost::default()
    };
    let problem = told("stdout_logfile=/none/a.log", missing);
    assert_eq!(problem.rule, Rule::MissingDirectory);
    assert_eq!(problem.rule.severity().name(), "critical");
    let problem = told("stdout_logfile=/w/a.log", unwritable("/w"));
    assert_eq!(problem.rule, Rule::UnwritableLog);
    assert!(problem.message.contains("leaves 6 ends"), "{problem:?}");
    let problem = told(
        "stdout_logfile=/l/there.log\nredirect_stderr=true",
        unwritable("/l/there.log"),
    );
    assert_eq!(problem.rule, Rule::UnwritableLog);
    assert!(problem.message.contains("leaves 4 ends"), "{problem:?}");
    let problem = told("stdout_logfile=/l/dir", FakeHost::default());
    assert!(problem.message.contains("is a directory"), "{problem:?}");
    let problems = problems_of(
        &[program("a", "stdout_logfile=/l/there.log")],
        unwritable("/l"),
        "",
    );
    let rules: Vec<_> = problems.iter().map(|problem| problem.rule).collect();
    // Its own log cannot be made there either.
    assert_eq!(rules, [Rule::UnwritableLog, Rule::UnrotatableLog]);
}

#[test]
fn logrotate_is_held_against_it() {
    let rotate =
        |script: &str| format!("# all\n\"/l/a*.log\" /l/b.log\n{{\n weekly\n {script}\n}}\n");
    let [cut, renamed] = ["copytruncate", ""].map(rotate);
    let told = rotate("postrotate\n kill -USR2 `cat /run/supervisord.pid`\n endscript");
    let limited = [program("a", "stdout_logfile=/l/a1.log")];
    let unlimited = [program(
        "a",
        "stdout_logfile=/l/a1.log\nstdout_logfile_maxbytes=0",
    )];

    let problem = one(&limited, FakeHost::default(), &cut);
    assert_eq!((problem.rule, problem.at.line), (Rule::RotatedTwice, 6));
    assert!(problem.message.contains("(/etc/r.conf:2)"), "{problem:?}");
    assert!(problem.message.contains("hole of zeros"), "{problem:?}");
    assert!(!problem.advice.contains("say copytruncate"), "{problem:?}");
    let problem = one(&limited, FakeHost::default(), &renamed);
    assert!(problem.message.contains("renames"), "{problem:?}");
    assert!(problem.advice.contains("say copytruncate"), "{problem:?}");
    assert_eq!(
        one(&limited, FakeHost::default(), &told).rule,
        Rule::RotatedTwice
    );

    assert_eq!(problems_of(&unlimited, FakeHost::default(), &cut), []);
    assert_eq!(problems_of(&unlimited, FakeHost::default(), &told), []);
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
fn what_is_passed_over_is_told() {
    let rule = |settings: &str| {
        let told = one(&[program("a", settings)], FakeHost::default(), "");
        (told.rule, told.advice)
    };
    let meant = |advice: &str| advice.to_owned();
    assert_eq!(
        rule("stdout_logfil=/x"),
        (Rule::UnknownKey, meant("is stdout_logfile meant?"))
    );
    assert_eq!(rule("weather=fair"), (Rule::UnknownKey, meant("")));
    assert_eq!(
        rule("[programs:b]"),
        (Rule::UnknownSection, meant("is [program:NAME] meant?"))
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
    let told = one(
        &[program("a", "stdout_logfile=/l/%(nope)s")],
        FakeHost::default(),
        "",
    );
    assert_eq!((told.rule, told.at.line), (Rule::Refused, 6));
}

#[test]
fn includes_that_are_not_followed_are_told() {
    let host = FakeHost::of(&[("/etc/i.conf", "[include]\nfiles=/etc/j.conf\n")]);
    let told = one(&["[include]\nfiles=/etc/i.conf\n".to_owned()], host, "");
    assert_eq!(told.rule, Rule::NotIncluded);
    assert_eq!((told.at.file.as_str(), told.at.line), ("/etc/i.conf", 2));
}

#[test]
fn names_that_are_there_twice_are_told() {
    let named = "process_name=same\nstdout_logfile=/l/%(program_name)s.log";
    let two = [program("a", named), program("b", named)];
    let group = "[group:g]\nprograms=a,b\n".to_owned();
    let [a, b] = two;
    let told = one(&[a.clone(), b.clone(), group], FakeHost::default(), "");
    assert_eq!((told.rule, told.at.line), (Rule::SameName, 8));
    assert!(
        told.message.contains("processes are called g:same"),
        "{told:?}"
    );
    assert_eq!(told.related[0].0.line, 3);
    assert_eq!(problems(&[a.clone(), b.clone()]), []);
    let told = one(
        &[a, b, "[group:b]\nprograms=a\n".to_owned()],
        FakeHost::default(),
        "",
    );
    assert!(told.message.contains("two groups are called b"), "{told:?}");
}

#[test]
fn a_listener_is_not_told_to_redirect() {
    let listener = "[eventlistener:e]\ncommand=e\nevents=TICK_5\nstdout_logfile=/l/e.log\n\
                    stderr_logfile=/l/e.log\n";
    let told = one(&[listener.to_owned()], FakeHost::default(), "");
    assert!(
        told.advice
            .starts_with("give stderr of [eventlistener:e] a log"),
        "{told:?}"
    );
}
