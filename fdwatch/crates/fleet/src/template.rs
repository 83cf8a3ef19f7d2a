//! Templates of names: parts that differ between hosts are replaced with placeholders.
//!
//! `/var/lib/app-1.2.3/worker-17/20240102.log` becomes `/var/lib/app-{v}/worker-{n}/{date}.log`. The
//! template of a template is itself. Parts are recognised by code rather than a table of patterns: most
//! depend on what precedes them and on the values of numbers, which patterns would need a validator for
//! each, and any difference would change stored signatures.

mod date;
mod token;

use self::{date::date, token::Token};

/// Maximum length of a template, in bytes.
pub const MAX_LEN: usize = 256;

/// Maximum number of bytes of a name that are examined: `PATH_MAX`.
const MAX_NAME_LEN: usize = 4096;

/// All placeholders.
pub const PLACEHOLDERS: [&str; 9] = [
    "{n}", "{v}", "{ip}", "{date}", "{uuid}", "{hash}", "{tmp}", "{pod}", "{host}",
];

/// Directories in which random names are common.
const TEMPORARY: [&str; 4] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/"];

/// Directories of the logs of Kubernetes pods.
const PODS: [&str; 2] = ["/var/log/pods/", "/var/log/containers/"];

/// Returns the template of a path, unit or program. The name of the host in it is replaced, too.
#[must_use]
pub fn template(name: &[u8], host: &str) -> String {
    let name = String::from_utf8_lossy(&name[..name.len().min(MAX_NAME_LEN)]);
    let mut text = without_host(&name, host);
    // Truncation may leave a part that looks like another kind. Each round leaves less to replace.
    loop {
        let next = truncate(replace(&text));
        if next == text {
            return next;
        }
        text = next;
    }
}

/// Replaces the host's name, full and short, if it has a digit or a separator: a host may be named `log`.
fn without_host(name: &str, host: &str) -> String {
    let short = host.split('.').next().unwrap_or(host);
    let mut text = name.to_owned();
    for host in [host, short] {
        let is_distinctive = host.len() >= 4 && host.contains(['-', '.', '0', '1', '2', '3']);
        if is_distinctive && host.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            text = replace_host(&text, host);
        }
    }
    text
}

fn replace_host(text: &str, host: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(host) {
        let (before, after) = (&rest[..at], &rest[at + host.len()..]);
        let is_whole = !before.ends_with(|it: char| it.is_alphanumeric())
            && !after.starts_with(|it: char| it.is_alphanumeric());
        out.push_str(before);
        out.push_str(if is_whole { "{host}" } else { host });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn truncate(text: String) -> String {
    const ELLIPSIS: &str = "...";
    if text.len() <= MAX_LEN {
        return text;
    }
    let mut end = MAX_LEN - ELLIPSIS.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}

fn replace(text: &str) -> String {
    let place = Place {
        is_temporary: TEMPORARY.iter().any(|prefix| text.starts_with(prefix)),
        is_of_pods: PODS.iter().any(|prefix| text.starts_with(prefix)),
    };
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('/').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        if !is_first {
            out.push('/');
        }
        is_first = false;
        // A date as directories: 2024/01/02.
        if is_year(part) && parts.peek().is_some_and(|next| is_number(next, 12)) {
            parts.next();
            for max in [31, 23] {
                if parts.next_if(|next| is_number(next, max)).is_none() {
                    break;
                }
            }
            out.push_str("{date}");
            continue;
        }
        component(part, place, &mut out);
    }
    out
}

fn is_year(part: &str) -> bool {
    part.len() == 4 && (part.starts_with("19") || part.starts_with("20")) && is_number(part, 2100)
}

fn is_number(part: &str, max: u32) -> bool {
    (part.len() == 2 || max > 99)
        && part.bytes().all(|byte| byte.is_ascii_digit())
        && part.parse::<u32>().is_ok_and(|number| number <= max)
}

/// Location of a component.
#[derive(Clone, Copy)]
struct Place {
    is_temporary: bool,
    is_of_pods: bool,
}

fn component(part: &str, place: Place, out: &mut String) {
    // Names that the kernel makes: `socket:[12345]`.
    if let Some((kind, inode)) = part.strip_suffix(']').and_then(|it| it.split_once(":["))
        && !inode.is_empty()
        && inode.bytes().all(|byte| byte.is_ascii_digit())
    {
        out.push_str(kind);
        out.push_str(":[{n}]");
        return;
    }
    let mut at = 0;
    while at < part.len() {
        let rest = &part[at..];
        if let Some(done) = PLACEHOLDERS.iter().find(|it| rest.starts_with(**it)) {
            out.push_str(done);
            at += done.len();
            continue;
        }
        let token = Token {
            part,
            at,
            is_temporary: place.is_temporary,
            is_of_pods: place.is_of_pods,
        };
        let found = date(part, at)
            .map(|length| (length, "{date}"))
            .or_else(|| token.placeholder());
        if let Some((length, placeholder)) = found {
            out.push_str(placeholder);
            at += length;
        } else {
            // A literal word, or else one character.
            let length = token
                .literal_word_len()
                .unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
            out.push_str(&rest[..length]);
            at += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(path: &str) -> String {
        template(path.as_bytes(), "web-17.example.org")
    }

    #[test]
    fn real_names_have_expected_templates() {
        let rows = include_str!("../../../tests/fixtures/fleet_names.txt");
        let rows = rows.lines().filter(|row| !row.starts_with('#'));
        let mut wrong = String::new();
        let mut count = 0;
        for row in rows {
            let (name, expected) = row.split_once(" => ").unwrap();
            let found = of(name);
            if found != expected {
                wrong += &format!("{name}\n  {expected}\n  {found}\n");
            }
            count += 1;
        }
        assert!(count >= 80 && wrong.is_empty(), "of {count}:\n{wrong}");
    }

    #[test]
    fn host_name_is_replaced() {
        assert_eq!(of("/var/lib/mysql/web-17.err"), "/var/lib/mysql/{host}.err");
        assert_eq!(
            of("/var/log/remote/web-17.example.org/syslog"),
            "/var/log/remote/{host}/syslog"
        );
        assert_eq!(of("/srv/myweb-171/x"), "/srv/myweb-{n}/x");
        assert_eq!(template(b"/var/log/log", "log"), "/var/log/log");
    }

    #[test]
    fn long_name_is_truncated() {
        let path = format!("/{}", "x".repeat(5000));
        assert_eq!(of(&path).len(), MAX_LEN);
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(template(b"/a\xff/1\xfe", "h"), "/a\u{fffd}/{n}\u{fffd}");
    }

    proptest! {
        #[test]
        fn template_of_any_bytes_is_a_fixed_point(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let once = template(&bytes, "web-17");
            prop_assert!(once.len() <= MAX_LEN);
            prop_assert_eq!(template(once.as_bytes(), "web-17"), once);
        }

        #[test]
        fn template_of_any_path_is_a_fixed_point(path in r"(/(tmp|var|[a-f0-9]{6,12}|[A-Za-z0-9._{}@:-]{0,14}|20[0-9]{2}|[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]\.[0-9]\.[0-9](rc1)?)){1,40}") {
            let once = of(&path);
            prop_assert!(once.len() <= MAX_LEN);
            prop_assert_eq!(of(&once), once);
        }

        #[test]
        fn every_number_is_replaced(pid in 0_u32..4_194_304, inode in any::<u64>()) {
            prop_assert_eq!(of(&format!("/run/app/{pid}/x.{pid}.log")), "/run/app/{n}/x.{n}.log");
            prop_assert_eq!(of(&format!("socket:[{inode}]")), "socket:[{n}]");
        }

        #[test]
        fn every_hash_is_replaced(hash in "[0-9a-f]{12}|[0-9a-f]{40}|[0-9a-f]{64}") {
            // A word of letters only is no hash; neither is one that starts like a year.
            prop_assume!(hash.bytes().any(|byte| byte.is_ascii_digit()));
            prop_assume!(!hash.starts_with("19") && !hash.starts_with("20"));
            prop_assert_eq!(of(&format!("/var/lib/x/{hash}/layer.log")), "/var/lib/x/{hash}/layer.log");
        }
    }
}
