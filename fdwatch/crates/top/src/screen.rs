//! `fdwatch top`: draws the full screen. The source of updates (programs of this process, or an agent) runs
//! in another thread; neither waits for the other.

use std::{
    env,
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use ratatui::crossterm::event::{self, Event};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use fdwatch_options::{Filters, MaxCpu};
use fdwatch_tracker::listen;

use crate::{
    Action, Message, Theme, Top,
    sources::{
        self,
        agent::AgentConnection,
        inbox::{Inbox, SourceRequest},
    },
    terminal::Screen,
};
use fdwatch_tracker::message::info;

/// Least interval between two frames that show updates.
const FRAME: Duration = Duration::from_millis(250);

/// Longest delay between a key and the frame that shows its effect.
const ECHO: Duration = Duration::from_millis(40);

/// Time for the source to detach its programs at exit; the kernel removes those that remain.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Error for a source whose thread has panicked.
const PANIC: &str = "internal error: the thread that tracks events panicked";

/// Capacity of the queue of keys and mouse events.
const MAX_KEYS: usize = 64;

/// Options of `fdwatch top`.
#[derive(Debug)]
pub struct Options {
    /// Filters of findings.
    pub filters: Filters,
    /// Size of the ring, in bytes.
    pub ring_bytes: u32,
    /// CPU budget of fdwatch.
    pub max_cpu: MaxCpu,
    /// Agent to query; without one, BPF programs are loaded.
    pub agent: Option<AgentConnection>,
}

/// Shows the screen until the user quits.
///
/// # Errors
///
/// If there is no suitable terminal, or the source fails.
pub fn run(options: Options) -> Result<ExitCode> {
    check_terminal()?;
    let inbox = Arc::new(Inbox::default());
    let source = start(options, &inbox)?;
    let result = show(&inbox);
    inbox.quit();
    result?;
    // The terminal is restored: a source that hangs must not delay the exit.
    let until = Instant::now() + EXIT_TIMEOUT;
    while !source.is_finished() {
        if Instant::now() > until {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(Duration::from_millis(10));
    }
    match source.join() {
        Ok(ended) => ended?,
        Err(_) => bail!("{PANIC}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks that the terminal supports a full screen.
fn check_terminal() -> Result<()> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!(
            "cannot show the screen: standard input or output is not a terminal\n\
             help: use `fdwatch watch`, which writes lines"
        );
    }
    let term = env::var("TERM").unwrap_or_default();
    if term.is_empty() || term == "dumb" {
        bail!(
            "unsupported terminal: TERM is {}\n\
             help: set TERM to the type of the terminal, or use `fdwatch watch`, which writes lines",
            if term.is_empty() { "not set" } else { "dumb" }
        );
    }
    Ok(())
}

/// Returns the theme that the environment selects.
fn theme() -> Theme {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL")
        .or_else(|| set("LC_CTYPE"))
        .or_else(|| set("LANG"));
    let locale = locale.unwrap_or_default().to_lowercase();
    Theme {
        colour: set("NO_COLOR").is_none(),
        unicode: locale.contains("utf-8") || locale.contains("utf8"),
    }
}

/// Starts the source, and waits until it is ready or has failed.
fn start(options: Options, inbox: &Arc<Inbox>) -> Result<JoinHandle<Result<()>>> {
    let Options {
        filters,
        ring_bytes,
        max_cpu,
        agent,
    } = options;
    if agent.is_none() {
        info("loading BPF programs and taking a snapshot...");
    }
    inbox.take_notes();
    let inbox = Arc::clone(inbox);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let source = thread::Builder::new().name("source".to_owned());
    let source = source.spawn(move || {
        let ready = move || {
            // The receiver may be gone.
            let _ = ready.send(());
        };
        let result = match agent {
            Some(agent) => sources::agent::run(agent, &filters, &inbox, ready),
            None => sources::own::run(ring_bytes, max_cpu, &filters, &inbox, ready),
        };
        inbox.end();
        result
    });
    let source = source.context("cannot start a thread")?;
    if is_ready.recv().is_err() {
        match source.join() {
            Ok(result) => result?,
            Err(_) => bail!("{PANIC}"),
        }
        bail!("the source of events ended at its start");
    }
    Ok(source)
}

/// Shows the screen until the user quits or the source ends.
fn show(inbox: &Inbox) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Signal handlers are installed first, so that the terminal is restored on signals.
        let mut signals = Signals::new()?;
        let mut screen = Screen::take_over()?;
        let result = serve(inbox, &mut screen, &mut signals).await;
        screen.restore();
        result
    })
}

async fn serve(inbox: &Inbox, screen: &mut Screen, signals: &mut Signals) -> Result<()> {
    let mut keys = keys()?;
    let mut top = Top::new(theme(), screen.size()?);
    let mut drawn = Instant::now();
    screen.draw(&top)?;
    // Time of the next frame, if something has changed.
    let mut due: Option<Instant> = None;
    loop {
        let mut action = None;
        tokio::select! {
            signal = signals.recv() => match signal {
                Request::Quit => return Ok(()),
                Request::Suspend => action = Some(Action::Suspend),
                Request::Redraw => action = Some(Action::Redraw),
            },
            event = keys.recv() => {
                // The terminal was closed.
                let Some(event) = event else { return Ok(()) };
                if let Some(message) = message(event) {
                    action = top.update(message);
                    let soon = drawn + ECHO;
                    due = Some(due.map_or(soon, |due| due.min(soon)));
                }
            }
            () = inbox.changed() => {
                if inbox.is_over() {
                    return Ok(());
                }
                for update in inbox.take() {
                    top.update(Message::Update(update));
                }
                let later = drawn + FRAME;
                due = Some(due.map_or(later, |due| due.min(later)));
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                screen.draw(&top)?;
                drawn = Instant::now();
                due = None;
            }
        }
        match action {
            None => {}
            Some(Action::Quit) => return Ok(()),
            Some(Action::Open(pid)) => inbox.request(SourceRequest::Open(pid)),
            Some(Action::Close) => inbox.request(SourceRequest::Close),
            Some(Action::Redraw) => {
                screen.clear()?;
                due = Some(Instant::now());
            }
            Some(Action::Suspend) => {
                screen.suspend()?;
                let (width, height) = screen.size()?;
                top.update(Message::Resize(width, height));
                due = Some(Instant::now());
            }
        }
    }
}

fn message(event: Event) -> Option<Message> {
    match event {
        Event::Key(key) => Some(Message::Key(key)),
        Event::Mouse(mouse) => Some(Message::Mouse(mouse)),
        Event::Paste(text) => Some(Message::Paste(text)),
        Event::Resize(width, height) => Some(Message::Resize(width, height)),
        Event::FocusGained | Event::FocusLost => None,
    }
}

/// Starts a thread that reads events from the terminal until the process exits.
fn keys() -> Result<mpsc::Receiver<Event>> {
    let (sender, keys) = mpsc::channel(MAX_KEYS);
    let reader = thread::Builder::new().name("keys".to_owned());
    reader
        .spawn(move || {
            while let Ok(event) = event::read() {
                if sender.blocking_send(event).is_err() {
                    break;
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(keys)
}

/// Signals that quit, stop or resume.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    stop: Signal,
    resume: Signal,
}

/// What a signal requests.
enum Request {
    Quit,
    Suspend,
    Redraw,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            stop: listen(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: listen(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    /// Waits for the next signal.
    async fn recv(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Quit,
            _ = self.terminate.recv() => Request::Quit,
            _ = self.hangup.recv() => Request::Quit,
            _ = self.quit.recv() => Request::Quit,
            _ = self.stop.recv() => Request::Suspend,
            _ = self.resume.recv() => Request::Redraw,
        }
    }
}
