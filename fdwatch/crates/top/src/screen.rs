//! `fdwatch top`: the full screen. The screen is in one thread, and what it shows comes from another:
//! from programs of its own, or from an agent. Neither waits for the other.

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
        inbox::{Ask, Inbox},
    },
    terminal::Screen,
};
use fdwatch_tracker::message::info;

/// What has changed is drawn no more often than this.
const FRAME: Duration = Duration::from_millis(250);

/// What a key has changed is drawn after this at the latest.
const ECHO: Duration = Duration::from_millis(40);

/// At the end the programs are taken out of the kernel in this time, or left to it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is to say where a thread has panicked.
const FAULT: &str = "what follows the events has ended by a fault of fdwatch's own";

/// Keys and clicks that wait at once.
const MAX_KEYS: usize = 64;

/// What `top` shows, and from where.
#[derive(Debug)]
pub struct Options {
    /// Findings that are shown.
    pub filters: Filters,
    /// Size of the ring, in bytes.
    pub ring_bytes: u32,
    /// CPU budget of fdwatch itself.
    pub max_cpu: MaxCpu,
    /// The agent that is queried; its own programs are loaded without one.
    pub agent: Option<AgentConnection>,
}

/// Shows the screen until the user ends it.
///
/// # Errors
///
/// If there is no terminal that can be drawn on, or the source fails.
pub fn run(options: Options) -> Result<ExitCode> {
    check_terminal()?;
    let inbox = Arc::new(Inbox::default());
    let source = start(options, &inbox)?;
    let result = show(&inbox);
    inbox.quit();
    result?;
    // The screen is given back: whatever keeps the other is no reason not to end.
    let until = Instant::now() + PATIENCE;
    while !source.is_finished() {
        if Instant::now() > until {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(Duration::from_millis(10));
    }
    match source.join() {
        Ok(ended) => ended?,
        Err(_) => bail!("{FAULT}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses where there is nothing that a screen could be shown on.
fn check_terminal() -> Result<()> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!(
            "`top` needs a terminal, and standard input or output is none; `fdwatch watch` writes lines instead"
        );
    }
    let term = env::var("TERM").unwrap_or_default();
    if term.is_empty() || term == "dumb" {
        bail!(
            "`top` needs a terminal that can be drawn on, and TERM is {}; set TERM to what it is, or use `fdwatch watch`, which writes lines",
            if term.is_empty() { "not set" } else { "dumb" }
        );
    }
    Ok(())
}

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

/// Begins to follow the events, and waits until that is done or has failed.
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
    let (begun, begins) = std::sync::mpsc::channel();
    let source = thread::Builder::new().name("source".to_owned());
    let source = source.spawn(move || {
        let begun = move || {
            // Who waits for it may have gone.
            let _ = begun.send(());
        };
        let result = match agent {
            Some(agent) => sources::agent::run(agent, &filters, &inbox, begun),
            None => sources::own::run(ring_bytes, max_cpu, &filters, &inbox, begun),
        };
        inbox.end();
        result
    });
    let source = source.context("cannot start a thread")?;
    if begins.recv().is_err() {
        match source.join() {
            Ok(result) => result?,
            Err(_) => bail!("{FAULT}"),
        }
        bail!("there is nothing to follow");
    }
    Ok(source)
}

/// Shows what there is until the end.
fn show(inbox: &Inbox) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Before the screen is taken: whoever ends it from now on finds it given back.
        let mut signals = Signals::new()?;
        let mut screen = Screen::take()?;
        let result = serve(inbox, &mut screen, &mut signals).await;
        screen.give_back();
        result
    })
}

async fn serve(inbox: &Inbox, screen: &mut Screen, signals: &mut Signals) -> Result<()> {
    let mut keys = keys()?;
    let mut top = Top::new(theme(), screen.size()?);
    let mut drawn = Instant::now();
    screen.draw(&top)?;
    // When what has changed is drawn.
    let mut due: Option<Instant> = None;
    loop {
        let mut wish = None;
        tokio::select! {
            signal = signals.come() => match signal {
                Came::End => return Ok(()),
                Came::Stop => wish = Some(Action::Suspend),
                Came::Again => wish = Some(Action::Redraw),
            },
            event = keys.recv() => {
                // The terminal is gone.
                let Some(event) = event else { return Ok(()) };
                if let Some(message) = message(event) {
                    wish = top.update(message);
                    let soon = drawn + ECHO;
                    due = Some(due.map_or(soon, |due| due.min(soon)));
                }
            }
            () = inbox.news() => {
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
        match wish {
            None => {}
            Some(Action::Quit) => return Ok(()),
            Some(Action::Open(pid)) => inbox.ask(Ask::Open(pid)),
            Some(Action::Close) => inbox.ask(Ask::Close),
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

/// What the terminal sends, read by a thread of its own, which ends with the process.
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

/// Signals that end it, stop it, or let it go on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    stop: Signal,
    go_on: Signal,
}

enum Came {
    End,
    Stop,
    Again,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            stop: listen(SignalKind::from_raw(libc::SIGTSTP))?,
            go_on: listen(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    async fn come(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came::End,
            _ = self.terminate.recv() => Came::End,
            _ = self.hangup.recv() => Came::End,
            _ = self.quit.recv() => Came::End,
            _ = self.stop.recv() => Came::Stop,
            _ = self.go_on.recv() => Came::Again,
        }
    }
}
