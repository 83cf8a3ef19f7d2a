//! Scrolling and selection in lists, columns of processes, and filters.

use std::cmp::Ordering;

use super::data::Row;

/// Selected entry of a list, and the first that is visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scroll {
    pub(super) selected: usize,
    pub(super) offset: usize,
}

impl Scroll {
    /// Moves the selection by this many entries.
    pub(super) fn by(&mut self, steps: isize) {
        self.selected = self.selected.saturating_add_signed(steps);
    }

    /// Limits it to a list of `len` entries, and scrolls the selection into `height` visible lines.
    pub(super) fn clamp(&mut self, len: usize, height: usize) {
        self.selected = self.selected.min(len.saturating_sub(1));
        let height = height.max(1);
        self.offset = self
            .offset
            .min(self.selected)
            .max((self.selected + 1).saturating_sub(height))
            .min(len.saturating_sub(height));
    }

    /// Limits it to a text, in which `selected` is the first visible line.
    pub(super) fn clamp_text(&mut self, len: usize, height: usize) {
        self.selected = self.selected.min(len.saturating_sub(height));
        self.offset = self.selected;
    }
}

/// Column of the list of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// PID.
    Pid,
    /// User.
    User,
    /// Number of descriptors.
    Descriptors,
    /// Share of `RLIMIT_NOFILE`.
    Limit,
    /// Number of duplicate descriptors.
    Duplicates,
    /// Growth per hour.
    Growth,
    /// Curve of the last five minutes.
    Curve,
    /// Name.
    Name,
    /// Unit.
    Unit,
}

impl Column {
    /// Columns that can be sorted by.
    pub(crate) const SORTABLE: [Self; 8] = [
        Self::Pid,
        Self::User,
        Self::Descriptors,
        Self::Limit,
        Self::Duplicates,
        Self::Growth,
        Self::Name,
        Self::Unit,
    ];

    /// Returns the title.
    #[must_use]
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::User => "USER",
            Self::Descriptors => "FDS",
            Self::Limit => "LIMIT",
            Self::Duplicates => "DUP",
            Self::Growth => "+/H",
            Self::Curve => "5 MIN",
            Self::Name => "NAME",
            Self::Unit => "UNIT",
        }
    }

    /// Returns a description, and the key that sorts by the column.
    #[must_use]
    pub(crate) const fn description(self) -> (&'static str, char) {
        match self {
            Self::Pid => ("process ID", 'N'),
            Self::User => ("user", 'U'),
            Self::Descriptors => ("descriptors", 'P'),
            Self::Limit => ("use of the limit", 'M'),
            Self::Duplicates => ("duplicates", 'D'),
            Self::Growth => ("growth per hour", 'G'),
            Self::Curve => ("last 5 minutes", ' '),
            Self::Name => ("name", 'C'),
            Self::Unit => ("unit", 'S'),
        }
    }

    /// Returns whether the default order is descending.
    pub(super) const fn is_descending(self) -> bool {
        matches!(
            self,
            Self::Descriptors | Self::Limit | Self::Duplicates | Self::Growth | Self::Curve
        )
    }

    /// Compares two processes by the column, ascending.
    pub(super) fn compare(self, one: &Row, other: &Row) -> Ordering {
        match self {
            Self::Pid => one.pid.cmp(&other.pid),
            Self::User => one.user.cmp(&other.user),
            Self::Descriptors | Self::Curve => one.descriptors.cmp(&other.descriptors),
            Self::Limit => {
                // By the exact share: many have the same percentage.
                let open = |row: &Row| u128::from(row.descriptors);
                let limit = |row: &Row| u128::from(row.limit.unwrap_or(u64::MAX).max(1));
                (open(one) * limit(other)).cmp(&(open(other) * limit(one)))
            }
            Self::Duplicates => one.duplicates.cmp(&other.duplicates),
            Self::Growth => one.per_hour().cmp(&other.per_hour()),
            Self::Name => one.comm.cmp(&other.comm),
            Self::Unit => one.unit.cmp(&other.unit),
        }
    }

    /// Returns the columns of a screen of this width, each with its start and width.
    pub(super) fn layout(width: u16) -> Vec<(Self, u16, u16)> {
        use Column as C;
        // The last takes the remaining width.
        let widths: &[(Self, u16)] = match width {
            112.. => &[
                (C::Pid, 7),
                (C::User, 10),
                (C::Descriptors, 8),
                (C::Limit, 16),
                (C::Duplicates, 6),
                (C::Growth, 9),
                (C::Curve, 16),
                (C::Name, 18),
                (C::Unit, 0),
            ],
            70.. => &[
                (C::Pid, 7),
                (C::User, 8),
                (C::Descriptors, 7),
                (C::Limit, 10),
                (C::Duplicates, 5),
                (C::Growth, 7),
                (C::Curve, 8),
                (C::Name, 0),
            ],
            _ => &[
                (C::Pid, 7),
                (C::Descriptors, 6),
                (C::Limit, 5),
                (C::Duplicates, 4),
                (C::Name, 0),
            ],
        };
        let mut x = 0;
        let mut layout = Vec::new();
        for &(column, wide) in widths {
            let wide = if wide == 0 {
                width.saturating_sub(x)
            } else {
                wide.min(width.saturating_sub(x))
            };
            layout.push((column, x, wide));
            x += wide + 1;
        }
        layout
    }
}

/// Returns whether one of the texts contains the filter, which is in lower case. Case is ignored.
pub(super) fn matches(filter: &str, texts: &[&str]) -> bool {
    filter.is_empty()
        || texts
            .iter()
            .any(|text| text.to_lowercase().contains(filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_is_visible() {
        for len in 0..20 {
            for height in 0..8 {
                for selected in 0..25 {
                    let mut scroll = Scroll {
                        selected,
                        offset: 7,
                    };
                    scroll.clamp(len, height);
                    assert!(scroll.selected < len.max(1));
                    assert!(scroll.offset <= scroll.selected);
                    assert!(scroll.selected < scroll.offset + height.max(1));
                }
            }
        }
    }

    #[test]
    fn columns_fit_the_screen() {
        for width in 0..300 {
            for (_, x, wide) in Column::layout(width) {
                assert!(wide == 0 || x + wide <= width, "{width}: {x} {wide}");
            }
        }
    }

    #[test]
    fn process_without_limit_sorts_first() {
        let row = |descriptors, limit| Row {
            descriptors,
            limit,
            ..Row::default()
        };
        let compare = |one: &Row, other: &Row| Column::Limit.compare(one, other);
        assert_eq!(compare(&row(9, None), &row(1, Some(1024))), Ordering::Less);
        assert_eq!(
            compare(&row(9, Some(9)), &row(9, Some(10))),
            Ordering::Greater
        );
    }
}
