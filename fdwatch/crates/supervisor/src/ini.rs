//! The dialect of supervisord's configuration: that of Python's `RawConfigParser` with `strict=False`
//! and inline comments after `;` and `#`, which supervisord reads its files with (configparser.py of
//! CPython 3.11, `UnhosedConfigParser` in supervisor/options.py).
//!
//! What keys mean is not known here. No published reader does: rust-ini, configparser and their like
//! neither tell the line of a key nor know continuation lines and comments as Python has them.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// A line of one of the files that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which file, as an index of those that were read.
    pub file: usize,
    /// Which line, from 1.
    pub line: usize,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// Where.
    pub at: Place,
    /// What.
    pub reason: String,
}

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value, of all its lines.
    pub value: String,
    /// Where the key is.
    pub at: Place,
}

/// A section: all of that name, in all files, are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name, as it is between the brackets.
    pub name: String,
    /// Where it is first.
    pub at: Place,
    /// The keys, in lower case. The last of several of one name holds.
    pub entries: BTreeMap<String, Entry>,
}

/// All that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// What stands in `[DEFAULT]`: keys of all sections that do not have them.
    defaults: BTreeMap<String, Entry>,
    sections: Vec<Section>,
    by_name: FxHashMap<String, usize>,
}

/// Which section lines belong to.
#[derive(Clone, Copy)]
enum Current {
    None,
    Defaults,
    Section(usize),
}

impl Document {
    /// The sections, in the order they were first met.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(*self.by_name.get(name)?)
    }

    /// What a section says of a key, or the defaults do.
    #[must_use]
    pub fn get<'a>(&'a self, section: &'a Section, key: &str) -> Option<&'a Entry> {
        let entry = section.entries.get(key);
        entry.or_else(|| self.defaults.get(key))
    }

    /// Puts `here` in the place of `%(here)s`, as supervisord does after it has read a file: for good,
    /// so that what is read next has its own.
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

    /// Reads one more file.
    ///
    /// # Errors
    ///
    /// What is wrong with it. As in Python, one line without a section ends the reading, and lines
    /// that are no keys are all told.
    pub fn read(&mut self, text: &str, file: usize) -> Result<(), Vec<Fault>> {
        let mut reader = Reader {
            document: self,
            current: Current::None,
            key: None,
            value: String::new(),
            key_at: Place { file, line: 0 },
            indent: 0,
            faults: Vec::new(),
        };
        let unified = text.replace("\r\n", "\n").replace('\r', "\n");
        for (index, line) in unified.split('\n').enumerate() {
            let at = Place {
                file,
                line: index + 1,
            };
            if !reader.line(line, at) {
                break;
            }
        }
        reader.end_value();
        let faults = reader.faults;
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    fn open(&mut self, name: &str, at: Place) -> Current {
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

/// The state between lines.
struct Reader<'a> {
    document: &'a mut Document,
    current: Current,
    /// The key that the next line may go on with, and what it has so far.
    key: Option<String>,
    value: String,
    key_at: Place,
    indent: usize,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// Whether there is any sense in going on.
    fn line(&mut self, line: &str, at: Place) -> bool {
        let comment = comment(line);
        let value = trim(&line[..comment.unwrap_or(line.len())]);
        if value.is_empty() {
            // An empty line is part of a value, unless it is the last; a comment is not.
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
            self.fault(
                at,
                format!("there is no [section] before this line: {shown:?}{bom}"),
            );
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
                    format!("neither a [section] nor `key = value`: {shown:?}"),
                );
            }
        }
        true
    }

    fn fault(&mut self, at: Place, reason: String) {
        self.faults.push(Fault { at, reason });
    }

    fn end_value(&mut self) {
        let Some(key) = self.key.take() else { return };
        let value = self.value.trim_end_matches(is_space).to_owned();
        let at = self.key_at;
        self.document.put(self.current, key, Entry { value, at });
    }
}

/// Where the comment begins, if there is one.
///
/// Python looks for the first `;`, then the first `#`, then the second of each, and so on, and takes
/// the first round in which one has white space before it: `a;b ;c #d` has its comment at `#`.
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

/// The name between the first bracket, which the line begins with, and the last.
fn header(value: &str) -> Option<&str> {
    let (name, _) = value.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// What Python takes for white space.
pub(super) const fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.strip` of Python.
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

    /// The values of `[s]`, as Python gives them.
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

    // What configparser of CPython 3.11 with supervisord's options says of each.
    #[test]
    fn comments_are_where_python_sees_them() {
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
    fn values_go_on_while_they_are_indented() {
        assert_eq!(value("a=1\n 2\n\n 3\n\n"), "1\n2\n\n3");
        assert_eq!(value("a=\n [x]\n b=c\n"), "\n[x]\nb=c");
        assert_eq!(values("[s]\n a=1\n b=2\n").len(), 2);
        // A section cannot begin with one.
        assert_eq!(values("[s]\n  a=1").len(), 1);
    }

    #[test]
    fn sections_and_keys_may_come_again() {
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
    fn defaults_are_of_all_sections() {
        let document = read("[DEFAULT]\na=1\nb=1\n[s]\nb=2\n");
        let s = document.section("s").unwrap();
        assert_eq!(document.get(s, "a").unwrap().value, "1");
        assert_eq!(document.get(s, "b").unwrap().value, "2");
        assert_eq!(document.sections().len(), 1);
    }

    #[test]
    fn here_is_that_of_each_file() {
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
    fn what_is_broken_is_told_by_line() {
        let told = faults("\n; x\na=1\n[s]\n");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, 3);
        assert!(told[0].1.contains("no [section]"), "{told:?}");
        let told = faults("[s]\nwhat\na=1\n=2\n");
        assert_eq!(told.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 4]);
        assert!(faults("\u{feff}[s]\n")[0].1.contains("byte order mark"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_told(text in "[\\[\\]a-b=:;# \t\r\n%()]{0,80}") {
            let mut document = Document::default();
            let lines = text.split(['\r', '\n']).count();
            if let Err(faults) = document.read(&text, 0) {
                prop_assert!(faults.iter().all(|fault| fault.at.line <= lines));
            }
            document.expand_here("/");
        }

        #[test]
        fn any_bytes_are_read_or_told(bytes: Vec<u8>) {
            let _ = Document::default().read(&String::from_utf8_lossy(&bytes), 0);
        }
    }
}
