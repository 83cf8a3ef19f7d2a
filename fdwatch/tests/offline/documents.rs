//! Checks of the documents: every configuration, command line, JSON object and link in them is parsed or run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use fdwatch::cli::Cli;
use fdwatch_test_support::{fdwatch, program, run, schema, tls};
use serde_json::{Deserializer, Value};

/// Languages of fenced blocks.
const LANGUAGES: [&str; 10] = [
    "c", "console", "diff", "ini", "json", "python", "sh", "text", "toml", "yaml",
];

/// A fenced block of a document.
struct Block {
    /// Document and line of the fence, as `docs/api.md:12`.
    place: String,
    language: String,
    text: String,
}

#[test]
fn blocks_have_a_known_language() {
    let blocks = blocks();
    let unknown: Vec<_> = blocks
        .iter()
        .filter(|block| !LANGUAGES.contains(&block.language.as_str()))
        .map(|block| format!("{}: {:?}", block.place, block.language))
        .collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    for language in ["console", "ini", "json", "sh", "toml"] {
        let is_used = blocks.iter().any(|block| block.language == language);
        assert!(is_used, "no block of {language}");
    }
}

#[test]
fn toml_blocks_pass_agent_check() {
    let Some(host) = Host::new() else { return };
    let faults = faults("toml", |block| host.check(&block.text));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn wrong_configuration_is_detected() {
    let Some(host) = Host::new() else { return };
    let right = "[alerts]\nmost_per_minute = 3\n[[alerts.webhook]]\nurl = \"https://h/\"\n\
                 token_file = \"/etc/fdwatch/hook.token\"\nca_file = \"/etc/fdwatch/ca.pem\"\n";
    assert_eq!(host.check(right), Vec::<String>::new());
    for (from, to) in [
        ("most_per_minute", "most-per-minute"),
        ("token_file", "token-file"),
        ("= 3", "= \"3\""),
        ("[alerts]", "[alarts]"),
    ] {
        assert_ne!(host.check(&right.replace(from, to)), Vec::<String>::new());
    }
}

#[test]
fn ini_blocks_are_read_by_lint() {
    let faults = faults("ini", |block| lint(&block.text));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn wrong_supervisord_section_is_detected() {
    assert_ne!(lint("[supervisord\n"), Vec::<String>::new());
}

#[test]
fn json_in_documents_matches_schemas() {
    let mut faults = faults("json", |block| json(&block.text));
    let output = |block: &Block| {
        let objects = block.text.lines().filter(|line| is_object(line));
        objects.flat_map(json).collect()
    };
    faults.extend(self::faults("console", output));
    faults.extend(self::faults("text", output));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn wrong_json_is_detected() {
    let right = r#"{"schema": 1, "type": "error", "error": "no such process: 12"}"#;
    assert_eq!(json(right), Vec::<String>::new());
    assert_eq!(json(&format!("[{right}]")), Vec::<String>::new());
    for wrong in [
        right.replace("12\"", "12"),
        right.replace("\"error\": ", "\"reason\": "),
        right.replace("\"error\", ", "\"eror\", "),
        format!(
            "{{\"a\": [{}]}}",
            right.replace("schema\": 1", "schema\": 2")
        ),
    ] {
        assert_ne!(json(&wrong), Vec::<String>::new(), "{wrong}");
    }
}

#[test]
fn command_lines_in_blocks_are_accepted() {
    let tasks = tasks();
    let mut faults = faults("sh", |block| command_faults(&script(&block.text), &tasks));
    faults.extend(self::faults("console", |block| {
        command_faults(&prompts(&block.text), &tasks)
    }));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn options_named_in_text_exist() {
    let tasks = tasks();
    let mut faults = Vec::new();
    for document in documents() {
        for (line, span) in spans(&read(&document)) {
            let words = words(&span).into_iter().next().unwrap_or_default();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let fault = match words.as_slice() {
                ["fdwatch", rest @ ..] => named(rest),
                ["cargo", "xtask", rest @ ..] => task_fault(rest, &tasks),
                _ => None,
            };
            faults.extend(fault.map(|fault| format!("{document}:{line}: `{span}`: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn wrong_command_line_is_detected() {
    let tasks = tasks();
    let faults = |text: &str| command_faults(&script(text), &tasks);
    for right in [
        "sudo fdwatch watch --comm served --path '*/a b.log' | head  # a comment",
        "fdwatch explain $(cat /run/s.pid) 6 --duration 5s >out; echo $?",
        "NO_COLOR=1 target/release/fdwatch fds $!",
        "fdwatch run --error-exitcode 9 \\\n  -- make -k check",
        "cargo xtask run -- --pid 7",
        "cargo xtask fleet-sim --url http://localhost:8123",
        "cargo xtask vm --kernel 6.1; cargo xtask setup --dry-run",
        "fdwatch --version",
    ] {
        assert_eq!(faults(right), Vec::<String>::new(), "{right}");
    }
    for wrong in [
        "true && fdwatch watch --com served",
        "fdwatch fds",
        "fdwatch history --since yesterday",
        "sudo /usr/bin/fdwatch wach",
        "x=$(fdwatch scan --prok)",
        "cargo xtask run -- --severity high",
        "cargo xtask benchmark",
        "cargo xtask vm --kernels 6.1",
    ] {
        assert_ne!(faults(wrong), Vec::<String>::new(), "{wrong}");
    }
    assert_eq!(
        prompts("$ fdwatch a\nfdwatch b\n# fdwatch c"),
        ["fdwatch a", "fdwatch c"]
    );
    assert_eq!(named(&["fleet", "new", "--since", "--json"]), None);
    for wrong in [&["watch", "--jsn"][..], &["flet"], &["fleet", "newer"]] {
        assert!(named(wrong).is_some(), "{wrong:?}");
    }
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut faults = Vec::new();
    for document in documents() {
        let text = read(&document);
        for (line, target) in links(&text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let of = if path.is_empty() {
                root().join(&document)
            } else {
                root().join(&document).with_file_name(path)
            };
            let exists = of.exists();
            let is_right = exists
                && (anchor.is_empty()
                    || headings(&fs::read_to_string(&of).unwrap_or_default()).contains(anchor));
            if !is_right {
                faults.push(format!("{document}:{line}: {target}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn dead_link_is_detected() {
    assert_eq!(
        links("a [b](c.md#d), [e](f)"),
        [(1, "c.md#d".into()), (1, "f".into())]
    );
    let headings = headings("# One `two`\n## What it's, three?\n```sh\n# four\n```\n");
    assert_eq!(
        headings,
        ["one-two", "what-its-three"].map(String::from).into()
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(document: &str) -> String {
    let read = fs::read_to_string(root().join(document));
    read.unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Returns all documents, by path from the root.
fn documents() -> Vec<String> {
    fn visit(directory: &str, found: &mut Vec<String>) {
        let entries = fs::read_dir(root().join(directory)).expect("cannot read a directory");
        for entry in entries {
            let entry = entry.expect("cannot read a directory");
            let name = entry.file_name().into_string().expect("not UTF-8");
            let path = format!("{directory}{name}");
            if entry.path().is_dir() && !directory.is_empty() {
                visit(&format!("{path}/"), found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    visit("", &mut found);
    visit("docs/", &mut found);
    found.sort();
    for name in ["README.md", "docs/alerts.md", "docs/internals/kernel.md"] {
        assert!(found.iter().any(|it| it == name), "{name} not found");
    }
    found
}

/// Returns the fenced blocks of all documents.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for document in documents() {
        let text = read(&document);
        let mut open: Option<Block> = None;
        for (at, line) in text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (fence, open.take()) {
                (Some(language), None) => {
                    open = Some(Block {
                        place: format!("{document}:{}", at + 1),
                        language: language.to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{document}: unclosed block");
    }
    blocks
}

/// Applies `check` to the blocks of a language, and returns the faults with their positions.
fn faults(language: &str, check: impl Fn(&Block) -> Vec<String>) -> Vec<String> {
    let blocks = blocks();
    let blocks = blocks.iter().filter(|block| block.language == language);
    let faults = |block: &Block| {
        let place = block.place.clone();
        let faults = check(block).into_iter();
        faults.map(move |fault| format!("{place}: {fault}"))
    };
    blocks.flat_map(faults).collect()
}

/// A directory with the files that configurations name: tokens, passwords, certificates.
struct Host {
    directory: tempfile::TempDir,
    files: Vec<(&'static str, PathBuf)>,
}

impl Host {
    /// Creates it; `None` without openssl.
    fn new() -> Option<Self> {
        if !program(tls::OPENSSL) {
            return None;
        }
        let directory = tempfile::tempdir().expect("cannot create a directory");
        let secret = directory.path().join("secret");
        fs::write(&secret, "0123456789abcdef0123456789abcdef\n").expect("cannot write a file");
        let authority = tls::Authority::new(&directory.path().join("authority"));
        let (certificate, key) = authority.sign("host", "DNS:localhost");
        let files = vec![
            ("token_file", secret.clone()),
            ("password_file", secret),
            ("ca_file", authority.certificate()),
            ("certificate", certificate),
            ("key", key),
        ];
        Some(Self { directory, files })
    }

    /// Returns what `fdwatch agent --check` reports about a configuration.
    fn check(&self, text: &str) -> Vec<String> {
        let mut text = text.to_owned();
        for (key, file) in &self.files {
            let start = format!("{key} = \"");
            let parts: Vec<_> = text.split(&start).map(str::to_owned).collect();
            let file = file.to_str().expect("not UTF-8");
            text = parts[0].clone();
            for part in &parts[1..] {
                let (_, rest) = part.split_once('"').unwrap_or(("", part));
                text.push_str(&format!("{start}{file}\"{rest}"));
            }
        }
        let path = self.directory.path().join("agent.toml");
        fs::write(&path, &text).expect("cannot write a file");
        let mut command = fdwatch(["agent", "--check"]);
        command.arg(&path);
        let finished = run(command);
        match finished.code {
            Some(0) => Vec::new(),
            _ => vec![format!("{}{}", finished.stdout(), finished.stderr)],
        }
    }
}

/// Returns why `fdwatch lint` cannot read a configuration of supervisord.
fn lint(text: &str) -> Vec<String> {
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let path = directory.path().join("supervisord.conf");
    fs::write(&path, text).expect("cannot write a file");
    let mut command = fdwatch(["lint", "--json"]);
    command.arg(&path);
    let finished = run(command);
    if finished.code != Some(0) && finished.code != Some(1) {
        return vec![finished.stderr];
    }
    // Logs in directories that this host does not have are fine in an example.
    const RULES: [&str; 3] = ["refused", "unknown-key", "unknown-section"];
    let is_wrong = |fault: &Value| {
        fault["rule"]
            .as_str()
            .is_some_and(|rule| RULES.contains(&rule))
    };
    let faults = finished.json().into_iter().filter(is_wrong);
    faults.map(|fault| fault["message"].to_string()).collect()
}

/// Returns whether a line of output is a complete JSON object.
fn is_object(line: &str) -> bool {
    line.starts_with("{\"") && line.ends_with('}') && !line.contains('…')
}

/// Returns the faults of one or more JSON values.
fn json(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for value in Deserializer::from_str(text).into_iter::<Value>() {
        match value {
            Ok(value) => validate(&value, &mut faults),
            Err(error) => faults.push(error.to_string()),
        }
    }
    faults
}

/// Validates each object of fdwatch within a value.
fn validate(value: &Value, faults: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            if let (Some(_), Some(kind)) = (object.get("schema"), value["type"].as_str()) {
                faults.extend(schema::faults(kind, value));
            }
            object.values().for_each(|it| validate(it, faults));
        }
        Value::Array(values) => values.iter().for_each(|it| validate(it, faults)),
        _ => {}
    }
}

/// Returns the lines of a script, with continuation lines joined.
fn script(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    text.lines().map(str::to_owned).collect()
}

/// Returns the command lines of a shell session.
fn prompts(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let command = |line: &str| {
        let command = line
            .strip_prefix("$ ")
            .or_else(|| line.strip_prefix("# "))?;
        Some(command.to_owned())
    };
    text.lines().filter_map(command).collect()
}

/// Returns the faults of command lines of fdwatch and xtask.
fn command_faults(lines: &[String], tasks: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let commands = lines.iter().flat_map(|line| words(line));
    commands
        .filter_map(|words| {
            let fault = command_fault(&words, tasks)?;
            Some(format!("{}: {fault}", words.join(" ")))
        })
        .collect()
}

fn command_fault(words: &[String], tasks: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let is_before =
        |word: &&String| *word == "sudo" || word.contains('=') && !word.starts_with('-');
    let before = words.iter().take_while(is_before).count();
    let words: Vec<_> = words[before..].iter().map(String::as_str).collect();
    match words.as_slice() {
        [name, rest @ ..] if name.rsplit('/').next() == Some("fdwatch") => parse_fault(rest),
        ["cargo", "xtask", "run", "--", rest @ ..] => parse_fault(rest),
        ["cargo", "xtask", rest @ ..] => task_fault(rest, tasks),
        _ => None,
    }
}

/// Returns why the command line parser rejects these arguments.
fn parse_fault(arguments: &[&str]) -> Option<String> {
    let error = Cli::try_parse_from(std::iter::once(&"fdwatch").chain(arguments)).err()?;
    let is_fine = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    (!is_fine).then(|| error.to_string())
}

/// Returns an unknown command or option among words that need not be a complete command line.
fn named(words: &[&str]) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let mut is_command = true;
    for word in words.iter().take_while(|word| **word != "--") {
        if let Some(option) = word.strip_prefix("--") {
            let option = option.split('=').next().unwrap_or(option);
            let mut options = command.get_arguments();
            if !options.any(|it| it.get_long() == Some(option)) {
                return Some(format!("unknown option: --{option}"));
            }
        } else if is_command && command.has_subcommands() && word.starts_with(char::is_lowercase) {
            match command.find_subcommand(word) {
                Some(found) => command = found.clone(),
                None => return Some(format!("unknown command: {word}")),
            }
            continue;
        }
        is_command = false;
    }
    None
}

/// Reads the tasks of xtask from its source, with their options and arguments: those it builds itself, and
/// those that the trials derive from the fields of an enum.
fn tasks() -> BTreeMap<String, BTreeSet<String>> {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("cannot read xtask");
    let mut tasks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut task = String::new();
    let quoted = |line: &str, call: &str| {
        let (_, rest) = line.split_once(call)?;
        Some(rest.split('"').next()?.to_owned())
    };
    // A name may be on the line after its call.
    let source = read("xtask/src/main.rs");
    let pieces: Vec<_> = source.split("(\n").map(str::trim_start).collect();
    for line in pieces.join("(").lines() {
        if let Some(name) = quoted(line, "Command::new(\"") {
            task = name;
            tasks.insert(task.clone(), BTreeSet::new());
        } else if let Some(option) = ["Arg::new(\"", "flag(\""]
            .into_iter()
            .find_map(|call| quoted(line, call))
        {
            tasks.entry(task.clone()).or_default().insert(option);
        }
    }
    let trials = read("xtask/trials/src/main.rs");
    let (_, list) = trials
        .split_once("enum Trial {\n")
        .expect("no list of trials");
    let mut long = None;
    for line in list.lines().take_while(|line| *line != "}") {
        let item = line.trim_start();
        let name = &item[..item
            .find(|it: char| !it.is_alphanumeric() && it != '_')
            .unwrap_or(item.len())];
        if let Some(option) = quoted(item, "long = \"") {
            long = Some(option);
        } else if name.starts_with(char::is_uppercase) && line.len() == item.len() + 4 {
            task = kebab(name);
            tasks.insert(task.clone(), BTreeSet::new());
        } else if item[name.len()..].starts_with(": ") && !name.is_empty() {
            let option = long.take().unwrap_or_else(|| name.replace('_', "-"));
            tasks.entry(task.clone()).or_default().insert(option);
        }
    }
    for task in ["run", "test", "fleet-sim"] {
        assert!(tasks.contains_key(task), "xtask's list of tasks not found");
    }
    tasks
}

fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(character.to_ascii_lowercase());
    }
    kebab
}

/// Returns the faults of xtask's arguments.
fn task_fault(arguments: &[&str], tasks: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let (task, rest) = arguments.split_first()?;
    let Some(known) = tasks.get(*task) else {
        return Some(format!("unknown task: {task}"));
    };
    let options = rest.iter().take_while(|word| **word != "--");
    let mut options = options.filter_map(|word| word.strip_prefix("--"));
    let missing = options.find(|option| !known.contains(*option));
    missing.map(|option| format!("{task}: unknown option: --{option}"))
}

/// Returns the commands of a shell line, each as its words. Substitutions count as `1`, and their content as
/// further commands; redirections are dropped.
fn words(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut inner = Vec::new();
    let mut word: Option<String> = None;
    let mut is_redirection = false;
    let mut characters = line.chars().peekable();
    let end = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>, dropped: &mut bool| {
        if let Some(word) = word.take()
            && !std::mem::take(dropped)
        {
            commands.last_mut().expect("none found").push(word);
        }
    };
    while let Some(character) = characters.next() {
        match character {
            '#' if word.is_none() => break,
            ' ' | '\t' => end(&mut word, &mut commands, &mut is_redirection),
            '|' | ';' | '(' | ')' => {
                end(&mut word, &mut commands, &mut is_redirection);
                commands.push(Vec::new());
            }
            '&' if !is_redirection => {
                end(&mut word, &mut commands, &mut is_redirection);
                commands.push(Vec::new());
            }
            '<' | '>' => {
                // The number before it is its descriptor.
                if word
                    .as_ref()
                    .is_some_and(|it| it.chars().all(|it| it.is_ascii_digit()))
                {
                    word = None;
                }
                end(&mut word, &mut commands, &mut is_redirection);
                is_redirection = true;
            }
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                for quoted in characters.by_ref().take_while(|&it| it != character) {
                    word.push(quoted);
                }
            }
            '$' if characters.next_if_eq(&'(').is_some() => {
                let mut depth = 1;
                let mut within = String::new();
                for character in characters.by_ref() {
                    depth += i32::from(character == '(') - i32::from(character == ')');
                    if depth == 0 {
                        break;
                    }
                    within.push(character);
                }
                inner.extend(words(&within));
                word.get_or_insert_default().push('1');
            }
            '$' => {
                if characters.next_if(|it| "$!?".contains(*it)).is_none() {
                    while characters
                        .next_if(|it| it.is_alphanumeric() || *it == '_')
                        .is_some()
                    {}
                }
                word.get_or_insert_default().push('1');
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    end(&mut word, &mut commands, &mut is_redirection);
    commands.extend(inner);
    commands.retain(|words| !words.is_empty());
    commands
}

/// Returns the numbered lines of a document outside of blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_block = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
            return None;
        }
        (!is_block).then_some((at + 1, line))
    })
}

/// Returns the text in backquotes within a line.
fn spans(text: &str) -> Vec<(usize, String)> {
    let spans = |(at, line): (usize, &str)| -> Vec<(usize, String)> {
        let spans = line.split('`').skip(1).step_by(2);
        spans.map(|span| (at, span.to_owned())).collect()
    };
    prose(text).flat_map(spans).collect()
}

/// Returns the targets of a document's links.
fn links(text: &str) -> Vec<(usize, String)> {
    let links = |(at, line): (usize, &str)| -> Vec<(usize, String)> {
        let targets = line.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| (at, target.to_owned())).collect()
    };
    prose(text).flat_map(links).collect()
}

/// Returns the anchors of a document's headings, as the repository's host generates them.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then_some(title.trim())
    });
    let anchor = |title: &str| {
        let kept = title.to_lowercase().replace(' ', "-");
        kept.chars()
            .filter(|it| it.is_alphanumeric() || "-_".contains(*it))
            .collect()
    };
    headings.map(anchor).collect()
}
