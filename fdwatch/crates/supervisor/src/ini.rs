//! The syntax of supervisord's configuration: Python's `RawConfigParser` with `strict=False` and inline
//! comments after `;` and `#` (configparser.py of CPython 3.11, `UnhosedConfigParser` in
//! supervisor/options.py).
//!
//! Published parsers such as rust-ini and configparser neither report the line of a key nor treat
//! continuation lines and comments as Python does.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// A line of one of the files read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file, as an index into the list of files read.
    pub file: usize,
    /// The line, from 1.
    pub line: usize,
}

/// An error that prevents supervisord from starting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// Line of the error.
    pub at: Location,
    /// Description of the error.
    pub reason: String,
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; lines are separated by `\n`.
    pub value: String,
    /// Line of the key.
    pub at: Location,
}

/// A section: the union of all sections of that name in all files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name between the brackets.
    pub name: String,
    /// Line where the name first occurs.
    pub at: Location,
    /// The entries by key, in lower case. The last entry of a key wins.
    pub entries: BTreeMap<String, Entry>,
}

/// The sections of all files read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The entries of `[DEFAULT]`, which apply to sections without these keys.
    defaults: BTreeMap<String, Entry>,
    sections: Vec<Section>,
    by_name: FxHashMap<String, usize>,
}

/// The section that the next lines belong to.
#[derive(Clone, Copy)]
enum Current {
    None,
    Defaults,
    Section(usize),
}

impl Document {
    /// Returns the sections, in the order of their first occurrence.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Returns the section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(*self.by_name.get(name)?)
    }

    /// Returns the entry of a key in a section, or in the defaults.
    #[must_use]
    pub fn get<'a>(&'a self, section: &'a Section, key: &str) -> Option<&'a Entry> {
        let entry = section.entries.get(key);
        entry.or_else(|| self.defaults.get(key))
    }

    /// Replaces `%(here)s` by `here`, as supervisord does after each file; so entries of the next file
    /// get their own directory.
    pub fn expand_here(&mut self, here: &str) {
        const HERE: &str = "%(here)s";
        for section in &mut self.sections {
            for (key, entry) in &self.defaults {
                if entry.value.contains(HERE) && !section.entries.contains_key(key) {
                    section.entries.insert(key.clone(), entry.clone());
                }
            }
            for entry in section.entries.values_mut() {
                if entry.value.contains(HERE) {
                    entry.value = entry.value.replace(HERE, here);
                }
            }
        }
    }

    /// Reads another file.
    ///
    /// # Errors
    ///
    /// The syntax errors. As in Python, a line before the first section ends reading, and all lines
    /// without a key are reported.
    pub fn read(&mut self, text: &str, file: usize) -> Result<(), Vec<Fault>> {
        let mut parser = Parser {
            document: self,
            current: Current::None,
            key: None,
            value: String::new(),
            key_at: Location { file, line: 0 },
            indent: 0,
            faults: Vec::new(),
        };
        let unified = text.replace("\r\n", "\n").replace('\r', "\n");
        for (index, line) in unified.split('\n').enumerate() {
            let at = Location {
                file,
                line: index + 1,
            };
            if !parser.line(line, at) {
                break;
            }
        }
        parser.end_value();
        let faults = parser.faults;
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    fn open(&mut self, name: &str, at: Location) -> Current {
        if let Some(&index) = self.by_name.get(name) {
            return Current::Section(index);
        }
        if name == "DEFAULT" {
            return Current::Defaults;
        }
        self.sections.push(Section {
            name: name.to_owned(),
            at,
            entries: BTreeMap::new(),
        });
        let index = self.sections.len() - 1;
        self.by_name.insert(name.to_owned(), index);
        Current::Section(index)
    }

    fn put(&mut self, current: Current, key: String, entry: Entry) {
        match current {
            Current::None => {}
            Current::Defaults => {
                self.defaults.insert(key, entry);
            }
            Current::Section(index) => {
                if let Some(section) = self.sections.get_mut(index) {
                    section.entries.insert(key, entry);
                }
            }
        }
    }
}

/// The state of the parser between lines.
struct Parser<'a> {
    document: &'a mut Document,
    current: Current,
    /// The key that the next line may continue, and its value so far.
    key: Option<String>,
    value: String,
    key_at: Location,
    indent: usize,
    faults: Vec<Fault>,
}

impl Parser<'_> {
    /// Parses a line; returns whether reading can continue.
    fn line(&mut self, line: &str, at: Location) -> bool {
        let comment = comment(line);
        let value = trim(&line[..comment.unwrap_or(line.len())]);
        if value.is_empty() {
            // An empty line is part of a value, unless it is the last; a comment is not part of it.
            if comment.is_none() && self.key.is_some() {
                self.value.push('\n');
            }
            return true;
        }
        let indent = line.chars().take_while(|&c| is_space(c)).count();
        if self.key.is_some() && indent > self.indent {
            self.value.push('\n');
            self.value.push_str(value);
            return true;
        }
        self.end_value();
        self.indent = indent;
        if let Some(name) = header(value) {
            self.current = self.document.open(name, at);
            return true;
        }
        if matches!(self.current, Current::None) {
            let shown: String = line.chars().take(80).collect();
            let bom = if shown.starts_with('\u{feff}') {
                ": the file begins with a byte order mark, which supervisord does not skip"
            } else {
                ""
            };
            self.fault(at, format!("no [section] before this line: {shown:?}{bom}"));
            return false;
        }
        match value.split_once(['=', ':']) {
            Some((key, first)) if !trim(key).is_empty() => {
                self.key = Some(trim(key).to_lowercase());
                self.value = trim(first).to_owned();
                self.key_at = at;
            }
            _ => {
                let shown: String = value.chars().take(80).collect();
                self.fault(
                    at,
                    format!("expected [section] or `key = value`: {shown:?}"),
                );
            }
        }
        true
    }

    fn fault(&mut self, at: Location, reason: String) {
        self.faults.push(Fault { at, reason });
    }

    fn end_value(&mut self) {
        let Some(key) = self.key.take() else { return };
        let value = self.value.trim_end_matches(is_space).to_owned();
        let at = self.key_at;
        self.document.put(self.current, key, Entry { value, at });
    }
}

/// Returns the offset of the comment, if there is one.
///
/// Python looks at the first `;` and the first `#`, then at the second of each, and so on, until one of
/// them follows white space: `a;b ;c #d` has its comment at `#`.
fn comment(line: &str) -> Option<usize> {
    if trim(line).starts_with(['#', ';']) {
        return Some(0);
    }
    let mut marks: Vec<_> = [';', '#'].map(|mark| line.match_indices(mark)).into();
    while !marks.is_empty() {
        let mut first = None;
        marks.retain_mut(|mark| {
            let Some((index, _)) = mark.next() else {
                return false;
            };
            if line[..index].chars().next_back().is_none_or(is_space) {
                first = Some(first.map_or(index, |first: usize| first.min(index)));
            }
            true
        });
        if first.is_some() {
            return first;
        }
    }
    None
}

/// Returns the name between the first bracket, at the start of the line, and the last.
fn header(value: &str) -> Option<&str> {
    let (name, _) = value.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// Returns whether Python treats a character as white space.
pub(super) const fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Trims white space like Python's `str.strip`.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Document {
        let mut document = Document::default();
        document.read(text, 0).unwrap();
        document
    }

    fn faults(text: &str) -> Vec<(usize, String)> {
        let faults = Document::default().read(text, 0).unwrap_err();
        faults
            .into_iter()
            .map(|fault| (fault.at.line, fault.reason))
            .collect()
    }

    /// The keys, values and lines of `[s]`.
    fn values(text: &str) -> Vec<(String, String, usize)> {
        let document = read(text);
        let entries = document.section("s").unwrap().entries.iter();
        entries
            .map(|(key, entry)| (key.clone(), entry.value.clone(), entry.at.line))
            .collect()
    }

    fn value(text: &str) -> String {
        values(&format!("[s]\n{text}"))[0].1.clone()
    }

    #[test]
    fn keys_have_values_and_lines() {
        assert_eq!(
            values("[s]\na=1\nB : 2\n\n c d = e = f\n"),
            [
                ("a".to_owned(), "1".to_owned(), 2),
                ("b".to_owned(), "2\n\nc d = e = f".to_owned(), 3),
            ]
        );
        assert_eq!(value("a:b=c"), "b=c");
        assert_eq!(value("a="), "");
        assert_eq!(value("  a=1\r\n"), "1");
    }

    // Results of configparser of CPython 3.11 with supervisord's options.
    #[test]
    fn comments_match_python() {
        assert_eq!(value("a=1 ; no"), "1");
        assert_eq!(value("a=1 # no"), "1");
        assert_eq!(value("a=1;yes"), "1;yes");
        assert_eq!(value("a=x;y ;z #w"), "x;y ;z");
        assert_eq!(value("a=http://x/#y"), "http://x/#y");
        assert_eq!(value("; no\na=1"), "1");
        assert_eq!(value("a=1\n  # no\n  2"), "1\n2");
        assert_eq!(value("a=;no"), ";no");
        assert_eq!(value("a= ;no"), "");
    }

    #[test]
    fn indented_lines_continue_values() {
        assert_eq!(value("a=1\n 2\n\n 3\n\n"), "1\n2\n\n3");
        assert_eq!(value("a=\n [x]\n b=c\n"), "\n[x]\nb=c");
        assert_eq!(values("[s]\n a=1\n b=2\n").len(), 2);
        // There is no value to continue at the start of a section.
        assert_eq!(values("[s]\n  a=1").len(), 1);
    }

    #[test]
    fn repeated_sections_merge_and_last_key_wins() {
        let document = read("[s]\na=1\nb=1\n[t]\n[s]\na=2\n");
        let names: Vec<_> = document.sections().iter().map(|s| &s.name).collect();
        assert_eq!(names, ["s", "t"]);
        let s = document.section("s").unwrap();
        assert_eq!(document.get(s, "a").unwrap().value, "2");
        assert_eq!(document.get(s, "a").unwrap().at.line, 6);
        assert_eq!(document.get(s, "b").unwrap().value, "1");
        assert_eq!(read("[a] b]c\n").sections()[0].name, "a] b");
    }

    #[test]
    fn defaults_apply_to_all_sections() {
        let document = read("[DEFAULT]\na=1\nb=1\n[s]\nb=2\n");
        let s = document.section("s").unwrap();
        assert_eq!(document.get(s, "a").unwrap().value, "1");
        assert_eq!(document.get(s, "b").unwrap().value, "2");
        assert_eq!(document.sections().len(), 1);
    }

    #[test]
    fn here_is_expanded_per_file() {
        let mut document = read("[DEFAULT]\nd=%(here)s/d\n[s]\na=%(here)s/a\n");
        document.expand_here("/one");
        document.read("[t]\na=%(here)s/a", 1).unwrap();
        document.expand_here("/two");
        let get = |section, key| {
            let section = document.section(section).unwrap();
            document.get(section, key).unwrap().value.clone()
        };
        assert_eq!(get("s", "a"), "/one/a");
        assert_eq!(get("s", "d"), "/one/d");
        assert_eq!(get("t", "a"), "/two/a");
        assert_eq!(get("t", "d"), "/two/d");
    }

    #[test]
    fn syntax_errors_have_lines() {
        let early = faults("\n; x\na=1\n[s]\n");
        assert_eq!(early.len(), 1);
        assert_eq!(early[0].0, 3);
        assert!(early[0].1.contains("no [section]"), "{early:?}");
        let lines = faults("[s]\nwhat\na=1\n=2\n").into_iter();
        assert_eq!(lines.map(|fault| fault.0).collect::<Vec<_>>(), [2, 4]);
        assert!(faults("\u{feff}[s]\n")[0].1.contains("byte order mark"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_read_or_rejected(text in "[\\[\\]a-b=:;# \t\r\n%()]{0,80}") {
            let mut document = Document::default();
            let lines = text.split(['\r', '\n']).count();
            if let Err(faults) = document.read(&text, 0) {
                prop_assert!(faults.iter().all(|fault| fault.at.line <= lines));
            }
            document.expand_here("/");
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Document::default().read(&String::from_utf8_lossy(&bytes), 0);
        }
    }
}
