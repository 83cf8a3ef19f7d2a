//! Where everything stands on a screen of some size: the same for those who draw it and for those who
//! tell what was clicked on.

use ratatui::layout::Rect;

/// A smaller screen shows that it is too small, and nothing else.
pub(super) const MIN: (u16, u16) = (40, 10);

/// Lines of the curve of a process.
const CURVE: u16 = 3;

/// The parts of the screen; those that are not shown have no height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) is_too_small: bool,
    pub(super) header: Rect,
    /// Of a process: who it is.
    pub(super) name: Rect,
    /// Of a process: its curve.
    pub(super) curve: Rect,
    /// The title of the processes, or of one's descriptors.
    pub(super) main_title: Rect,
    pub(super) main: Rect,
    /// The title of the findings, or of a process's story.
    pub(super) other_title: Rect,
    pub(super) other: Rect,
    pub(super) footer: Rect,
}

/// What there is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) is_process: bool,
    /// The second of the two panes is wanted.
    pub(super) has_other: bool,
    /// And it is the one that keys go to.
    pub(super) is_other: bool,
}

impl Places {
    pub(super) fn of((width, height): (u16, u16), wanted: Wanted) -> Self {
        let (least_width, least_height) = MIN;
        if width < least_width || height < least_height {
            return Self {
                is_too_small: true,
                ..Self::default()
            };
        }
        let mut y = 0;
        let mut take = |lines: u16| {
            let taken = Rect::new(0, y, width, lines);
            y += lines;
            taken
        };
        let header = take(2);
        let mut left = height - 3;
        let (mut name, mut curve) = (Rect::default(), Rect::default());
        if wanted.is_process {
            name = take(1);
            left -= 1;
            if left >= 14 {
                curve = take(CURVE);
                left -= CURVE;
            }
        }
        let (main, other) = match (wanted.has_other, wanted.is_other) {
            (false, _) => (left, 0),
            // There is no room for both.
            (true, is_other) if left < 10 => {
                if is_other {
                    (0, left)
                } else {
                    (left, 0)
                }
            }
            (true, _) if wanted.is_process => (left - left / 2, left / 2),
            (true, _) => {
                let other = (left / 3).min(14);
                (left - other, other)
            }
        };
        let main_title = take(main.min(1));
        let main = take(main.saturating_sub(1));
        let other_title = take(other.min(1));
        let other = take(other.saturating_sub(1));
        let footer = take(1);
        Self {
            is_too_small: false,
            header,
            name,
            curve,
            main_title,
            main,
            other_title,
            other,
            footer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_within_the_screen_and_none_over_another() {
        for height in 0..60 {
            for number in 0..8 {
                let wanted = Wanted {
                    is_process: number & 1 != 0,
                    has_other: number & 2 != 0,
                    is_other: number & 4 != 0,
                };
                let places = Places::of((50, height), wanted);
                if places.is_too_small {
                    assert!(height < MIN.1);
                    continue;
                }
                let Places {
                    header,
                    name,
                    curve,
                    main_title,
                    main,
                    other_title,
                    other,
                    footer,
                    ..
                } = places;
                let parts = [
                    header,
                    name,
                    curve,
                    main_title,
                    main,
                    other_title,
                    other,
                    footer,
                ];
                let all: u16 = parts.iter().map(|part| part.height).sum();
                assert_eq!(all, height, "{places:?}");
                assert_eq!(footer.bottom(), height);
            }
        }
    }
}
