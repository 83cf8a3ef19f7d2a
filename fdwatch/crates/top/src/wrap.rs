//! Wraps text to the width of the screen.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Minimum width that lines are wrapped to, in columns.
const MIN_WIDTH: usize = 20;

/// Wraps lines between words. Continuation lines are indented by two columns more than their line.
pub(super) fn wrap(text: &[String], width: u16) -> Vec<String> {
    let width = usize::from(width).max(MIN_WIDTH);
    let mut lines = Vec::new();
    for line in text {
        if line.width() <= width {
            lines.push(line.clone());
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let continuation = indent.min(width / 2) + 2;
        let mut rest = line.as_str();
        let mut margin = 0;
        while !rest.is_empty() {
            let end = fitting(rest, width - margin);
            let (part, more) = rest.split_at(end);
            lines.push(format!("{}{}", " ".repeat(margin), part.trim_end()));
            rest = more.trim_start();
            margin = continuation;
        }
    }
    lines
}

/// Returns how many bytes of the text fit, up to the end of a word if possible.
fn fitting(text: &str, width: usize) -> usize {
    let mut used = 0;
    let mut word_end = 0;
    let text_start = text.len() - text.trim_start().len();
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > width {
            let end = if word_end > text_start { word_end } else { at };
            // At least one character, however wide.
            return if end == 0 { character.len_utf8() } else { end };
        }
        if character == ' ' {
            word_end = at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wrap_between_words() {
        let text = [
            "  12:00:00  opened in a place with many words".to_owned(),
            "x".repeat(45),
            String::new(),
        ];
        let lines = wrap(&text, 24);
        assert_eq!(
            lines,
            [
                "  12:00:00  opened in a",
                "    place with many",
                "    words",
                &"x".repeat(24),
                &format!("  {}", "x".repeat(21)),
                "",
            ]
        );
        assert!(lines.iter().all(|line| line.width() <= 24));
        let wide = ["長".repeat(30)];
        assert!(wrap(&wide, 21).iter().all(|line| line.width() <= 21));
    }
}
