//! The agent's log: lines on standard error.
//!
//! If standard error is the journal, each line starts with its priority; the journal adds the time. Untrusted text is
//! escaped, lines are bounded, and repeated messages are folded into one per minute.

mod folding;

use std::{
    env, fmt, fs,
    io::{self, Write},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use log::{Log, Metadata, Record};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
};

use self::folding::Folding;
use fdwatch_events::time::rfc3339;
use fdwatch_host::proc;
use fdwatch_render::Escaped;

/// The environment variable of the log level.
pub const LEVEL_VARIABLE: &str = "FDWATCH_LOG";

/// The prefix of the targets of fdwatch's own messages: `fdwatch` and `fdwatch_tracker::audit`. Of others, only
/// warnings and errors are logged, except at level trace.
const OWN: &str = "fdwatch";

/// A handle to the log; cheap to clone.
#[derive(Clone)]
pub struct Logging {
    lines: Arc<Lines>,
}

struct Lines {
    level: LevelFilter,
    form: Form,
    state: Mutex<State>,
    began: Instant,
}

struct State {
    folding: Folding,
    output: Box<dyn Write + Send>,
}

/// The prefix of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The priority, for the journal.
    Journal,
    /// Time and level, for people.
    Text,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Logging");
        debug
            .field("level", &self.lines.level)
            .finish_non_exhaustive()
    }
}

/// Sets up the log, with `level`, that of the environment, or `info`.
///
/// # Errors
///
/// If the level is invalid, or a log is set up already.
pub fn set_up(level: Option<&str>) -> Result<Logging> {
    let variable = env::var(LEVEL_VARIABLE).ok();
    let level = match level.map(str::to_owned).or(variable) {
        Some(name) => level_of(&name)?,
        None => LevelFilter::INFO,
    };
    let form = if is_journal() {
        Form::Journal
    } else {
        Form::Text
    };
    let logging = Logging::new(level, form, Box::new(io::stderr()));
    let subscriber = Registry::default().with(ToLines(logging.clone()));
    tracing::subscriber::set_global_default(subscriber).context("a log is set up already")?;
    log::set_boxed_logger(Box::new(logging.clone())).context("a log is set up already")?;
    log::set_max_level(match level.into_level() {
        None => log::LevelFilter::Off,
        Some(Level::ERROR) => log::LevelFilter::Error,
        Some(Level::WARN) => log::LevelFilter::Warn,
        Some(Level::INFO) => log::LevelFilter::Info,
        Some(Level::DEBUG) => log::LevelFilter::Debug,
        Some(Level::TRACE) => log::LevelFilter::Trace,
    });
    Ok(logging)
}

fn level_of(name: &str) -> Result<LevelFilter> {
    let Ok(level) = name.trim().parse() else {
        bail!(
            "invalid log level {:?}: must be off, error, warn, info, debug or trace",
            Escaped(name.as_bytes()).to_string()
        );
    };
    Ok(level)
}

/// Returns whether standard error is the journal, by the variable that systemd sets.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr();
    let Ok(own) = stderr.as_fd().try_clone_to_owned().map(fs::File::from) else {
        return false;
    };
    own.metadata()
        .is_ok_and(|own| stream == format!("{}:{}", own.dev(), own.ino()))
}

impl Logging {
    fn new(level: LevelFilter, form: Form, output: Box<dyn Write + Send>) -> Self {
        let state = State {
            folding: Folding::default(),
            output,
        };
        Self {
            lines: Arc::new(Lines {
                level,
                form,
                state: Mutex::new(state),
                began: Instant::now(),
            }),
        }
    }

    /// Logs the counts of folded messages, if a minute has passed. Must be called regularly.
    pub fn tick(&self) {
        let mut state = self.lines.lock();
        let lines = state.folding.over(self.lines.now());
        self.lines.write(&mut state, lines);
    }

    fn wants(&self, level: Level, target: &str) -> bool {
        let is_own = target
            .strip_prefix(OWN)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', ':']));
        level <= self.lines.level
            && (is_own || level <= Level::WARN || self.lines.level == LevelFilter::TRACE)
    }

    fn log_line(&self, level: Level, text: &str) {
        let mut state = self.lines.lock();
        let lines = state.folding.take(self.lines.now(), level, text);
        self.lines.write(&mut state, lines);
    }
}

impl Lines {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes each line in one call, so that lines of others do not interleave. Errors are ignored.
    fn write(&self, state: &mut State, lines: Vec<(Level, String)>) {
        for (level, text) in lines {
            let line = line(self.form, level, &text, proc::wall_time());
            let _ = state.output.write_all(line.as_bytes());
        }
    }
}

fn line(form: Form, level: Level, text: &str, wall_time: u64) -> String {
    let text = Escaped(text.as_bytes());
    match form {
        Form::Journal => format!("<{}>{text}\n", priority(level)),
        Form::Text => {
            let time = rfc3339(wall_time);
            format!("{time} {:<5} {text}\n", level.as_str())
        }
    }
}

/// Returns the syslog priority of a level.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

struct ToLines(Logging);

impl<S: Subscriber> Layer<S> for ToLines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.wants(*metadata.level(), metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.lines.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, fields } = text;
        self.0
            .log_line(*event.metadata().level(), &(message + &fields));
    }
}

/// A message and its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push_str(&format!(" {field}={value:?}"));
        }
    }
}

/// Messages of libraries that use the `log` crate.
impl Log for Logging {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(level_from(metadata.level()), metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.log_line(level_from(record.level()), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

const fn level_from(level: log::Level) -> Level {
    match level {
        log::Level::Error => Level::ERROR,
        log::Level::Warn => Level::WARN,
        log::Level::Info => Level::INFO,
        log::Level::Debug => Level::DEBUG,
        log::Level::Trace => Level::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LevelFilter, log_line: impl FnOnce(&Logging)) -> String {
        let written = Written::default();
        let logging = Logging::new(level, Form::Journal, Box::new(written.clone()));
        let subscriber = Registry::default().with(ToLines(logging.clone()));
        tracing::subscriber::with_default(subscriber, || log_line(&logging));
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn journal_lines_have_a_priority() {
        let logged = logged(LevelFilter::INFO, |_| {
            tracing::error!(target: "fdwatch_tracker::audit", "a");
            tracing::warn!(target: "fdwatch::commands", "b");
            tracing::info!(count = 3, "c");
            tracing::debug!("not this");
            tracing::info!(target: "hyper", "nor this");
            tracing::info!(target: "fdwatcher", "nor this");
            tracing::warn!(target: "fdwatcher", "but this");
        });
        assert_eq!(logged, "<3>a\n<4>b\n<6>c count=3\n<4>but this\n");
    }

    #[test]
    fn message_stays_on_one_line() {
        let logged = logged(LevelFilter::INFO, |_| {
            tracing::info!("x\n<0>y\x1b[2J{}", "z".repeat(10_000));
        });
        assert!(logged.starts_with("<6>x\\n<0>y\\x1b[2Jzzz"), "{logged}");
        assert_eq!(logged.matches('\n').count(), 1);
        assert!(logged.len() < 5_000);
    }

    #[test]
    fn text_lines_have_time_and_level() {
        let line = line(Form::Text, Level::WARN, "so", 1_700_000_000_000_000_000);
        assert_eq!(line, "2023-11-14T22:13:20.000000Z WARN  so\n");
    }

    #[test]
    fn repeated_messages_are_folded() {
        let logged = logged(LevelFilter::INFO, |_| {
            for _ in 0..1000 {
                tracing::info!("again");
            }
        });
        assert_eq!(logged, "<6>again\n");
    }

    #[test]
    fn log_crate_is_supported() {
        let logged = logged(LevelFilter::INFO, |logging| {
            let record = |level| {
                let args = format_args!("of aya");
                let mut record = Record::builder();
                let record = record.args(args).level(level).target("aya::bpf");
                logging.log(&record.build());
            };
            record(log::Level::Info);
            record(log::Level::Error);
        });
        assert_eq!(logged, "<3>of aya\n");
    }

    #[test]
    fn levels_are_parsed() {
        assert_eq!(level_of("debug").unwrap(), LevelFilter::DEBUG);
        assert_eq!(level_of("off").unwrap(), LevelFilter::OFF);
        let error = level_of("lo\x1bud").unwrap_err().to_string();
        assert!(
            error.contains("lo\\\\x1bud") && error.contains("warn"),
            "{error}"
        );
    }
}
