//! How many descriptors a table has, by type and by origin.

use std::collections::BTreeMap;

use super::origin;
use crate::model::Table;

/// A count of descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All of them.
    pub open: usize,
    /// By the file's type.
    pub by_type: BTreeMap<&'static str, usize>,
    /// By how they came to be in the table.
    pub by_origin: BTreeMap<&'static str, usize>,
}

impl Census {
    /// Counts a table's.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let mut census = Self {
            open: table.len(),
            ..Self::default()
        };
        for (_, slot) in table.iter() {
            *census.by_type.entry(slot.file_type().name()).or_default() += 1;
            let origin = origin(slot, table.provenance(slot));
            *census.by_origin.entry(origin).or_default() += 1;
        }
        census
    }
}
