//! The state of reading a configuration: values are expanded and checked, errors and warnings are
//! collected.

use crate::{
    config::{Config, Setting, Warning, WarningKind},
    expand::{ExpandError, Names, Value, expand},
    host::Host,
    ini::{Entry, Fault, Location, Section},
    keys::SectionKind,
    values::{self, ValueKind},
};

/// A configuration that is being read.
pub(super) struct Reader<'a> {
    pub(super) config: Config,
    pub(super) host: &'a dyn Host,
    /// `ENV_X` for each variable X of supervisord's environment, and then for those it sets itself.
    pub(super) environment: Names,
}

impl Reader<'_> {
    pub(super) fn fault(&mut self, at: Location, reason: String) {
        self.config.faults.push(Fault { at, reason });
    }

    pub(super) fn warn(&mut self, at: Location, kind: WarningKind) {
        self.config.warnings.push(Warning { at, kind });
    }

    /// Returns the names that are defined everywhere.
    pub(super) fn names(&self) -> Names {
        let mut names = self.environment.clone();
        let here = Value::Text(self.config.here.clone());
        names.insert("here".to_owned(), here);
        names
    }

    /// Expands a value. If that fails, reports a fault and returns `None`.
    pub(super) fn expanded(&mut self, key: &str, entry: &Entry, names: &Names) -> Option<String> {
        match expand(&entry.value, names) {
            Ok(text) => Some(text),
            Err(error) => {
                let hint = match &error {
                    ExpandError::Unknown(name) if name.starts_with("ENV_") => {
                        " (not in the environment of fdwatch, which is assumed to be supervisord's)"
                    }
                    _ => "",
                };
                self.fault(entry.at, format!("{key}: {error}{hint}"));
                None
            }
        }
    }

    /// Returns a key's value, expanded and checked; `None` if the key is missing, or if the value is invalid, which
    /// is reported as a fault.
    pub(super) fn get(
        &mut self,
        section: &Section,
        key: &str,
        names: &Names,
    ) -> Option<Setting<String>> {
        let entry = self.config.document.get(section, key)?.clone();
        let value = self.expanded(key, &entry, names)?;
        let kinds = SectionKind::of(&section.name).keys();
        let kind = kinds.and_then(|mut kinds| kinds.find(|&(known, _)| known == key));
        if let Err(error) = values::check(kind.map_or(ValueKind::Text, |kind| kind.1), &value) {
            self.fault(entry.at, format!("{key}: {error}"));
            return None;
        }
        let at = Some(entry.at);
        Some(Setting { value, at })
    }

    /// Returns a key's value like [`Self::get`], converted; `default` if there is none.
    pub(super) fn get_as<T, E>(
        &mut self,
        (section, key): (&Section, &str),
        names: &Names,
        convert: impl Fn(&str) -> Result<T, E>,
        default: T,
    ) -> Setting<T> {
        let setting = self.get(section, key, names);
        // `get` has reported a value that cannot be converted.
        let converted = setting.and_then(|setting| {
            let value = convert(&setting.value).ok()?;
            let at = setting.at;
            Some(Setting { value, at })
        });
        converted.unwrap_or(Setting {
            value: default,
            at: None,
        })
    }
}
