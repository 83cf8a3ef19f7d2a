//! Splits Rust source into words and punctuation, without comments, literals and tests.

/// Returns the tokens of a source: identifiers, lifetimes without their names, `::`, and single characters.
pub(super) fn tokens(source: &str) -> Vec<String> {
    without_tests(&split(source))
}

fn split(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            i = block_comment_end(&chars, i);
        } else if c == '"' {
            tokens.push("\"".to_owned());
            i = string_end(&chars, i + 1);
        } else if let Some(end) = raw_string_end(&chars, i) {
            tokens.push("\"".to_owned());
            i = end;
        } else if c == '\'' {
            tokens.push("'".to_owned());
            i = quote_end(&chars, i);
        } else if is_word(c) {
            let start = i;
            while is_word(at(i)) {
                i += 1;
            }
            let word: String = chars[start..i].iter().collect();
            // The prefix of a byte or C string is part of the literal.
            if !(at(i) == '"' && ["b", "c"].contains(&word.as_str())) {
                tokens.push(word);
            }
        } else if c == ':' && at(i + 1) == ':' {
            tokens.push("::".to_owned());
            i += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            i += 1;
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

/// Returns the end of a string whose content starts at `i`.
fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    i
}

/// Returns the end of a raw string such as `r#"..."#` that starts at `i`, if there is one.
fn raw_string_end(chars: &[char], i: usize) -> Option<usize> {
    let rest = &chars[i..];
    let prefix = match rest {
        ['r', ..] => 1,
        ['b' | 'c', 'r', ..] => 2,
        _ => return None,
    };
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let start = prefix + hashes;
    if rest.get(start) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let content = &rest[start + 1..];
    let length = content.windows(end.len()).position(|it| it == end)?;
    Some(i + start + 1 + length + end.len())
}

/// Returns the end of a character literal, or of the quote of a lifetime, that starts at `i`.
fn quote_end(chars: &[char], i: usize) -> usize {
    match chars.get(i + 1) {
        Some('\\') => {
            let length = chars[i + 3..].iter().position(|c| *c == '\'');
            length.map_or(chars.len(), |length| i + 4 + length)
        }
        Some(_) if chars.get(i + 2) == Some(&'\'') => i + 3,
        _ => {
            // A lifetime, whose name does not refer to an item.
            let name = chars[i + 1..].iter().take_while(|c| is_word(**c));
            i + 1 + name.count()
        }
    }
}

/// Removes items with `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut rest = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i..].iter().take(TEST.len()).eq(TEST.iter()) {
            i = item_end(tokens, i + TEST.len());
        } else {
            rest.push(tokens[i].clone());
            i += 1;
        }
    }
    rest
}

/// Returns the index after the item that starts at `i`: after its `;` or its closing brace.
fn item_end(tokens: &[String], mut i: usize) -> usize {
    let mut depth = 0_u32;
    // The braces of `use a::{b, c};` do not end it.
    let is_use = tokens[i..]
        .iter()
        .take_while(|it| !["{", ";"].contains(&it.as_str()))
        .any(|it| it == "use");
    while i < tokens.len() {
        match tokens[i].as_str() {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && !is_use {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_left_out() {
        let source = r##"// a::b
            /* c /* d */ e */ fn f<'a>(g: &'a str) { h('x', '\'', "i\"j", r#"k"l"#, b"m"); n::o }"##;
        let expected = "fn f < ' > ( g : & ' str ) { h ( ' , ' , \" , \" , \" ) ; n :: o }";
        assert_eq!(tokens(source).join(" "), expected);
    }

    #[test]
    fn tests_are_left_out() {
        let source =
            "#[cfg(test)] mod tests; a #[cfg(test)] use b::{c, d}; e #[cfg(test)] mod f { g {} } h";
        assert_eq!(tokens(source).join(" "), "a e h");
    }
}
