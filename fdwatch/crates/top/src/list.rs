//! Lists of which a part is seen and one entry is chosen, the columns that processes are sorted by, and
//! what a filter lets through.

use std::cmp::Ordering;

use super::data::Row;

/// What is seen of a list, and what is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scroll {
    pub(super) chosen: usize,
    pub(super) offset: usize,
}

impl Scroll {
    /// Chooses what is so much further on.
    pub(super) fn by(&mut self, steps: isize) {
        self.chosen = self.chosen.saturating_add_signed(steps);
    }

    /// Brings it within a list of `len` of which `height` are seen.
    pub(super) fn settle(&mut self, len: usize, height: usize) {
        self.chosen = self.chosen.min(len.saturating_sub(1));
        let height = height.max(1);
        self.offset = self
            .offset
            .min(self.chosen)
            .max((self.chosen + 1).saturating_sub(height))
            .min(len.saturating_sub(height));
    }

    /// The same of a text, of which nothing is chosen: `chosen` is its first line.
    pub(super) fn settle_text(&mut self, len: usize, height: usize) {
        self.chosen = self.chosen.min(len.saturating_sub(height));
        self.offset = self.chosen;
    }
}

/// A column of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The number.
    Pid,
    /// The user.
    User,
    /// How many descriptors it has.
    Descriptors,
    /// Of how many it may have.
    Limit,
    /// Duplicates.
    Duplicates,
    /// How many more in an hour.
    Growth,
    /// How many there were.
    Curve,
    /// The name.
    Name,
    /// The unit.
    Unit,
}

impl Column {
    /// Those that can be sorted by.
    pub const SORTED: [Self; 8] = [
        Self::Pid,
        Self::User,
        Self::Descriptors,
        Self::Limit,
        Self::Duplicates,
        Self::Growth,
        Self::Name,
        Self::Unit,
    ];

    /// Its title.
    #[must_use]
    pub const fn title(self) -> &'static str {
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

    /// What it is, for those who choose one, and the key that sorts by it.
    #[must_use]
    pub const fn words(self) -> (&'static str, char) {
        match self {
            Self::Pid => ("process number", 'N'),
            Self::User => ("user", 'U'),
            Self::Descriptors => ("descriptors", 'P'),
            Self::Limit => ("share of the limit", 'M'),
            Self::Duplicates => ("duplicates", 'D'),
            Self::Growth => ("growth per hour", 'G'),
            Self::Curve => ("the last five minutes", ' '),
            Self::Name => ("name", 'C'),
            Self::Unit => ("unit", 'S'),
        }
    }

    /// Whether the most stands first where nothing else is asked for.
    pub(super) const fn is_most_first(self) -> bool {
        matches!(
            self,
            Self::Descriptors | Self::Limit | Self::Duplicates | Self::Growth | Self::Curve
        )
    }

    /// The order of two processes by it, the least first.
    pub(super) fn compare(self, one: &Row, other: &Row) -> Ordering {
        match self {
            Self::Pid => one.pid.cmp(&other.pid),
            Self::User => one.user.cmp(&other.user),
            Self::Descriptors | Self::Curve => one.descriptors.cmp(&other.descriptors),
            Self::Limit => {
                // By the share itself, for percents have many at one.
                let share = |row: &Row| u128::from(row.descriptors);
                let most = |row: &Row| u128::from(row.limit.unwrap_or(u64::MAX).max(1));
                (share(one) * most(other)).cmp(&(share(other) * most(one)))
            }
            Self::Duplicates => one.duplicates.cmp(&other.duplicates),
            Self::Growth => one.per_hour().cmp(&other.per_hour()),
            Self::Name => one.comm.cmp(&other.comm),
            Self::Unit => one.unit.cmp(&other.unit),
        }
    }

    /// Where the columns stand on a screen of this width: each with where it begins and how wide it is.
    pub(super) fn places(width: u16) -> Vec<(Self, u16, u16)> {
        use Column as C;
        // The last takes what is left.
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
        let mut places = Vec::new();
        for &(column, wide) in widths {
            let wide = if wide == 0 {
                width.saturating_sub(x)
            } else {
                wide.min(width.saturating_sub(x))
            };
            places.push((column, x, wide));
            x += wide + 1;
        }
        places
    }
}

/// Whether a filter's text, in small letters, is in one of the texts.
pub(super) fn lets_through(filter: &str, texts: &[&str]) -> bool {
    filter.is_empty()
        || texts
            .iter()
            .any(|text| text.to_lowercase().contains(filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_seen() {
        for len in 0..20 {
            for height in 0..8 {
                for chosen in 0..25 {
                    let mut scroll = Scroll { chosen, offset: 7 };
                    scroll.settle(len, height);
                    assert!(scroll.chosen < len.max(1));
                    assert!(scroll.offset <= scroll.chosen);
                    assert!(scroll.chosen < scroll.offset + height.max(1));
                }
            }
        }
    }

    #[test]
    fn columns_are_within_the_screen() {
        for width in 0..300 {
            for (_, x, wide) in Column::places(width) {
                assert!(wide == 0 || x + wide <= width, "{width}: {x} {wide}");
            }
        }
    }

    #[test]
    fn a_share_without_a_limit_is_the_least() {
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
