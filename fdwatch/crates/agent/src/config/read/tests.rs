//! Configurations: what they say, what is wrong with them, and that the example is what holds.

use std::{collections::BTreeMap, path::Path, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::config::EXAMPLE;
use fdwatch_core::diagnose::{Cause, Severity};
use fdwatch_events::event::Measure;
use fdwatch_options::Detail;

/// What is said of a text, each as `LINE:COLUMN: MESSAGE`.
fn mistakes(text: &str) -> Vec<String> {
    let mistakes = read(text.as_bytes()).err().unwrap_or_default();
    let lines = mistakes.iter().map(|it| {
        let line = it.of_file(Path::new("f")).to_string();
        line.trim_start_matches("f:").to_owned()
    });
    lines.collect()
}

/// The example with all that is an example in it.
fn whole_example() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn the_example_says_what_holds_anyway() {
    let config = read(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    let nothing = read(b"").unwrap();
    assert_eq!(format!("{nothing:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_example_has_every_key() {
    let (config, notes) = read_noting(whole_example().as_bytes()).unwrap();
    let mut there = BTreeMap::new();
    for (key, is_there) in notes.asked.take() {
        *there.entry(key).or_insert(false) |= is_there;
    }
    let missing: Vec<_> = there.iter().filter(|&(_, is_there)| !is_there).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(there.len() > 60, "{}", there.len());
    let mistakes = notes.into_errors();
    assert_eq!(mistakes, []);
    assert_eq!(config.thresholds.len(), Measure::ALL.len());
    for cause in Cause::ALL {
        assert!(EXAMPLE.contains(&format!("{:?}", cause.name())));
    }
}

#[test]
fn what_the_example_says_of_optional_sections_is_their_default() {
    let whole = read(whole_example().as_bytes()).unwrap();
    let (otlp, fleet) = (whole.otlp.unwrap(), whole.fleet.unwrap());
    let short = "[otlp]\nurl = 'http://[::1]/'\n[fleet]\nurl = 'http://[::1]/'\n";
    let short = read(short.as_bytes()).unwrap();
    let (short_otlp, short_fleet) = (short.otlp.unwrap(), short.fleet.unwrap());
    assert_eq!(
        (otlp.interval, otlp.queue),
        (short_otlp.interval, short_otlp.queue)
    );
    assert_eq!(
        (
            fleet.database,
            fleet.spool,
            fleet.most_spool_bytes,
            fleet.interval
        ),
        (
            short_fleet.database,
            short_fleet.spool,
            short_fleet.most_spool_bytes,
            short_fleet.interval
        )
    );
}

#[test]
fn what_is_said_is_taken_over() {
    let text = "
        watch = { severity = 'info', all_types = true, ring_bytes = '64K', max_cpu = 2, detail = 'all' }
        ignore = [{ comm = 'a' }, { comm = 'b' }]
        threshold = [{ of = 'pinned-bytes', above = 4096 }]
        metrics.most_processes = 5
        [api]
        socket = false
        socket_mode = '0660'
        listen = ['0.0.0.0:1', '[::1]:2', '[::ffff:127.0.0.1]:3']
        token_file = '/t'
        [api.tls]
        certificate = '/c'
        key = '/k'
        [history]
        enabled = false
        most_age = '7d'
        [alerts]
        journald = true
        [[alerts.webhook]]
        url = 'https://h.example/x?y=z'
        [[alerts.command]]
        command = ['/bin/x', '', '-v']
        [fleet]
        url = 'https://h.example/'
        interval = '1m30s'
        [fleet.labels]
        env = 'größer'
    ";
    let config = read(text.as_bytes()).unwrap();
    assert_eq!(config.watch.severity, Severity::Info);
    assert!(config.watch.all_types);
    assert_eq!(config.watch.ring_bytes, Some(65_536));
    assert_eq!(config.watch.max_cpu, 2.0);
    assert_eq!(config.watch.detail, Detail::All);
    assert_eq!(config.ignore.len(), 2);
    assert_eq!(config.thresholds[0].above, 4096.0);
    assert_eq!(config.metrics.most_processes, 5);
    assert_eq!(config.api.socket, None);
    assert_eq!(config.api.socket_mode, 0o660);
    assert_eq!(config.api.listen.len(), 3);
    assert_eq!(config.api.tls, Some(("/c".into(), "/k".into())));
    assert_eq!(config.history, None);
    assert!(config.alerts.journald);
    assert_eq!(config.alerts.webhooks[0].url, "https://h.example/x?y=z");
    assert_eq!(config.alerts.commands, [["/bin/x", "", "-v"]]);
    let fleet = config.fleet.unwrap();
    assert_eq!(fleet.interval, Duration::from_secs(90));
    assert_eq!(fleet.labels, [("env".to_owned(), "größer".to_owned())]);
}

#[test]
fn what_is_not_there_is_refused_with_what_is_nearest() {
    for (text, expected) in [
        (
            "[wach]\n",
            "1:2: there is no section [wach]: is [watch] meant?",
        ),
        (
            "\n[[ignores]]\ncomm = 'x'\n",
            "2:3: there is no section [ignores]: is [ignore] meant?",
        ),
        (
            "max_cpu = 1\n",
            "1:1: there is no key max_cpu outside of all sections: there are watch, ",
        ),
        (
            "[watch]\nmax-cpu = 1\n",
            "2:1: there is no key max-cpu in [watch]: is max_cpu meant?",
        ),
        (
            "[watch]\n  severety = 1\n",
            "2:3: there is no key severety in [watch]: is severity meant?",
        ),
        (
            "[metrics]\nport = 1\n",
            "2:1: there is no key port in [metrics]: there are most_processes",
        ),
        (
            "[[alerts.web_hook]]\n",
            "1:10: there is no section [alerts.web_hook]: is [alerts.webhook] meant?",
        ),
        (
            "[[ignore]]\ncom = 'x'\nunit = 'y'\n",
            "2:1: there is no key com in [[ignore]]: is comm meant?",
        ),
        (
            "[watch]\ndetail = 'suspect'\n",
            "2:10: detail: \"suspect\" is none of never, suspects, all: is suspects meant?",
        ),
        (
            "[watch]\nseverity = 'high'\n",
            "2:12: severity: \"high\" is none of info, warning, critical",
        ),
        (
            "[[ignore]]\ncause = ['reopened', 'exec_leak']\n",
            "2:22: cause: \"exec_leak\" is none of ",
        ),
        (
            "[[threshold]]\nof = 'descriptor'\nabove = 1\n",
            "2:6: of: \"descriptor\" is none of ",
        ),
    ] {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(expected), "{text}: {found:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let https = "url = 'https://h/'\n";
    for (text, expected) in [
        (
            "[watch]\nall_types = 'yes'\n",
            "2:13: all_types: must be true or false, and is text",
        ),
        (
            "[watch]\nmax_cpu = 0\n",
            "2:11: max_cpu: not a percentage above 0 and up to 100",
        ),
        (
            "[watch]\nmax_cpu = nan\n",
            "2:11: max_cpu: not a percentage",
        ),
        (
            "[watch]\nmax_cpu = '1'\n",
            "2:11: max_cpu: must be a number, and is text",
        ),
        (
            "[watch]\nring_bytes = '3M'\n",
            "2:14: ring_bytes: not a power of two",
        ),
        (
            "[watch]\nring_bytes = '2G'\n",
            "2:14: ring_bytes: must be from 4K to 1G",
        ),
        (
            "[watch]\nring_bytes = 'big'\n",
            "2:14: ring_bytes: not a size such as",
        ),
        (
            "watch = 1\n",
            "1:1: there can be but one section watch: write [watch]",
        ),
        (
            "[[watch]]\n",
            "1:3: there can be but one section watch: write [watch]",
        ),
        (
            "[ignore]\ncomm = 'x'\n",
            "1:2: there can be several ignore: write [[ignore]] above each",
        ),
        (
            "[watch.severity]\n",
            "1:8: severity is a key with a value, and no section",
        ),
        (
            "[[ignore]]\n",
            "1:1: [[ignore]] does not say what is ignored",
        ),
        ("[[ignore]]\npath = '[x'\n", "2:8: path: \"[x\": "),
        ("[[ignore]]\npath = ['/a',\n '{b']\n", "3:2: path: \"{b\": "),
        ("[[ignore]]\npath = []\n", "2:8: path: the list is empty"),
        ("[[ignore]]\npath = ''\n", "2:8: path: is empty"),
        (
            "[[ignore]]\npath = 5\n",
            "2:8: path: must be text in quotes, or a list of such, and is a number",
        ),
        (
            "[[ignore]]\ncomm = ['a', 'b']\n[[ignore]]\ncomm = ['b', 'a']\n",
            "3:1: [[ignore]] is about the same as that of line 1",
        ),
        (
            "[[severity]]\ncomm = 'x'\n",
            "1:1: [[severity]] says no severity",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\n",
            "1:1: [[threshold]] says no above",
        ),
        (
            "[[threshold]]\nabove = 5\n",
            "1:1: [[threshold]] says no of",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 0\n",
            "3:9: above: must be from 1 to 2147483647",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 1.5\n",
            "3:9: above: must be a whole number",
        ),
        (
            "[[threshold]]\nof = 'limit-share'\nabove = 100\n",
            "3:9: above: must be a percentage",
        ),
        (
            "[[threshold]]\nof = 'pinned-bytes'\nabove = 'x'\n",
            "3:9: above: not a size",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 5\npath = '/x'\n",
            "4:1: descriptors is of a whole process, and path of one file",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 5\n[[threshold]]\nof = 'descriptors'\nabove = 5\nseverity = 'info'\n",
            "4:1: [[threshold]] is about the same as that of line 1",
        ),
        (
            "[api]\nsocket = 'run/x'\n",
            "2:10: socket: \"run/x\" does not begin with /",
        ),
        (
            "[api]\nsocket = true\n",
            "2:10: socket: must be text in quotes",
        ),
        (
            "[api]\nsocket_mode = 600\n",
            "2:15: socket_mode: must be octal digits in quotes",
        ),
        (
            "[api]\nsocket_mode = '0888'\n",
            "2:15: socket_mode: \"0888\": not permissions",
        ),
        (
            "[api]\nsocket_mode = '0666'\n",
            "2:15: socket_mode: all users could ask about all",
        ),
        (
            "[api]\nlisten = '127.0.0.1:1'\n",
            "2:10: listen: must be a list",
        ),
        (
            "[api]\nlisten = ['localhost:1']\n",
            "2:11: listen: \"localhost:1\": not an address and port",
        ),
        (
            "[api]\nlisten = ['[::1]:1', '[::1]:1']\n",
            "2:22: listen: [::1]:1 is there twice",
        ),
        (
            "[api]\nlisten = ['0.0.0.0:1']\n",
            "2:11: listen: 0.0.0.0:1 can be reached from other hosts, which is allowed only with TLS and a token: add tls and token_file, or listen on 127.0.0.1",
        ),
        (
            "[api]\nlisten = ['10.0.0.1:1']\ntoken_file = '/t'\n",
            "2:11: listen: 10.0.0.1:1 can be reached from other hosts, which is allowed only with TLS and a token: add tls, or",
        ),
        (
            "[api]\nlisten = ['[::]:1']\ntls = { certificate = '/c', key = '/k' }\n",
            "2:11: listen: [::]:1 can be reached from other hosts, which is allowed only with TLS and a token: add token_file, or",
        ),
        (
            "[api]\ntls = { key = '/k' }\n",
            "2:7: [api.tls] says no certificate",
        ),
        (
            "[metrics]\nmost_processes = 1001\n",
            "2:18: most_processes: must be from 0 to 1000",
        ),
        (
            "[metrics]\nmost_processes = -1\n",
            "2:18: most_processes: must be from 0 to 1000",
        ),
        (
            "[history]\nmost_age = '30'\n",
            "2:12: most_age: \"30\": not a time such as",
        ),
        (
            "[history]\nmost_age = '0d'\n",
            "2:12: most_age: \"0d\": there is no time in it",
        ),
        (
            "[history]\nmost_age = 30\n",
            "2:12: most_age: must be a time in quotes",
        ),
        (
            "[history]\nmost_age = '5m'\n",
            "2:12: most_age: must be from 1h to 3650d",
        ),
        (
            "[history]\nmost_bytes = '1K'\n",
            "2:14: most_bytes: must be from 1M to 1T",
        ),
        (
            "[alerts]\nseverity = 'info'\n",
            "2:12: severity: nothing below warning is found",
        ),
        (
            "[alerts]\nmost_per_minute = 0\n",
            "2:19: most_per_minute: must be from 1 to 6000",
        ),
        (
            "[[alerts.webhook]]\n",
            "1:1: [[alerts.webhook]] says no url: add a line such as url = ",
        ),
        (
            "[[alerts.webhook]]\nurl = 'hooks'\n",
            "2:7: url: \"hooks\": not a URL",
        ),
        (
            "[[alerts.webhook]]\nurl = 'ftp://h/'\n",
            "2:7: url: \"ftp://h/\": a URL must begin with http",
        ),
        (
            "[[alerts.webhook]]\nurl = 'http://a:b@h/'\n",
            "2:7: url: there must be no user and password",
        ),
        (
            "[[alerts.webhook]]\nurl = 'http://h/'\nca_file = '/c'\n",
            "3:11: ca_file: there are no certificates over http",
        ),
        (
            "[[alerts.alertmanager]]\nurl = 'http://h/api/v2/alerts'\n",
            "2:7: url: /api/v2/alerts is added",
        ),
        (
            "[[alerts.alertmanager]]\nurl = 'http://h/'\n[[alerts.alertmanager]]\nurl = 'http://h/'\n",
            "3:1: [[alerts.alertmanager]] is about the same as that of line 1",
        ),
        (
            "[[alerts.command]]\ncommand = '/bin/x'\n",
            "2:11: command: must be a list",
        ),
        (
            "[[alerts.command]]\ncommand = []\n",
            "2:11: command: the list is empty",
        ),
        (
            "[[alerts.command]]\ncommand = ['x']\n",
            "2:12: command: \"x\" does not begin with /",
        ),
        ("[otlp]\n", "1:1: [otlp] says no url"),
        (
            &format!("[otlp]\n{https}interval = '2h'\n"),
            "3:12: interval: must be from 1s to 1h",
        ),
        (
            &format!("[fleet]\n{https}database = 'a`b'\n"),
            "3:12: database: \"a`b\" is no name of a database",
        ),
        (
            &format!("[fleet]\n{https}labels = {{ 'a-b' = 'c' }}\n"),
            "3:20: a-b: no name of a label",
        ),
        (
            &format!("[fleet]\n{https}labels = {{ ab = 5 }}\n"),
            "3:17: ab: must be text in quotes, and is a number",
        ),
        ("[watch\n", "1:7: this is not TOML: unclosed table"),
        ("a = 1\na = 2\n", "2:1: this is not TOML: duplicate key"),
        ("[watch]\nseverity = info\n", "2:12: this is not TOML: "),
    ] {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(expected), "{text}: {found:?}");
    }
}

#[test]
fn all_mistakes_are_told_in_their_order() {
    let text = "[watch]\nmax_cpu = 0\nx = 1\n[api]\nlisten = ['a', 'b']\n[wach]\n[otlp]\n";
    let found = mistakes(text);
    let lines: Vec<_> = found
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(lines, ["2", "3", "5", "5", "6", "7"], "{found:?}");
}

#[test]
fn columns_count_characters_and_what_is_quoted_cannot_be_obeyed() {
    let text = "[watch]\n\"ü\\u001b\" = 1\n";
    let found = mistakes(text);
    assert!(
        found[0].starts_with("2:1: there is no key ü\\x1b in"),
        "{found:?}"
    );
    let text = "[fleet]\nurl = 'https://h/'\nlabels = { 'größe' = 'x', 'ä' = 'y' }\n";
    let found = mistakes(text);
    assert!(found[1].starts_with("3:33: ä: no name"), "{found:?}");
}

#[test]
fn what_is_no_utf_8_is_told_with_its_line() {
    let found = read(b"[watch]\nx = '\xff'\n").unwrap_err();
    assert_eq!((found[0].line, found[0].column), (2, 6));
    assert!(found[0].message.contains("UTF-8"));
}

#[test]
fn mistakes_without_end_are_counted() {
    let keys: String = (0..1000).map(|i| format!("k{i} = 1\n")).collect();
    let found = mistakes(&format!("[watch]\n{keys}"));
    assert_eq!(found.len(), 201);
    assert!(found[200].ends_with("there are 800 more mistakes"));
}

#[test]
fn more_than_there_can_be_is_refused_once() {
    let text: String = (1..=70)
        .map(|i| format!("[[threshold]]\nof = 'descriptors'\nabove = {i}\n"))
        .collect();
    let found = mistakes(&text);
    assert_eq!(found, ["193:1: there can be up to 64 [[threshold]]"]);
}

#[test]
fn secrets_in_clear_text_are_warned_of() {
    let text = "[fleet]\nurl = 'http://h.example/'\npassword_file = '/p'\n";
    let reading = read_all(text.as_bytes()).unwrap();
    assert_eq!(reading.warnings.len(), 1);
    assert_eq!(reading.warnings[0].line, 3);
    let text = text.replace("h.example", "127.0.0.1");
    assert_eq!(read_all(text.as_bytes()).unwrap().warnings, []);
}

/// Lines of the whole example that are a key and its value.
fn key_lines() -> Vec<(usize, String)> {
    let whole = whole_example();
    let lines = whole.lines().enumerate();
    lines
        .filter(|(_, line)| {
            line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains(" = ")
        })
        .map(|(i, line)| (i, line.to_owned()))
        .collect()
}

fn with_line(at: usize, line: &str) -> String {
    let whole = whole_example();
    let lines = whole.lines().enumerate();
    lines
        .flat_map(|(i, old)| [if i == at { line } else { old }, "\n"])
        .collect()
}

#[test]
fn a_value_of_another_type_is_told_with_its_line() {
    let lines = key_lines();
    assert!(lines.len() > 55, "{}", lines.len());
    for (at, line) in lines {
        let (key, _) = line.split_once(" = ").unwrap();
        for value in [
            "1979-05-27",
            "[1979-05-27]",
            "{ x = 1979-05-27 }",
            "''",
            "-0.5",
        ] {
            // What may be an empty text, or a list of none.
            if key == "labels" && value.starts_with('{') {
                continue;
            }
            let found = mistakes(&with_line(at, &format!("{key} = {value}")));
            let expected = format!("{}:", at + 1);
            assert!(
                found.iter().any(|told| told.starts_with(&expected)),
                "{key} = {value}: {found:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_change_of_the_example_makes_it_panic(
        at in any::<prop::sample::Index>(),
        removed in 0_usize..20,
        added in "[a-z\\[\\]{}\"'=.,0-9\n ü-]{0,10}",
    ) {
        let mut text = whole_example().into_bytes();
        let from = at.index(text.len());
        let to = (from + removed).min(text.len());
        text.splice(from..to, added.into_bytes());
        if let Err(mistakes) = read(&text) {
            prop_assert!(!mistakes.is_empty());
            let lines = text.split(|&byte| byte == b'\n').count();
            prop_assert!(mistakes.iter().all(|it| (1..=lines).contains(&it.line) && it.column > 0));
        }
    }

    #[test]
    fn a_key_that_is_none_is_told_with_its_line(
        which in any::<prop::sample::Index>(),
        added in "[a-z_]{1,3}",
    ) {
        let lines = key_lines();
        let (at, line) = &lines[which.index(lines.len())];
        let (key, value) = line.split_once(" = ").unwrap();
        let found = mistakes(&with_line(*at, &format!("{key}{added} = {value}")));
        let expected = format!("{}:1: there is no key {key}{added} in [", at + 1);
        prop_assert!(found.iter().any(|told| told.starts_with(&expected)), "{found:?}");
        // What else is said is of what is missing now.
        let other = |told: &&String| !told.starts_with(&expected);
        let of_missing = |told: &String| {
            ["says no", "does not say", "allowed only with", "is about the same"]
                .iter()
                .any(|reason| told.contains(reason))
        };
        prop_assert!(found.iter().filter(other).all(of_missing), "{found:?}");
    }
}
