//! Layout of the screen: the areas that are drawn, and that clicks are matched against.

use ratatui::layout::Rect;

/// Minimum columns and lines of the screen. A smaller one only shows a message.
pub(super) const MIN_SIZE: (u16, u16) = (40, 10);

/// Lines of a process's curve.
const CURVE: u16 = 3;

/// Areas of the screen; hidden ones have no height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) is_too_small: bool,
    pub(super) header: Rect,
    /// Name of the process, in a process view.
    pub(super) name: Rect,
    /// Curve of the process, in a process view.
    pub(super) curve: Rect,
    /// Title of the processes, or of a process's descriptors.
    pub(super) main_title: Rect,
    pub(super) main: Rect,
    /// Title of the findings, or of a process's explanation.
    pub(super) second_title: Rect,
    pub(super) second: Rect,
    pub(super) footer: Rect,
}

/// Content that determines the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// A process view rather than the list.
    pub(super) is_process: bool,
    /// The second pane is shown.
    pub(super) has_second: bool,
    /// The second pane has the focus.
    pub(super) is_second_active: bool,
}

impl Layout {
    /// Divides a screen of this size: columns, lines.
    pub(super) fn of((width, height): (u16, u16), content: Content) -> Self {
        let (least_width, least_height) = MIN_SIZE;
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
        if content.is_process {
            name = take(1);
            left -= 1;
            if left >= 14 {
                curve = take(CURVE);
                left -= CURVE;
            }
        }
        let (main, second) = match (content.has_second, content.is_second_active) {
            (false, _) => (left, 0),
            // Too small for both panes.
            (true, is_second_active) if left < 10 => {
                if is_second_active {
                    (0, left)
                } else {
                    (left, 0)
                }
            }
            (true, _) if content.is_process => (left - left / 2, left / 2),
            (true, _) => {
                let second = (left / 3).min(14);
                (left - second, second)
            }
        };
        let main_title = take(main.min(1));
        let main = take(main.saturating_sub(1));
        let second_title = take(second.min(1));
        let second = take(second.saturating_sub(1));
        let footer = take(1);
        Self {
            is_too_small: false,
            header,
            name,
            curve,
            main_title,
            main,
            second_title,
            second,
            footer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_fill_the_screen_without_overlap() {
        for height in 0..60 {
            for number in 0..8 {
                let content = Content {
                    is_process: number & 1 != 0,
                    has_second: number & 2 != 0,
                    is_second_active: number & 4 != 0,
                };
                let layout = Layout::of((50, height), content);
                if layout.is_too_small {
                    assert!(height < MIN_SIZE.1);
                    continue;
                }
                let Layout {
                    header,
                    name,
                    curve,
                    main_title,
                    main,
                    second_title,
                    second,
                    footer,
                    ..
                } = layout;
                let parts = [
                    header,
                    name,
                    curve,
                    main_title,
                    main,
                    second_title,
                    second,
                    footer,
                ];
                let all: u16 = parts.iter().map(|part| part.height).sum();
                assert_eq!(all, height, "{layout:?}");
                assert_eq!(footer.bottom(), height);
            }
        }
    }
}
