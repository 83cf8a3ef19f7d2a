//! Descriptor counts of a table, by type and by origin.

use std::collections::BTreeMap;

use super::origin::origin;
use crate::model::Table;

/// Counts of open descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All open descriptors.
    pub open: usize,
    /// By file type.
    pub by_type: BTreeMap<&'static str, usize>,
    /// By origin.
    pub by_origin: BTreeMap<&'static str, usize>,
}

impl Census {
    /// Counts the descriptors of a table.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let mut census = Self {
            open: table.len(),
            ..Self::default()
        };
        for (_, entry) in table.iter() {
            *census.by_type.entry(entry.file_type().name()).or_default() += 1;
            let origin = origin(entry, table.provenance(entry));
            *census.by_origin.entry(origin).or_default() += 1;
        }
        census
    }
}
