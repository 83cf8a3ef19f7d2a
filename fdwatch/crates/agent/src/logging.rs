//! What the agent says of itself: lines on standard error, by level.
//!
//! Where that is the journal, each line begins with its priority, and the journal knows the time. What
//! strangers chose is escaped, lines are bounded, and what is said again and again is told once a
//! minute.

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

/// The variable that says how much is told.
pub const LEVEL_VARIABLE: &str = "FDWATCH_LOG";

/// Whose messages are the agent's own. Of others' only warnings and errors are told, unless all is.
const OWN: &str = "fdwatch";

/// The log. A handle, that costs little to copy.
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

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// With the priority, for the journal.
    Journal,
    /// With the time and the level, for a person.
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

/// Sets the log up, for all that is said from here on: by `level`, or what the environment says, or
/// `info`.
///
/// # Errors
///
/// If there is no such level, or there is a log already.
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
    tracing::subscriber::set_global_default(subscriber).context("there is a log already")?;
    log::set_boxed_logger(Box::new(logging.clone())).context("there is a log already")?;
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
            "there is no log level {:?}: it is off, error, warn, info, debug or trace",
            Escaped(name.as_bytes()).to_string()
        );
    };
    Ok(level)
}

/// Whether standard error leads to the journal, as systemd says of what it starts.
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

    /// Tells how often what was said again was said, if a minute is over. To be called now and then.
    pub fn tick(&self) {
        let mut state = self.lines.lock();
        let told = state.folding.over(self.lines.now());
        self.lines.write(&mut state, told);
    }

    fn wants(&self, level: Level, target: &str) -> bool {
        let is_own = target
            .strip_prefix(OWN)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        level <= self.lines.level
            && (is_own || level <= Level::WARN || self.lines.level == LevelFilter::TRACE)
    }

    fn say(&self, level: Level, text: &str) {
        let mut state = self.lines.lock();
        let told = state.folding.take(self.lines.now(), level, text);
        self.lines.write(&mut state, told);
    }
}

impl Lines {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Each in one write, for lines of others not to come between. Where that cannot be, no one listens.
    fn write(&self, state: &mut State, told: Vec<(Level, String)>) {
        for (level, text) in told {
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

/// syslog's.
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
        self.0.say(*event.metadata().level(), &(message + &fields));
    }
}

/// A message, and what stands beside it.
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

/// What libraries say through the older of the two.
impl Log for Logging {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(level_from(metadata.level()), metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.say(level_from(record.level()), &record.args().to_string());
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

    fn said(level: LevelFilter, say: impl FnOnce(&Logging)) -> String {
        let written = Written::default();
        let logging = Logging::new(level, Form::Journal, Box::new(written.clone()));
        let subscriber = Registry::default().with(ToLines(logging.clone()));
        tracing::subscriber::with_default(subscriber, || say(&logging));
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_journal_is_told_the_priority() {
        let said = said(LevelFilter::INFO, |_| {
            tracing::error!(target: "fdwatch", "a");
            tracing::warn!(target: "fdwatch::agent", "b");
            tracing::info!(target: "fdwatch", count = 3, "c");
            tracing::debug!(target: "fdwatch", "not this");
            tracing::info!(target: "hyper", "nor this");
            tracing::warn!(target: "fdwatcher", "but this");
        });
        assert_eq!(said, "<3>a\n<4>b\n<6>c count=3\n<4>but this\n");
    }

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let said = said(LevelFilter::INFO, |_| {
            tracing::info!(target: "fdwatch", "x\n<0>y\x1b[2J{}", "z".repeat(10_000));
        });
        assert!(said.starts_with("<6>x\\n<0>y\\x1b[2Jzzz"), "{said}");
        assert_eq!(said.matches('\n').count(), 1);
        assert!(said.len() < 5_000);
    }

    #[test]
    fn a_person_is_told_time_and_level() {
        let line = line(Form::Text, Level::WARN, "so", 1_700_000_000_000_000_000);
        assert_eq!(line, "2023-11-14T22:13:20.000000Z WARN  so\n");
    }

    #[test]
    fn what_is_said_again_is_folded() {
        let said = said(LevelFilter::INFO, |_| {
            for _ in 0..1000 {
                tracing::info!(target: "fdwatch", "again");
            }
        });
        assert_eq!(said, "<6>again\n");
    }

    #[test]
    fn the_older_log_comes_through() {
        let said = said(LevelFilter::INFO, |logging| {
            let record = |level| {
                let args = format_args!("of aya");
                let mut record = Record::builder();
                let record = record.args(args).level(level).target("aya::bpf");
                logging.log(&record.build());
            };
            record(log::Level::Info);
            record(log::Level::Error);
        });
        assert_eq!(said, "<3>of aya\n");
    }

    #[test]
    fn levels_have_names() {
        assert_eq!(level_of("debug").unwrap(), LevelFilter::DEBUG);
        assert_eq!(level_of("off").unwrap(), LevelFilter::OFF);
        let error = level_of("lo\x1bud").unwrap_err().to_string();
        assert!(
            error.contains("lo\\\\x1bud") && error.contains("warn"),
            "{error}"
        );
    }
}
