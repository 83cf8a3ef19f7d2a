//! The agent's page in a real browser: findings appear and disappear without a reload, names stay text,
//! everything is reachable by keyboard, and only the agent is contacted.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::chown,
    path::Path,
    process::{Command, Stdio},
};

use fdwatch_test_support::{
    DEADLINE, Guard, Puppet,
    agent::{self, Agent},
    bpf, eventually,
    lines::Lines,
    program, puppet,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const DRIVER: &str = "/usr/bin/chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";
const NOBODY: u32 = 65534;

/// Keys, in WebDriver's encoding.
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";

/// A Chromium controlled through WebDriver.
struct Browser {
    port: u16,
    session: String,
    _driver: Guard,
    _profile: TempDir,
}

impl Browser {
    /// Starts one, optionally as an unprivileged user.
    fn start(is_nobody: bool) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = if is_nobody {
            chown(profile.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            command.arg(DRIVER);
            command
        } else {
            Command::new(DRIVER)
        };
        command
            .arg("--port=0")
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut driver = Guard::spawn(&mut command);
        let message = Lines::of(driver.0.stdout.take().unwrap());
        let port = std::iter::from_fn(|| message.next())
            .find_map(|line| {
                let (_, port) = line.split_once("started successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            })
            .expect("no port from the driver");
        let mut browser = Self {
            port,
            session: String::new(),
            _driver: driver,
            _profile: profile,
        };
        let directory = browser._profile.path().join("profile");
        let data = format!("--user-data-dir={}", directory.display());
        let arguments = json!([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            data,
        ]);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments, "binary": CHROMIUM},
        }}});
        let session = browser.call("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Sends a request to the driver and returns its value.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let body = if method == "POST" {
            body.to_string()
        } else {
            String::new()
        };
        let path = if path == "/session" {
            path.to_owned()
        } else {
            format!("/session/{}{path}", self.session)
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let answer = agent::answer(&whole(&mut stream));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["value"].clone()
    }

    fn go(&self, url: &str) {
        self.call("POST", "/url", &json!({"url": url}));
    }

    /// Runs a script and returns its value.
    fn run(&self, script: &str) -> Value {
        let body = json!({"script": script, "args": []});
        self.call("POST", "/execute/sync", &body)
    }

    /// Returns the visible text of the selected element.
    fn text(&self, selector: &str) -> String {
        let script = format!(
            "return document.querySelector({})?.innerText ?? ''",
            json!(selector)
        );
        self.run(&script).as_str().unwrap().to_owned()
    }

    /// Presses keys, one after another.
    fn press(&self, keys: &[&str]) {
        let actions: Vec<_> = keys
            .iter()
            .flat_map(|key| {
                [
                    json!({"type": "keyDown", "value": key}),
                    json!({"type": "keyUp", "value": key}),
                ]
            })
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]});
        self.call("POST", "/actions", &actions);
    }

    /// Returns warnings and errors of the console.
    fn console_problems(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        let bad = entries.filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        bad.map(|entry| entry["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Emulates a device of this width and colour scheme.
    fn emulate(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params":
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}});
        self.call("POST", "/goog/cdp/execute", &size);
        let scheme = json!({"cmd": "Emulation.setEmulatedMedia", "params":
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]}});
        self.call("POST", "/goog/cdp/execute", &scheme);
    }

    /// Saves a screenshot for inspection.
    fn screenshot(&self, name: &str) {
        let picture = self.call("GET", "/screenshot", &Value::Null);
        let picture = picture.as_str().unwrap();
        // Written as received: `base64 -d` makes a PNG file of it.
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png.base64"));
        fs::write(place, picture).unwrap();
    }

    fn eventually(&self, what: &str, condition: &str) {
        eventually(what, || {
            (self.run(&format!("return {condition}")) == true).then_some(())
        });
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is a child of the driver and ends with it.
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", "", &Value::Null);
        }
    }
}

/// Reads one response: the driver ignores requests to close the connection.
fn whole(stream: &mut TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_ne!(reader.read_until(b'\n', &mut bytes).unwrap(), 0);
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.unwrap().trim().parse().unwrap();
    reader.take(length).read_to_end(&mut bytes).unwrap();
    bytes
}

fn programs() -> bool {
    bpf() && program(DRIVER) && program(CHROMIUM)
}

fn agent_on(port: u16) -> Agent {
    Agent::start(&format!("listen = [\"127.0.0.1:{port}\"]\n"))
}

#[test]
fn page_updates_findings_and_escapes_names() {
    if !programs() {
        return;
    }
    let port = agent::free_port();
    let agent = agent_on(port);
    let own = tempfile::tempdir().unwrap();
    let browser = Browser::start(false);
    browser.emulate(1200, 900, "light");
    browser.go(&format!("http://127.0.0.1:{port}/"));
    browser.eventually(
        "a page that is live",
        "document.querySelector('#live').textContent.includes('live')",
    );
    browser.run("window.same = true; localStorage.clear();");

    let mut puppet = Puppet::start();
    puppet.exec(r#"libc.prctl(15, b'{"a":"<b>"}\n', 0, 0, 0)"#);
    let hostile = own
        .path()
        .join("<img src=x onerror=alert(1)>\"'&amp;\nsecond\u{1b}[31m\u{202e}line.log");
    let script = own.path().join("<script>window.hacked=1<script>.log");
    let held = puppet.open(&hostile, "WRONLY|CREAT");
    let again = puppet.open(&hostile, "WRONLY");
    let other = puppet.open(&script, "WRONLY|CREAT");
    let more = puppet.open(&script, "RDONLY");
    browser.eventually(
        "the findings",
        "['<img src=x onerror=alert(1)>\"\\'&amp;\\\\nsecond\\\\u{1b}[31m\\\\u{202e}line.log', '<script>window.hacked=1<script>.log'].every((name) => document.querySelector('#present').textContent.includes(name))",
    );
    let present = browser.text("#present");
    assert!(
        present.contains(&format!("{{\"a\":\"<b>\"}}\\n[{}]", puppet.pid())),
        "{present}"
    );
    assert_eq!(
        browser.run("return [...document.querySelectorAll('#present img, #present script, #present b')].length + (window.hacked ?? 0)"),
        0
    );
    assert_eq!(
        browser.run("return document.querySelector('#announce').getAttribute('aria-live')"),
        "polite"
    );
    browser.eventually(
        "the announcement",
        "document.querySelector('#announce').textContent.includes('appeared')",
    );
    browser.screenshot("light");

    // By keyboard alone: to the filter, to the finding, into it, and back.
    browser.press(&["/"]);
    browser.eventually(
        "focus on the filter",
        "document.activeElement.id === 'filter'",
    );
    browser.press(&["h", "a", "c", "k", "e", "d"]);
    browser.eventually(
        "one finding",
        "document.querySelectorAll('#present button').length === 1",
    );
    browser.press(&[TAB, TAB]);
    browser.eventually(
        "focus on the finding",
        "document.activeElement.matches('#present button')",
    );
    browser.press(&[ENTER]);
    browser.eventually(
        "the details of the process",
        "document.querySelector('dialog').open && document.querySelectorAll('dialog tr.dup').length === 4",
    );
    let marked: Vec<u32> = serde_json::from_value(browser.run(
        "return [...document.querySelectorAll('tr.dup')].map((row) => Number(row.cells[0].textContent))",
    ))
    .unwrap();
    let mut all = vec![held, again, other, more];
    all.sort_unstable();
    assert_eq!(marked, all);
    let details = browser.text("dialog");
    assert!(details.contains("Advice"), "{details}");
    assert!(
        details.contains(&format!("{other} (writing) opened by openat")),
        "{details}"
    );
    browser.emulate(1200, 900, "dark");
    browser.screenshot("details-dark");
    browser.press(&[ESCAPE]);
    browser.eventually(
        "focus to return to the finding",
        "!document.querySelector('dialog').open && document.activeElement.matches('#present button')",
    );
    // The focused element is visible.
    assert_ne!(
        browser.run("return getComputedStyle(document.activeElement).outlineStyle"),
        "none"
    );

    puppet.close(more);
    browser.eventually(
        "the closed finding under gone findings",
        "!document.querySelector('#present').textContent.includes('hacked') && document.querySelector('#gone').textContent.includes('hacked')",
    );
    browser.press(&["/"]);
    browser.press(&[ESCAPE]);
    browser.eventually(
        "all findings again",
        "document.querySelector('#present').textContent.includes('onerror')",
    );
    puppet.exec("more = [os.open('/dev/null', 0) for _ in range(300)]");
    let pid = puppet.pid();
    browser.eventually(
        "the process among the busiest",
        &format!("[...document.querySelectorAll('#rows tr')].some((row) => row.textContent.includes('[{pid}]') && row.querySelector('svg path'))"),
    );
    browser.eventually(
        "the agent's health",
        "/in \\d+ audits?/.test(document.querySelector('#figures').textContent)",
    );
    browser.emulate(360, 740, "light");
    assert_eq!(
        browser.run("return document.documentElement.scrollWidth"),
        360
    );
    browser.screenshot("narrow");

    assert_eq!(
        browser.run("return window.same"),
        true,
        "the page was reloaded"
    );
    let elsewhere = format!(
        "return performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => !name.startsWith('http://127.0.0.1:{port}/') && !name.startsWith('data:'))"
    );
    assert_eq!(browser.run(&elsewhere), json!([]));
    assert_eq!(browser.console_problems(), [""; 0]);
    drop(agent);
}

#[test]
fn page_reconnects_to_next_agent() {
    if !programs() {
        return;
    }
    let port = agent::free_port();
    let own = tempfile::tempdir().unwrap();
    let config = format!(
        "{}listen = [\"127.0.0.1:{port}\"]\n",
        agent::basics(own.path())
    );
    fs::write(own.path().join("agent.toml"), config).unwrap();
    let agent = Agent::in_directory(own.path());
    let browser = Browser::start(false);
    browser.go(&format!("http://127.0.0.1:{port}/"));
    browser.eventually(
        "a page that is live",
        "document.querySelector('#live').textContent.includes('● live')",
    );
    agent.end();
    browser.eventually(
        "the page to disconnect",
        "document.querySelector('#live').textContent.includes('disconnected')",
    );
    let mut puppet = Puppet::start();
    let path = own.path().join("meanwhile.log");
    puppet.open(&path, "WRONLY|CREAT");
    puppet.open(&path, "WRONLY");
    let _agent = Agent::in_directory(own.path());
    browser.eventually(
        "the finding that appeared while disconnected",
        "document.querySelector('#live').textContent.includes('● live') && document.querySelector('#present').textContent.includes('meanwhile.log')",
    );
    assert!(browser.text("#missed").contains("interrupted"));
}

#[test]
fn page_asks_for_missing_token() {
    if !programs() {
        return;
    }
    let secret = tempfile::tempdir().unwrap();
    let token = "b7d1f0c2a9e84d6f8a3c5b1e7f2d4a60";
    let port = agent::free_port();
    let agent = Agent::start(&agent::on_loopback(secret.path(), port, token));
    let own = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let path = own.path().join("secret.log");
    puppet.exec(&puppet::open(&path, "WRONLY|CREAT"));
    puppet.exec(&puppet::open(&path, "WRONLY"));
    agent.finding_on(&path);

    let browser = Browser::start(true);
    browser.go(&format!("http://127.0.0.1:{port}/"));
    browser.eventually(
        "the form",
        "!document.querySelector('#token').hidden && document.activeElement.id === 'token-value'",
    );
    let all = browser.text("body");
    assert!(!all.contains("secret.log"), "{all}");
    for wrong in ["wrong-wrong-wrong-wrong", token] {
        let keys: Vec<String> = wrong.chars().map(String::from).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        browser.press(&keys);
        browser.press(&[ENTER]);
        if wrong != token {
            browser.eventually(
                "the token to be rejected",
                "document.querySelector('#token-why').textContent.includes('rejected this token') && document.activeElement.id === 'token-value'",
            );
        }
    }
    browser.eventually(
        "the finding",
        "document.querySelector('#token').hidden && document.querySelector('#present').textContent.includes('secret.log')",
    );
    // The token is not visible, and is not stored beyond the tab's lifetime.
    assert_eq!(browser.run("return localStorage.length"), 0);
    assert!(!browser.text("body").contains(token));
    assert_eq!(browser.run("return location.search"), "");
}
