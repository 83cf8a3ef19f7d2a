//! Tests of valid and invalid configurations, and of the example.

use std::{collections::BTreeMap, path::Path, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::config::EXAMPLE;
use fdwatch_core::diagnose::{Cause, Severity};
use fdwatch_events::event::Measure;
use fdwatch_options::Detail;

/// Returns the errors in a text, each as `LINE:COLUMN: MESSAGE`.
fn errors(text: &str) -> Vec<String> {
    let errors = read(text.as_bytes()).err().unwrap_or_default();
    let lines = errors.iter().map(|it| {
        let line = it.of_file(Path::new("f")).to_string();
        line.trim_start_matches("f:").to_owned()
    });
    lines.collect()
}

/// Returns the example with all keys uncommented.
fn whole_example() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn example_equals_the_defaults() {
    let config = read(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    let empty = read(b"").unwrap();
    assert_eq!(format!("{empty:?}"), format!("{:?}", Config::default()));
}

#[test]
fn example_has_every_key() {
    let (config, diagnostics) = read_with_diagnostics(whole_example().as_bytes()).unwrap();
    let mut keys = BTreeMap::new();
    for (key, is_present) in diagnostics.read_keys.take() {
        *keys.entry(key).or_insert(false) |= is_present;
    }
    let missing: Vec<_> = keys.iter().filter(|&(_, is_present)| !is_present).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(keys.len() > 60, "{}", keys.len());
    let errors = diagnostics.into_errors();
    assert_eq!(errors, []);
    assert_eq!(config.thresholds.len(), Measure::ALL.len());
    for cause in Cause::ALL {
        assert!(EXAMPLE.contains(&format!("{:?}", cause.name())));
    }
}

#[test]
fn commented_sections_of_the_example_show_defaults() {
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
fn all_values_are_read() {
    let text = "
        watch = { severity = 'info', all_types = true, ring_bytes = '64K', max_cpu = 2, nice = -3, detail = 'all' }
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
    assert_eq!(config.watch.nice, -3);
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
fn unknown_names_are_rejected_with_a_suggestion() {
    for (text, expected) in [
        (
            "[wach]\n",
            "1:2: unknown section [wach]: did you mean [watch]?",
        ),
        (
            "\n[[ignores]]\ncomm = 'x'\n",
            "2:3: unknown section [ignores]: did you mean [ignore]?",
        ),
        (
            "max_cpu = 1\n",
            "1:1: unknown key max_cpu outside of all sections: known: watch, ",
        ),
        (
            "[watch]\nmax-cpu = 1\n",
            "2:1: unknown key max-cpu in [watch]: did you mean max_cpu?",
        ),
        (
            "[watch]\n  severety = 1\n",
            "2:3: unknown key severety in [watch]: did you mean severity?",
        ),
        (
            "[metrics]\nport = 1\n",
            "2:1: unknown key port in [metrics]: known: most_processes",
        ),
        (
            "[[alerts.web_hook]]\n",
            "1:10: unknown section [alerts.web_hook]: did you mean [alerts.webhook]?",
        ),
        (
            "[[ignore]]\ncom = 'x'\nunit = 'y'\n",
            "2:1: unknown key com in [[ignore]]: did you mean comm?",
        ),
        (
            "[watch]\ndetail = 'suspect'\n",
            "2:10: detail: invalid value \"suspect\": must be one of never, suspects, all; did you mean suspects?",
        ),
        (
            "[watch]\nseverity = 'high'\n",
            "2:12: severity: invalid value \"high\": must be one of info, warning, critical",
        ),
        (
            "[[ignore]]\ncause = ['reopened', 'exec_leak']\n",
            "2:22: cause: invalid value \"exec_leak\": must be one of ",
        ),
        (
            "[[threshold]]\nof = 'descriptor'\nabove = 1\n",
            "2:6: of: invalid value \"descriptor\": must be one of ",
        ),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(expected), "{text}: {found:?}");
    }
}

#[test]
fn invalid_values_are_rejected_with_their_position() {
    let https = "url = 'https://h/'\n";
    for (text, expected) in [
        (
            "[watch]\nall_types = 'yes'\n",
            "2:13: all_types: must be true or false, not a string",
        ),
        (
            "[watch]\nmax_cpu = 0\n",
            "2:11: max_cpu: expected a percentage above 0 and up to 100",
        ),
        (
            "[watch]\nmax_cpu = nan\n",
            "2:11: max_cpu: expected a percentage",
        ),
        (
            "[watch]\nmax_cpu = '1'\n",
            "2:11: max_cpu: must be a number, not a string",
        ),
        (
            "[watch]\nring_bytes = '3M'\n",
            "2:14: ring_bytes: expected a power of two",
        ),
        (
            "[watch]\nring_bytes = '2G'\n",
            "2:14: ring_bytes: must be from 4K to 1G",
        ),
        (
            "[watch]\nring_bytes = 'big'\n",
            "2:14: ring_bytes: must be a size such as",
        ),
        (
            "watch = 1\n",
            "1:1: watch must be one section: write [watch]",
        ),
        (
            "[[watch]]\n",
            "1:3: watch must be one section: write [watch]",
        ),
        (
            "[ignore]\ncomm = 'x'\n",
            "1:2: ignore must be an array of sections: write [[ignore]] above each",
        ),
        (
            "[watch.severity]\n",
            "1:8: severity must be a value, not a section",
        ),
        (
            "[[ignore]]\n",
            "1:1: [[ignore]] has no terms: add path, exe, comm, unit or cause to select what is ignored",
        ),
        ("[[ignore]]\npath = '[x'\n", "2:8: path: \"[x\": "),
        ("[[ignore]]\npath = ['/a',\n '{b']\n", "3:2: path: \"{b\": "),
        ("[[ignore]]\npath = []\n", "2:8: path: empty list"),
        ("[[ignore]]\npath = ''\n", "2:8: path: empty string"),
        (
            "[[ignore]]\npath = 5\n",
            "2:8: path: must be a string in quotes or a list of strings, not a number",
        ),
        (
            "[[ignore]]\ncomm = ['a', 'b']\n[[ignore]]\ncomm = ['b', 'a']\n",
            "3:1: [[ignore]] is equal to that in line 1",
        ),
        (
            "[[severity]]\ncomm = 'x'\n",
            "1:1: [[severity]] has no severity",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\n",
            "1:1: [[threshold]] has no above",
        ),
        ("[[threshold]]\nabove = 5\n", "1:1: [[threshold]] has no of"),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 0\n",
            "3:9: above: must be from 1 to 2147483647",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 1.5\n",
            "3:9: above: must be an integer",
        ),
        (
            "[[threshold]]\nof = 'limit-share'\nabove = 100\n",
            "3:9: above: must be a percentage",
        ),
        (
            "[[threshold]]\nof = 'pinned-bytes'\nabove = 'x'\n",
            "3:9: above: must be a size",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 5\npath = '/x'\n",
            "4:1: path is a property of a file, but descriptors measures a process",
        ),
        (
            "[[threshold]]\nof = 'descriptors'\nabove = 5\n[[threshold]]\nof = 'descriptors'\nabove = 5\nseverity = 'info'\n",
            "4:1: [[threshold]] is equal to that in line 1",
        ),
        (
            "[api]\nsocket = 'run/x'\n",
            "2:10: socket: \"run/x\" must start with /",
        ),
        (
            "[api]\nsocket = true\n",
            "2:10: socket: must be a string in quotes",
        ),
        (
            "[api]\nsocket_mode = 600\n",
            "2:15: socket_mode: must be octal digits in quotes",
        ),
        (
            "[api]\nsocket_mode = '0888'\n",
            "2:15: socket_mode: invalid permissions \"0888\"",
        ),
        (
            "[api]\nsocket_mode = '0666'\n",
            "2:15: socket_mode: gives all users access",
        ),
        (
            "[api]\nlisten = '127.0.0.1:1'\n",
            "2:10: listen: must be a list",
        ),
        (
            "[api]\nlisten = ['localhost:1']\n",
            "2:11: listen: invalid address \"localhost:1\"",
        ),
        (
            "[api]\nlisten = ['[::1]:1', '[::1]:1']\n",
            "2:22: listen: duplicate address [::1]:1",
        ),
        (
            "[api]\nlisten = ['0.0.0.0:1']\n",
            "2:11: listen: 0.0.0.0:1 can be reached from other hosts, which requires TLS and a token: add tls and token_file, or listen on 127.0.0.1",
        ),
        (
            "[api]\nlisten = ['10.0.0.1:1']\ntoken_file = '/t'\n",
            "2:11: listen: 10.0.0.1:1 can be reached from other hosts, which requires TLS and a token: add tls, or",
        ),
        (
            "[api]\nlisten = ['[::]:1']\ntls = { certificate = '/c', key = '/k' }\n",
            "2:11: listen: [::]:1 can be reached from other hosts, which requires TLS and a token: add token_file, or",
        ),
        (
            "[api]\ntls = { key = '/k' }\n",
            "2:7: [api.tls] has no certificate",
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
            "2:12: most_age: \"30\": expected a duration such as",
        ),
        (
            "[history]\nmost_age = '0d'\n",
            "2:12: most_age: \"0d\": the duration must not be zero",
        ),
        (
            "[history]\nmost_age = 30\n",
            "2:12: most_age: must be a duration in quotes",
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
            "2:12: severity: lower than severity in [watch], which is warning",
        ),
        (
            "[alerts]\nmost_per_minute = 0\n",
            "2:19: most_per_minute: must be from 1 to 6000",
        ),
        (
            "[[alerts.webhook]]\n",
            "1:1: [[alerts.webhook]] has no url: add a line such as url = ",
        ),
        (
            "[[alerts.webhook]]\nurl = 'hooks'\n",
            "2:7: url: invalid URL \"hooks\"",
        ),
        (
            "[[alerts.webhook]]\nurl = 'ftp://h/'\n",
            "2:7: url: invalid URL \"ftp://h/\": must start with http",
        ),
        (
            "[[alerts.webhook]]\nurl = 'http://a:b@h/'\n",
            "2:7: url: a URL must not contain a user or password",
        ),
        (
            "[[alerts.webhook]]\nurl = 'http://h/'\nca_file = '/c'\n",
            "3:11: ca_file: unused with http",
        ),
        (
            "[[alerts.alertmanager]]\nurl = 'http://h/api/v2/alerts'\n",
            "2:7: url: /api/v2/alerts is appended",
        ),
        (
            "[[alerts.alertmanager]]\nurl = 'http://h/'\n[[alerts.alertmanager]]\nurl = 'http://h/'\n",
            "3:1: [[alerts.alertmanager]] is equal to that in line 1",
        ),
        (
            "[[alerts.command]]\ncommand = '/bin/x'\n",
            "2:11: command: must be a list",
        ),
        (
            "[[alerts.command]]\ncommand = []\n",
            "2:11: command: empty list",
        ),
        (
            "[[alerts.command]]\ncommand = ['x']\n",
            "2:12: command: \"x\" must start with /",
        ),
        ("[otlp]\n", "1:1: [otlp] has no url"),
        (
            &format!("[otlp]\n{https}interval = '2h'\n"),
            "3:12: interval: must be from 1s to 1h",
        ),
        (
            &format!("[fleet]\n{https}database = 'a`b'\n"),
            "3:12: database: invalid database name \"a`b\"",
        ),
        (
            &format!("[fleet]\n{https}labels = {{ 'a-b' = 'c' }}\n"),
            "3:20: a-b: invalid label name",
        ),
        (
            &format!("[fleet]\n{https}labels = {{ ab = 5 }}\n"),
            "3:17: ab: must be a string in quotes, not a number",
        ),
        ("[watch\n", "1:7: invalid TOML: unclosed table"),
        ("a = 1\na = 2\n", "2:1: invalid TOML: duplicate key"),
        ("[watch]\nseverity = info\n", "2:12: invalid TOML: "),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(expected), "{text}: {found:?}");
    }
}

#[test]
fn all_errors_are_listed_in_order() {
    let text = "[watch]\nmax_cpu = 0\nx = 1\n[api]\nlisten = ['a', 'b']\n[wach]\n[otlp]\n";
    let found = errors(text);
    let lines: Vec<_> = found
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(lines, ["2", "3", "5", "5", "6", "7"], "{found:?}");
}

#[test]
fn columns_count_characters_and_quotes_are_escaped() {
    let text = "[watch]\n\"ü\\u001b\" = 1\n";
    let found = errors(text);
    assert!(
        found[0].starts_with("2:1: unknown key ü\\x1b in"),
        "{found:?}"
    );
    let text = "[fleet]\nurl = 'https://h/'\nlabels = { 'größe' = 'x', 'ä' = 'y' }\n";
    let found = errors(text);
    assert!(
        found[1].starts_with("3:33: ä: invalid label name"),
        "{found:?}"
    );
}

#[test]
fn invalid_utf8_is_rejected_with_its_line() {
    let found = read(b"[watch]\nx = '\xff'\n").unwrap_err();
    assert_eq!((found[0].line, found[0].column), (2, 6));
    assert!(found[0].message.contains("UTF-8"));
}

#[test]
fn errors_above_the_limit_are_counted() {
    let keys: String = (0..1000).map(|i| format!("k{i} = 1\n")).collect();
    let found = errors(&format!("[watch]\n{keys}"));
    assert_eq!(found.len(), 201);
    assert!(found[200].ends_with("and 800 more errors"));
}

#[test]
fn too_many_sections_are_rejected_once() {
    let text: String = (1..=70)
        .map(|i| format!("[[threshold]]\nof = 'descriptors'\nabove = {i}\n"))
        .collect();
    let found = errors(&text);
    assert_eq!(found, ["193:1: more than 64 [[threshold]]"]);
}

#[test]
fn secrets_in_clear_text_give_warnings() {
    let text = "[fleet]\nurl = 'http://h.example/'\npassword_file = '/p'\n";
    let reading = read_all(text.as_bytes()).unwrap();
    assert_eq!(reading.warnings.len(), 1);
    assert_eq!(reading.warnings[0].line, 3);
    let text = text.replace("h.example", "127.0.0.1");
    assert_eq!(read_all(text.as_bytes()).unwrap().warnings, []);
}

/// Returns the lines of the uncommented example that set a key.
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
fn value_of_wrong_type_is_rejected_with_its_line() {
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
            // Labels may be any table.
            if key == "labels" && value.starts_with('{') {
                continue;
            }
            let found = errors(&with_line(at, &format!("{key} = {value}")));
            let expected = format!("{}:", at + 1);
            assert!(
                found.iter().any(|line| line.starts_with(&expected)),
                "{key} = {value}: {found:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn changed_example_does_not_panic(
        at in any::<prop::sample::Index>(),
        removed in 0_usize..20,
        added in "[a-z\\[\\]{}\"'=.,0-9\n ü-]{0,10}",
    ) {
        let mut text = whole_example().into_bytes();
        let from = at.index(text.len());
        let to = (from + removed).min(text.len());
        text.splice(from..to, added.into_bytes());
        if let Err(errors) = read(&text) {
            prop_assert!(!errors.is_empty());
            let lines = text.split(|&byte| byte == b'\n').count();
            prop_assert!(errors.iter().all(|it| (1..=lines).contains(&it.line) && it.column > 0));
        }
    }

    #[test]
    fn unknown_key_is_rejected_with_its_line(
        which in any::<prop::sample::Index>(),
        added in "[a-z_]{1,3}",
    ) {
        let lines = key_lines();
        let (at, line) = &lines[which.index(lines.len())];
        let (key, value) = line.split_once(" = ").unwrap();
        let found = errors(&with_line(*at, &format!("{key}{added} = {value}")));
        let expected = format!("{}:1: unknown key {key}{added} in [", at + 1);
        prop_assert!(found.iter().any(|line| line.starts_with(&expected)), "{found:?}");
        // Other errors are about the key that is missing now.
        let other = |line: &&String| !line.starts_with(&expected);
        let of_missing = |line: &String| {
            ["has no", "requires TLS", "is equal to"]
                .iter()
                .any(|reason| line.contains(reason))
        };
        prop_assert!(found.iter().filter(other).all(of_missing), "{found:?}");
    }
}
