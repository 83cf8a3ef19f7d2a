//! The sections of the file: their keys, the valid values, and combinations that are invalid.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum as _;

use super::{
    diagnostics::FileKind,
    section::Section,
    value::{ConfigValue, quote},
    values::{
        Follows, Terms, authorities, endpoint, is_loopback_address, rule, warn_of_clear_text,
    },
};
use crate::config::types::{
    Alerts, Api, Config, Fleet, History, Metrics, Otlp, Rule, Threshold, Watch,
};
use fdwatch_core::diagnose::Severity;
use fdwatch_events::event::Measure;
use fdwatch_http::Endpoint;
use fdwatch_options::Detail;
use fdwatch_options::{MaxCpu, RingSize};

/// Limit of rules of each kind: each finding is compared with all of them.
const MAX_RULES: usize = 1000;

/// Limit of thresholds: 64 bits store which of them a process exceeds.
const MAX_THRESHOLDS: usize = 64;

/// Limit of receivers of alerts of each kind, and of addresses.
const MAX_RECEIVERS: usize = 32;

/// Limit of labels of a host.
const MAX_LABELS: usize = 16;

/// Length limit of a label, and of a name in a database: characters.
const MAX_NAME_LEN: usize = 64;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads the configuration. Invalid values are replaced by defaults.
pub(super) fn config(mut root: Section<'_>) -> Config {
    let watch = watch(root.section("watch"));
    let config = Config {
        ignore: rules(root.sections("ignore"), "ignored", |_| Some(()))
            .into_iter()
            .map(|(rule, ())| rule)
            .collect(),
        severity: rules(root.sections("severity"), "of this severity", |section| {
            let given = section.required("severity", "\"info\"")?;
            given.severity()
        }),
        thresholds: thresholds(root.sections("threshold")),
        api: api(root.section("api")),
        metrics: metrics(root.section("metrics")),
        history: history(root.section("history")),
        alerts: alerts(root.section("alerts"), &watch),
        otlp: otlp(root.section("otlp")),
        fleet: fleet(root.section("fleet")),
        watch,
    };
    root.finish();
    config
}

fn watch(mut section: Section<'_>) -> Watch {
    let mut watch = Watch::default();
    let it = &mut section;
    set(
        &mut watch.severity,
        it.value("severity"),
        ConfigValue::severity,
    );
    set(
        &mut watch.all_types,
        it.value("all_types"),
        ConfigValue::boolean,
    );
    watch.ring_bytes = it.value("ring_bytes").and_then(|given| {
        // The limits are those of the command line.
        let bytes = given.size(["4K", "1G"])?;
        match bytes.to_string().parse::<RingSize>() {
            Ok(size) => Some(size.0),
            Err(reason) => given.reject(reason),
        }
    });
    set(&mut watch.max_cpu, it.value("max_cpu"), |given| match given
        .number()?
        .to_string()
        .parse::<MaxCpu>()
    {
        Ok(percent) => Some(percent.0),
        Err(reason) => given.reject(reason),
    });
    set(&mut watch.nice, it.value("nice"), ConfigValue::nice);
    set(&mut watch.detail, it.value("detail"), |given| {
        let all = Detail::value_variants().iter();
        given.choice(all.map(|&detail| (detail.name(), detail)))
    });
    set(
        &mut watch.stop_file,
        it.value("stop_file"),
        ConfigValue::path,
    );
    section.finish();
    watch
}

/// Sets `to` if there is a valid value.
fn set<'a, T>(
    to: &mut T,
    given: Option<ConfigValue<'a>>,
    read: impl FnOnce(&ConfigValue<'a>) -> Option<T>,
) {
    if let Some(value) = given.and_then(|given| read(&given)) {
        *to = value;
    }
}

/// Reads the rules of one kind, each with the result of `also`.
fn rules<T>(
    sections: Vec<Section<'_>>,
    what: &str,
    also: impl Fn(&mut Section<'_>) -> Option<T>,
) -> Vec<(Rule, T)> {
    reject_more(&sections, MAX_RULES);
    let mut seen: Vec<(Terms, usize)> = Vec::new();
    let mut rules = Vec::new();
    for mut section in sections.into_iter().take(MAX_RULES) {
        let (rule, terms) = rule(&mut section);
        let also = also(&mut section);
        if terms.is_empty() {
            section.reject(format!(
                "{} has no terms: add path, exe, comm, unit or cause to select what is {what} (comm = \"*\" selects \
                 everything)",
                section.title()
            ));
        } else {
            reject_equal(&section, terms, &mut seen);
        }
        section.finish();
        rules.extend(also.map(|also| (rule, also)));
    }
    rules
}

fn reject_more(sections: &[Section<'_>], most: usize) {
    if let Some(first) = sections.get(most) {
        first.reject(format!("more than {most} {}", first.title()));
    }
}

/// Adds an error if a section equals a previous one.
fn reject_equal<T: PartialEq>(section: &Section<'_>, same: T, seen: &mut Vec<(T, usize)>) {
    if let Some((_, at)) = seen.iter().find(|(before, _)| *before == same) {
        let (line, _) = section.diagnostics.place(*at);
        section.reject(format!(
            "{} is equal to that in line {line}: remove one of them",
            section.title()
        ));
    } else {
        seen.push((same, section.at));
    }
}

fn thresholds(sections: Vec<Section<'_>>) -> Vec<Threshold> {
    reject_more(&sections, MAX_THRESHOLDS);
    let mut seen = Vec::new();
    let mut thresholds = Vec::new();
    for mut section in sections.into_iter().take(MAX_THRESHOLDS) {
        let of = section
            .required("of", "\"descriptors\"")
            .and_then(|given| given.choice(Measure::ALL.map(|measure| (measure.name(), measure))));
        let above = section.required("above", "5000");
        let above = of.zip(above).and_then(|(of, given)| above_of(of, &given));
        let mut severity = Severity::Warning;
        set(
            &mut severity,
            section.value("severity"),
            ConfigValue::severity,
        );
        let (rule, terms) = rule(&mut section);
        if let Some(of) = of
            && of != Measure::DuplicatesPerFile
        {
            for key in ["path", "cause"] {
                if terms.iter().any(|&(term, _)| term == key) {
                    section.reject_key(
                        key,
                        format!(
                            "{key} is a property of a file, but {} measures a process: remove it, or write of = \
                             \"duplicates-per-file\"",
                            of.name()
                        ),
                    );
                }
            }
        }
        if let Some((of, above)) = of.zip(above) {
            reject_equal(&section, (of, above, terms), &mut seen);
            thresholds.push(Threshold {
                of,
                above,
                severity,
                rule,
            });
        }
        section.finish();
    }
    thresholds
}

/// Reads the limit of a measure.
fn above_of(of: Measure, given: &ConfigValue<'_>) -> Option<f64> {
    match of {
        Measure::DuplicatesPerFile | Measure::Descriptors | Measure::GrowthPerHour => {
            // No process has more descriptors: fs.nr_open is an int.
            let number = given.integer(1..=i32::MAX as u64)?;
            Some(number as f64)
        }
        Measure::LimitShare => {
            let percent = given.number()?;
            if percent > 0.0 && percent < 100.0 {
                return Some(percent);
            }
            given.reject("must be a percentage above 0 and below 100")
        }
        Measure::PinnedBytes => Some(given.size(["1", "8388607T"])? as f64),
    }
}

fn api(mut section: Section<'_>) -> Api {
    let mut api = Api::default();
    let it = &mut section;
    if let Some(given) = it.value("socket") {
        // TOML has no null.
        if given.is_false() {
            api.socket = None;
        } else {
            api.socket = given.socket();
        }
    }
    set(
        &mut api.socket_mode,
        it.value("socket_mode"),
        ConfigValue::mode,
    );
    let addresses = it.value("listen").and_then(|given| given.list());
    let token = it.value("token_file");
    api.token_file = token.and_then(|given| given.file(FileKind::OwnToken));
    let has_tls = it.has("tls");
    api.tls = tls(it.section("tls"));
    for given in addresses.unwrap_or_default() {
        let Some(address) = given.address() else {
            continue;
        };
        if api.listen.contains(&address) {
            given.reject::<()>(format!("duplicate address {address}"));
            continue;
        }
        if api.listen.len() >= MAX_RECEIVERS {
            given.reject::<()>(format!("more than {MAX_RECEIVERS} addresses"));
            break;
        }
        api.listen.push(address);
        let missing = match (has_tls, token.is_some()) {
            (true, true) => continue,
            (false, true) => "tls",
            (true, false) => "token_file",
            (false, false) => "tls and token_file",
        };
        if !is_loopback_address(address.ip()) {
            given.reject::<()>(format!(
                "{address} can be reached from other hosts, which requires TLS and a token: add {missing}, or listen \
                 on 127.0.0.1 or [::1]"
            ));
        }
    }
    section.finish();
    api
}

fn tls(mut section: Section<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = section.required("certificate", "\"/etc/fdwatch/tls.crt\"");
    let certificate = certificate.and_then(|given| given.file(FileKind::Certificate));
    let key = section.required("key", "\"/etc/fdwatch/tls.key\"");
    let key = key.and_then(|given| given.file(FileKind::Key));
    section.finish();
    certificate.zip(key)
}

fn metrics(mut section: Section<'_>) -> Metrics {
    let mut metrics = Metrics::default();
    let given = section.value("most_processes");
    set(&mut metrics.most_processes, given, |given| {
        usize::try_from(given.integer(0..=1000)?).ok()
    });
    section.finish();
    metrics
}

fn history(mut section: Section<'_>) -> Option<History> {
    let mut history = History::default();
    let mut enabled = true;
    let it = &mut section;
    set(&mut enabled, it.value("enabled"), ConfigValue::boolean);
    set(&mut history.file, it.value("file"), ConfigValue::path);
    set(&mut history.most_age, it.value("most_age"), |given| {
        given.duration(HOUR..=3650 * DAY)
    });
    set(&mut history.most_bytes, it.value("most_bytes"), |given| {
        given.size(["1M", "1T"])
    });
    section.finish();
    enabled.then_some(history)
}

fn alerts(mut section: Section<'_>, watch: &Watch) -> Alerts {
    let mut alerts = Alerts::default();
    let it = &mut section;
    if let Some(given) = it.value("severity")
        && let Some(severity) = given.severity()
    {
        alerts.severity = severity;
        if severity < watch.severity {
            given.reject::<()>(format!(
                "lower than severity in [watch], which is {}: findings of severity {} are not reported",
                watch.severity.name(),
                severity.name()
            ));
        }
    }
    let given = it.value("most_per_minute");
    set(&mut alerts.most_per_minute, given, |given| {
        u32::try_from(given.integer(1..=6000)?).ok()
    });
    set(
        &mut alerts.state_file,
        it.value("state_file"),
        ConfigValue::path,
    );
    set(
        &mut alerts.journald,
        it.value("journald"),
        ConfigValue::boolean,
    );
    alerts.webhooks = endpoints(it.sections("webhook"), Follows::Nothing);
    alerts.alertmanagers = endpoints(it.sections("alertmanager"), Follows::Path("/api/v2/alerts"));
    alerts.commands = commands(it.sections("command"));
    section.finish();
    alerts
}

fn endpoints(sections: Vec<Section<'_>>, follows: Follows) -> Vec<Endpoint> {
    reject_more(&sections, MAX_RECEIVERS);
    let mut seen = Vec::new();
    let mut endpoints = Vec::new();
    for mut section in sections.into_iter().take(MAX_RECEIVERS) {
        if let Some(endpoint) = endpoint(&mut section, follows) {
            reject_equal(&section, endpoint.url.clone(), &mut seen);
            endpoints.push(endpoint);
        }
        section.finish();
    }
    endpoints
}

fn commands(sections: Vec<Section<'_>>) -> Vec<Vec<String>> {
    reject_more(&sections, MAX_RECEIVERS);
    let mut seen = Vec::new();
    let mut commands = Vec::new();
    for mut section in sections.into_iter().take(MAX_RECEIVERS) {
        let given = section.required("command", "[\"/usr/local/bin/on-alert\"]");
        if let Some(command) = given.and_then(|given| command(&given)) {
            reject_equal(&section, command.clone(), &mut seen);
            commands.push(command);
        }
        section.finish();
    }
    commands
}

/// Reads a program and its arguments.
fn command(given: &ConfigValue<'_>) -> Option<Vec<String>> {
    let words = given.list()?;
    let Some((program, arguments)) = words.split_first() else {
        return given.reject("empty list: must start with a program");
    };
    program.file(FileKind::Program)?;
    let mut command = vec![program.text()?.to_owned()];
    for argument in arguments {
        command.push(argument.argument()?.to_owned());
    }
    Some(command)
}

fn otlp(mut section: Section<'_>) -> Option<Otlp> {
    let endpoint = endpoint(&mut section, Follows::Path("/v1/logs"));
    let mut otlp = Otlp::to(endpoint.clone().unwrap_or_else(|| Endpoint {
        url: String::new(),
        token_file: None,
        ca_file: None,
    }));
    let it = &mut section;
    set(&mut otlp.interval, it.value("interval"), |given| {
        given.duration(Duration::from_secs(1)..=HOUR)
    });
    set(&mut otlp.queue, it.value("queue"), |given| {
        usize::try_from(given.integer(1..=65_536)?).ok()
    });
    section.finish();
    endpoint.map(|_| otlp)
}

fn fleet(mut section: Section<'_>) -> Option<Fleet> {
    let it = &mut section;
    let given = it.required("url", "\"https://clickhouse.example:8443/\"");
    let url = given.and_then(|given| Some((given, given.url(Follows::Path("/?query="))?)));
    let mut fleet = Fleet::to(String::new());
    set(&mut fleet.database, it.value("database"), |given| {
        let text = given.text()?;
        if is_name(text) {
            return Some(text.to_owned());
        }
        given.reject(format!(
            "invalid database name {}: letters, digits and _, not a digit first",
            quote(text)
        ))
    });
    fleet.user = it.value("user").and_then(|given| {
        let text = given.text()?;
        if text.contains(char::is_control) || text.chars().count() > MAX_NAME_LEN {
            return given.reject(format!("invalid user name {}", quote(text)));
        }
        Some(text.to_owned())
    });
    let password = it.value("password_file");
    fleet.password_file = password.and_then(|given| given.file(FileKind::Secret));
    fleet.ca_file = authorities(it, url.as_ref().map(|(_, url)| url));
    if let (Some(password), Some((_, url))) = (password, &url) {
        warn_of_clear_text(&password, url);
    }
    set(&mut fleet.spool, it.value("spool"), ConfigValue::path);
    let given = it.value("most_spool_bytes");
    set(&mut fleet.most_spool_bytes, given, |given| {
        given.size(["1M", "1T"])
    });
    set(&mut fleet.interval, it.value("interval"), |given| {
        given.duration(Duration::from_secs(1)..=10 * MINUTE)
    });
    fleet.labels = labels(it.section("labels"));
    section.finish();
    let (given, _) = url?;
    fleet.url = given.text()?.to_owned();
    Some(fleet)
}

fn labels(mut section: Section<'_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (name, given) in section.values() {
        if labels.len() >= MAX_LABELS {
            given.reject::<()>(format!("more than {MAX_LABELS} labels"));
            break;
        }
        if !is_name(name) {
            given.reject::<()>("invalid label name: letters, digits and _, not a digit first");
            continue;
        }
        let Some(text) = given.text() else { continue };
        if text.contains(char::is_control) || text.chars().count() > MAX_NAME_LEN {
            given.reject::<()>(format!(
                "invalid label {}: up to {MAX_NAME_LEN} printable characters",
                quote(text)
            ));
            continue;
        }
        labels.push((name.to_owned(), text.to_owned()));
    }
    labels
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_LEN
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .chars()
            .all(|other| other.is_ascii_alphanumeric() || other == '_')
}
