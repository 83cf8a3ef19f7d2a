//! Tests of the text that is drawn at several sizes, and of arbitrary input: it causes no panic and puts no
//! control characters on the screen.

use proptest::prelude::*;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
};
use serde_json::{from_value, json};

use super::{
    Action, Message, Theme, Top, Update,
    data::{self, Descriptors, FindingChange, FindingEvent, Row, Status},
};
use fdwatch_core::diagnose::Severity;
use fdwatch_events::ProcessRow;

const PLAIN: Theme = Theme {
    colour: false,
    unicode: true,
};

fn status(seconds: u64, events: u64) -> Update {
    Update::Status(Box::new(Status {
        source: "own programs".to_owned(),
        host: "web1".to_owned(),
        time: "12:00:00".to_owned(),
        at: seconds * 1_000_000_000,
        processes: 3,
        descriptors: 1234,
        events,
        cpu_seconds: 0.1,
        memory: 12 << 20,
        max_cpu: 1.0,
        sheds: "nothing".to_owned(),
        ..Status::default()
    }))
}

fn row(pid: u32, comm: &[u8], descriptors: usize, duplicates: usize) -> Row {
    let growing: Vec<u32> = (0..12).map(|at| 10 + at * pid / 100).collect();
    let row = ProcessRow {
        pid,
        start_time: u64::from(pid),
        comm: comm.to_vec(),
        unit: Some("app.service".to_owned()),
        descriptors,
        limit: Some(1024),
        duplicate_descriptors: duplicates,
        curve: growing,
        ..ProcessRow::default()
    };
    Row::of(&row, "root")
}

fn finding(id: u32, pid: u32, what: &str, change: FindingChange) -> FindingEvent {
    FindingEvent {
        key: format!("finding {id}"),
        time: "12:00:01".to_owned(),
        change,
        severity: Some(Severity::Warning),
        pid: Some(pid),
        comm: "app".to_owned(),
        what: what.to_owned(),
        why: "reopened, 2 descriptors".to_owned(),
    }
}

fn table(pid: u32) -> Descriptors {
    let fd = |fd: u32, ino: u64| {
        json!({"fd": fd, "access": "w", "append": true, "cloexec": false, "description": fd.to_string(),
            "origin": "openat", "opened_at": null,
            "file": {"path": format!("/var/log/{ino}.log"), "dev": "8:1", "ino": ino, "type": "regular", "deleted": false}})
    };
    let table = json!({"time": "2026-01-01T00:00:00.000000Z", "process": {"pid": pid, "comm": "app"},
        "fds": [fd(3, 1), fd(4, 2), fd(5, 1)]});
    Descriptors::of(&from_value(table).unwrap())
}

fn filled(size: (u16, u16)) -> Top {
    let mut top = Top::new(PLAIN, size);
    let rows = vec![
        row(100, b"app", 900, 2),
        row(200, "größe 長い名前".as_bytes(), 40, 0),
        row(300, b"evil\x1b[31m\xff", 7, 0),
    ];
    for update in [
        status(1, 100),
        status(2, 1300),
        Update::Rows(rows, 0),
        Update::Findings(vec![
            finding(1, 100, "/var/log/1.log", FindingChange::Found),
            finding(2, 200, "/var/log/2.log", FindingChange::Found),
            finding(2, 200, "/var/log/2.log", FindingChange::Gone),
        ]),
    ] {
        assert_eq!(top.update(Message::Update(update)), None);
    }
    top
}

fn drawn(top: &Top, (width, height): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| top.view(frame)).unwrap();
    terminal
}

/// The lines of the screen.
fn screen(top: &Top) -> Vec<String> {
    let terminal = drawn(top, top.size);
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(usize::from(top.size.0).max(1));
    lines
        .map(|line| {
            let mut skip = 0;
            let mut text = String::new();
            for cell in line {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                text.push_str(cell.symbol());
                skip = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
            }
            text.trim_end().to_owned()
        })
        .collect()
}

fn press(top: &mut Top, code: KeyCode) -> Option<Action> {
    top.update(Message::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn type_in(top: &mut Top, text: &str) {
    for letter in text.chars() {
        press(top, KeyCode::Char(letter));
    }
}

#[test]
fn list_at_80_by_24() {
    let lines = screen(&filled((80, 24)));
    let expected = [
        "fdwatch  web1  12:00:00  3 processes  1,234 descriptors  0 critical  1 warning",
        "0 info  1,200 events/s  0 lost  0 drift  CPU 0.0% of 1%  12.0 MiB  own programs",
        "    PID USER        FDS▼ LIMIT        DUP     +/H 5 MIN    NAME",
        "    100 root         900  87% ████·     2    +720 ▁▁▂▃▅▆▇█ app app.service",
        "    200 root          40   3% █····     -   +1440 ▁▁▂▃▅▆▇█ größe 長い名前 app.s…",
        "    300 root           7   0% ·····     -   +2160 ▁▁▂▃▅▆▇█ evil\\x1b[31m\\xff app…",
    ];
    assert_eq!(lines[..6], expected, "{}", lines.join("\n"));
    assert_eq!(lines[16], "3 findings");
    assert_eq!(
        lines[17],
        "12:00:01 gone    warning  app[200]           /var/log/2.log  (reopened, 2 descr…"
    );
    assert_eq!(
        lines[23],
        "F1Help F10Quit F4Filter F6Sort EnterOpen SpaceFreeze TabFindings"
    );
}

#[test]
fn list_at_120_by_40_and_40_by_10() {
    let lines = screen(&filled((120, 40)));
    assert!(
        lines[2].ends_with("NAME               UNIT"),
        "{}",
        lines[2]
    );
    assert!(
        lines[3].ends_with("app                app.service"),
        "{}",
        lines[3]
    );
    let lines = screen(&filled((40, 10)));
    assert_eq!(lines[2], "    PID   FDS▼ LIMIT  DUP NAME");
    assert_eq!(lines[3], "    100    900  87%     2 app app.servi…");
    assert_eq!(lines[9], "F1Help F10Quit F4Filter F6Sort EnterOpen");
    let lines = screen(&filled((39, 10)));
    assert_eq!(lines[0], "Terminal too small");
    screen(&filled((1, 1)));
}

#[test]
fn filter_matches_names_pids_units_and_paths() {
    let mut top = filled((80, 24));
    type_in(&mut top, "/1.LOG");
    let lines = screen(&top);
    assert!(lines[3].contains("app"), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains("größe")),
        "{lines:?}"
    );
    assert!(lines[23].starts_with("Filter: 1.LOG"));
    press(&mut top, KeyCode::Esc);
    type_in(&mut top, "/200");
    press(&mut top, KeyCode::Enter);
    assert!(screen(&top)[3].contains("größe"));
    assert_eq!(press(&mut top, KeyCode::Enter), Some(Action::Open(200)));
}

#[test]
fn selection_survives_sorting() {
    let mut top = filled((80, 24));
    press(&mut top, KeyCode::Down);
    type_in(&mut top, "N");
    assert_eq!(top.rows[top.shown[0]].pid, 100);
    type_in(&mut top, "I");
    assert_eq!(top.rows[top.shown[0]].pid, 300);
    type_in(&mut top, "G");
    assert_eq!(top.rows[top.shown[0]].pid, 300);
    assert_eq!(press(&mut top, KeyCode::Enter), Some(Action::Open(200)));
    press(&mut top, KeyCode::Esc);
    // A click on a title, and two on a row.
    let mut click = |column, row| {
        top.update(Message::Mouse(MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column,
            row,
            modifiers: KeyModifiers::NONE,
        }))
    };
    assert_eq!(click(5, 2), None);
    assert_eq!(click(5, 4), None);
    assert_eq!(click(5, 4), Some(Action::Open(200)));
}

#[test]
fn process_view_lists_duplicates_first() {
    let mut top = filled((80, 24));
    assert_eq!(press(&mut top, KeyCode::Enter), Some(Action::Open(100)));
    top.update(Message::Update(Update::Table(Box::new(table(100)))));
    let explanation = vec!["opened again by the same thread".to_owned()];
    top.update(Message::Update(Update::Explanation(100, explanation)));
    // Of another process.
    top.update(Message::Update(Update::Explanation(
        7,
        vec!["no".to_owned()],
    )));
    let lines = screen(&top);
    assert!(lines[2].starts_with("app[100]  root"), "{lines:?}");
    assert_eq!(
        lines[7],
        "┌          3 wa   regular   openat      before /var/log/1.log",
        "{}",
        lines.join("\n")
    );
    assert!(lines[8].starts_with("└again     5"), "{lines:?}");
    assert!(lines[9].starts_with("           4"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("opened again")));
    type_in(&mut top, "/2.log");
    assert!(screen(&top)[7].starts_with("           4"));
    press(&mut top, KeyCode::Esc);
    assert_eq!(press(&mut top, KeyCode::Esc), Some(Action::Close));
}

#[test]
fn frozen_screen_defers_updates() {
    let mut top = filled((80, 24));
    press(&mut top, KeyCode::Char(' '));
    let before = screen(&top);
    top.update(Message::Update(Update::Rows(vec![row(9, b"new", 5, 0)], 0)));
    top.update(Message::Update(status(3, 9999)));
    let found = finding(5, 9, "/new", FindingChange::Found);
    top.update(Message::Update(Update::Findings(vec![found])));
    let during = screen(&top);
    assert_eq!(before[..23], during[..23]);
    assert!(during[23].ends_with("frozen, 1 new"), "{during:?}");
    press(&mut top, KeyCode::Char(' '));
    let after = screen(&top).join("\n");
    assert!(after.contains("new") && after.contains("/new"), "{after}");
}

#[test]
fn findings_are_bounded() {
    let mut top = filled((80, 24));
    for id in 0..3000 {
        let found = finding(id + 10, 1, "/x", FindingChange::Found);
        top.update(Message::Update(Update::Findings(vec![found])));
    }
    assert_eq!(top.findings.len(), super::MAX_FINDINGS);
    assert!(screen(&top)[16].contains("3,003 findings"));
}

#[test]
fn plain_theme_has_no_colours_and_only_ascii() {
    let mut top = filled((80, 24));
    top.theme.unicode = false;
    assert!(screen(&top).iter().all(|line| line.is_ascii()));
    press(&mut top, KeyCode::F(1));
    let terminal = drawn(&top, top.size);
    for cell in &terminal.backend().buffer().content {
        assert_eq!(cell.fg, ratatui::style::Color::Reset);
        assert_eq!(cell.bg, ratatui::style::Color::Reset);
    }
}

fn code() -> impl Strategy<Value = KeyCode> {
    prop_oneof![
        any::<char>().prop_map(KeyCode::Char),
        proptest::sample::select(
            " /?qfIPMDGNCUSzh<>"
                .chars()
                .map(KeyCode::Char)
                .collect::<Vec<_>>()
        ),
        proptest::sample::select(vec![
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Tab,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::Left,
            KeyCode::Backspace,
        ]),
        (1_u8..12).prop_map(KeyCode::F),
    ]
}

fn mouse() -> impl Strategy<Value = Message> {
    let kinds = proptest::sample::select(vec![
        MouseEventKind::Down(MouseButton::Left),
        MouseEventKind::ScrollUp,
        MouseEventKind::ScrollDown,
        MouseEventKind::Moved,
    ]);
    (kinds, 0_u16..200, 0_u16..60).prop_map(|(kind, column, row)| {
        Message::Mouse(MouseEvent {
            kind,
            column,
            row,
            modifiers: KeyModifiers::NONE,
        })
    })
}

fn update() -> impl Strategy<Value = Update> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let pid = || 1_u32..6;
    let one = (pid(), bytes(), 0_usize..2000, 0_usize..9)
        .prop_map(|(pid, comm, open, duplicate)| row(pid, &comm, open, duplicate));
    let json = (0_u32..20, pid(), any::<String>(), 0_usize..4).prop_map(|(id, pid, path, kind)| {
        let change = ["found", "changed", "gone", "else"][kind];
        let json = json!({"type": "finding", "id": id, "change": change, "severity": "critical",
            "cause": path, "process": {"pid": pid, "comm": path}, "file": {"path": path}, "fds": []});
        FindingEvent::of(&from_value(json).unwrap(), "12:00:00".to_owned()).unwrap()
    });
    let opened = (pid(), any::<String>()).prop_map(|(pid, path)| {
        let fd = json!({"fd": 3, "access": path, "description": path, "origin": path,
            "file": {"path": path, "dev": path, "ino": 3, "type": path}});
        let table =
            json!({"process": {"pid": pid, "comm": path, "cmdline": [path]}, "fds": [fd, fd]});
        Update::Table(Box::new(Descriptors::of(&from_value(table).unwrap())))
    });
    prop_oneof![
        (0_u64..100, any::<u64>()).prop_map(|(at, events)| status(at, events)),
        (proptest::collection::vec(one, 0..40), 0_u64..3)
            .prop_map(|(rows, more)| Update::Rows(rows, more)),
        proptest::collection::vec(json, 0..40).prop_map(Update::Findings),
        opened,
        (pid(), any::<String>())
            .prop_map(|(pid, text)| Update::Explanation(pid, data::lines_of(&text))),
        (pid(), any::<String>()).prop_map(|(pid, text)| Update::Failed(pid, text)),
        any::<String>().prop_map(Update::Note),
        any::<u32>().prop_map(|missed| Update::Missed(missed.into())),
    ]
}

fn anything() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => code().prop_map(|code| Message::Key(KeyEvent::new(code, KeyModifiers::NONE))),
        2 => mouse(),
        1 => any::<String>().prop_map(Message::Paste),
        1 => (0_u16..200, 0_u16..60).prop_map(|(width, height)| Message::Resize(width, height)),
        4 => update().prop_map(Message::Update),
    ]
}

proptest! {
    #[test]
    fn arbitrary_input_is_drawn_safely(
        messages in proptest::collection::vec(anything(), 1..60),
        unicode in any::<bool>(),
    ) {
        let mut top = Top::new(Theme { colour: unicode, unicode }, (80, 24));
        for message in messages {
            top.update(message);
            // The terminal may differ from the last resize event.
            for (width, height) in [top.size, (top.size.0 / 2 + 1, 9)] {
                let terminal = drawn(&top, (width.max(1), height.max(1)));
                for cell in &terminal.backend().buffer().content {
                    let symbol = cell.symbol();
                    prop_assert!(!symbol.chars().any(char::is_control), "{symbol:?}");
                    prop_assert!(!symbol.contains(['\u{202e}', '\u{2066}', '\u{200f}']), "{symbol:?}");
                }
            }
        }
    }
}
