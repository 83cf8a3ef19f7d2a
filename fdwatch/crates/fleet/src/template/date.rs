//! Dates and times of day in names.

/// Returns the length of the date that starts at `at`, with a time of day that follows.
pub(super) fn date(part: &str, at: usize) -> Option<usize> {
    let bytes = part.as_bytes();
    if at > 0 && bytes[at - 1].is_ascii_digit() {
        return None;
    }
    let rest = &bytes[at..];
    let day = numeric(rest).or_else(|| with_month(rest))?;
    let length = day + time(&rest[day..]);
    // More digits: a longer number that starts like a date.
    (!rest.get(length).is_some_and(u8::is_ascii_digit)).then_some(length)
}

fn number(bytes: &[u8], digits: usize) -> Option<u32> {
    let text = bytes.get(..digits)?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

fn in_range(bytes: &[u8], min: u32, max: u32) -> bool {
    number(bytes, 2).is_some_and(|number| (min..=max).contains(&number))
}

fn is_year(bytes: &[u8]) -> bool {
    number(bytes, 4).is_some_and(|year| (1970..2100).contains(&year))
}

/// Matches `2024-01-02`, `2024_01_02`, `2024.01.02`, `20240102`, `2024-01` and `02-01-2024`.
fn numeric(bytes: &[u8]) -> Option<usize> {
    let separator = |at: usize| bytes.get(at).copied().filter(|it| b"-_.".contains(it));
    if is_year(bytes) {
        if let Some(mark) = separator(4)
            && in_range(bytes.get(5..)?, 1, 12)
        {
            let ends = separator(7) == Some(mark) && in_range(bytes.get(8..)?, 1, 31);
            if ends && !bytes.get(10).is_some_and(u8::is_ascii_digit) {
                return Some(10);
            }
            // A month. With a dot it is a version.
            let is_alone = !bytes.get(7).is_some_and(u8::is_ascii_digit);
            return (mark != b'.' && is_alone).then_some(7);
        }
        if in_range(bytes.get(4..)?, 1, 12) && in_range(bytes.get(6..)?, 1, 31) {
            return Some(8);
        }
        return None;
    }
    let mark = separator(2)?;
    let is_date = in_range(bytes, 1, 31)
        && separator(5) == Some(mark)
        && in_range(&bytes[3..], 1, 31)
        && is_year(bytes.get(6..)?);
    is_date.then_some(10)
}

const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

/// Matches `02-Jan-2024`, `02Jan2024` and `2024-Jan-02`.
fn with_month(bytes: &[u8]) -> Option<usize> {
    let digits = if is_year(bytes) { 4 } else { 2 };
    number(bytes, digits)?;
    let mark = |at: usize| usize::from(bytes.get(at).is_some_and(|it| b"-_.".contains(it)));
    let month = digits + mark(digits);
    let name = bytes.get(month..month + 3)?.to_ascii_lowercase();
    if !MONTHS.contains(&&name[..]) {
        return None;
    }
    let last = month + 3 + mark(month + 3);
    let digits = if digits == 4 { 2 } else { 4 };
    number(bytes.get(last..)?, digits)?;
    (digits == 2 || is_year(&bytes[last..])).then_some(last + digits)
}

/// Returns the length of a time of day: `T12:34:56.789Z`, `-123456`, `_12-34`, `123456`, `-15`.
fn time(bytes: &[u8]) -> usize {
    let begin = usize::from(bytes.first().is_some_and(|it| b"-_.T t@:".contains(it)));
    let Some(clock) = bytes.get(begin..).filter(|it| in_range(it, 0, 23)) else {
        return 0;
    };
    let mut length = 2;
    for _ in 0..2 {
        let mark = usize::from(clock.get(length).is_some_and(|it| b":-_.".contains(it)));
        match clock.get(length + mark..) {
            Some(rest) if in_range(rest, 0, 59) => length += mark + 2,
            _ => break,
        }
    }
    let has_more = |length: usize| clock.get(length).is_some_and(u8::is_ascii_digit);
    if has_more(length) {
        // Fractions of a second without a separator; with other digits it is not a time.
        let digits = clock[length..].iter().take_while(|it| it.is_ascii_digit());
        let digits = digits.count();
        if !matches!(digits, 3 | 6 | 9) {
            return 0;
        }
        length += digits;
    }
    if length >= 6 && clock.get(length).is_some_and(|it| b".,".contains(it)) && has_more(length + 1)
    {
        let digits = clock[length + 1..]
            .iter()
            .take_while(|it| it.is_ascii_digit());
        length += 1 + digits.count();
    }
    let zone = &clock[length..];
    if zone.first() == Some(&b'Z') {
        length += 1;
    } else if zone.first().is_some_and(|it| b"+-".contains(it)) && in_range(&zone[1..], 0, 14) {
        let mark = usize::from(zone.get(3) == Some(&b':'));
        if zone.get(3 + mark..).is_some_and(|it| in_range(it, 0, 59)) {
            length += 5 + mark;
        }
    }
    begin + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_date_formats_match() {
        for text in [
            "2024-01-02",
            "2024_01_02",
            "2024.01.02",
            "20240102",
            "2024-01",
            "02-01-2024",
            "02-Jan-2024",
            "02Jan2024",
            "2024-jan-02",
            "2024-01-02T12:34:56",
            "2024-01-02T12:34:56.789Z",
            "2024-01-02T12:34:56+02:00",
            "2024-01-02_12-34-56",
            "20240102-123456",
            "20240102123456",
            "20240102T123456",
            "20240102123456789",
            "2024-01-02-15",
            "20240102_1530",
        ] {
            assert_eq!(date(text, 0), Some(text.len()), "{text}");
        }
    }

    #[test]
    fn numbers_like_dates_do_not_match() {
        for text in [
            "2024",
            "20241302",
            "20240199",
            "1.2.3",
            "99-99-2024",
            "202401021",
            "2024.1.2",
            "2024.01",
        ] {
            assert_eq!(date(text, 0), None, "{text}");
        }
    }
}
