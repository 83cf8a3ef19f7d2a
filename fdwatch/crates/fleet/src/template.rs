//! What of a name is the same everywhere: the rest gives way to placeholders.
//!
//! `/var/lib/app-1.2.3/worker-17/20240102.log` is `/var/lib/app-{v}/worker-{n}/{date}.log` on every
//! host. Pure, and a fixed point: what was replaced once stays as it is.

mod date;
mod token;

use self::{date::date, token::Token};

/// Bytes of a template, at most.
pub const MAX_LEN: usize = 256;

/// Bytes of a name that are looked at: those of the longest path there is.
const MAX_NAME_LEN: usize = 4096;

/// What stands for what differs. Others would look like names.
pub const PLACEHOLDERS: [&str; 9] = [
    "{n}", "{v}", "{ip}", "{date}", "{uuid}", "{hash}", "{tmp}", "{pod}", "{host}",
];

/// Where random names are usual.
const TEMPORARY: [&str; 4] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/"];

/// Where the logs of pods are.
const PODS: [&str; 2] = ["/var/log/pods/", "/var/log/containers/"];

/// The template of a name: a path, a unit, a program. A name of the host itself in it gives way too.
#[must_use]
pub fn template(name: &[u8], host: &str) -> String {
    let name = String::from_utf8_lossy(&name[..name.len().min(MAX_NAME_LEN)]);
    let mut text = without_host(&name, host);
    // Each time something is replaced there is less to replace; but what is left of a long one may
    // look like something else.
    loop {
        let next = shortened(replaced(&text));
        if next == text {
            return next;
        }
        text = next;
    }
}

/// Only names that have something of a host's in them: a host may be called `log`.
fn without_host(name: &str, host: &str) -> String {
    let short = host.split('.').next().unwrap_or(host);
    let mut text = name.to_owned();
    for own in [host, short] {
        let is_telling = own.len() >= 4 && own.contains(['-', '.', '0', '1', '2', '3']);
        if is_telling && own.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            text = without(&text, own);
        }
    }
    text
}

fn without(text: &str, own: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(own) {
        let (before, after) = (&rest[..at], &rest[at + own.len()..]);
        let is_whole = !before.ends_with(|it: char| it.is_alphanumeric())
            && !after.starts_with(|it: char| it.is_alphanumeric());
        out.push_str(before);
        out.push_str(if is_whole { "{host}" } else { own });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn shortened(text: String) -> String {
    const MARK: &str = "...";
    if text.len() <= MAX_LEN {
        return text;
    }
    let mut end = MAX_LEN - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

fn replaced(text: &str) -> String {
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
        // A day as directories: 2024/01/02.
        if is_year(part) && parts.peek().is_some_and(|next| is_number(next, 12)) {
            parts.next();
            for most in [31, 23] {
                if parts.next_if(|next| is_number(next, most)).is_none() {
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

fn is_number(part: &str, most: u32) -> bool {
    (part.len() == 2 || most > 99)
        && part.bytes().all(|byte| byte.is_ascii_digit())
        && part.parse::<u32>().is_ok_and(|number| number <= most)
}

/// Where a component is.
#[derive(Clone, Copy)]
struct Place {
    is_temporary: bool,
    is_of_pods: bool,
}

fn component(part: &str, place: Place, out: &mut String) {
    // The kernel's own names: `socket:[12345]`.
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
        if let Some(known) = PLACEHOLDERS.iter().find(|known| rest.starts_with(**known)) {
            out.push_str(known);
            at += known.len();
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
            // All of a word that is kept at once, or else one character.
            let length = token
                .kept()
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
    fn names_found_in_the_field_are_the_same_everywhere() {
        let rows = include_str!("../../tests/fixtures/fleet_names.txt");
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
    fn the_hosts_own_name_gives_way() {
        assert_eq!(of("/var/lib/mysql/web-17.err"), "/var/lib/mysql/{host}.err");
        assert_eq!(
            of("/var/log/remote/web-17.example.org/syslog"),
            "/var/log/remote/{host}/syslog"
        );
        assert_eq!(of("/srv/myweb-171/x"), "/srv/myweb-{n}/x");
        assert_eq!(template(b"/var/log/log", "log"), "/var/log/log");
    }

    #[test]
    fn what_is_long_is_bounded() {
        let path = format!("/{}", "x".repeat(5000));
        assert_eq!(of(&path).len(), MAX_LEN);
    }

    #[test]
    fn what_is_no_text_is_bounded_and_stays() {
        assert_eq!(template(b"/a\xff/1\xfe", "h"), "/a\u{fffd}/{n}\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_template_that_is_its_own(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let once = template(&bytes, "web-17");
            prop_assert!(once.len() <= MAX_LEN);
            prop_assert_eq!(template(once.as_bytes(), "web-17"), once);
        }

        #[test]
        fn what_looks_like_paths_has_a_template_that_is_its_own(path in r"(/(tmp|var|[a-f0-9]{6,12}|[A-Za-z0-9._{}@:-]{0,14}|20[0-9]{2}|[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]\.[0-9]\.[0-9](rc1)?)){1,40}") {
            let once = of(&path);
            prop_assert!(once.len() <= MAX_LEN);
            prop_assert_eq!(of(&once), once);
        }

        #[test]
        fn a_number_may_be_any(pid in 0_u32..4_194_304, inode in any::<u64>()) {
            prop_assert_eq!(of(&format!("/run/app/{pid}/x.{pid}.log")), "/run/app/{n}/x.{n}.log");
            prop_assert_eq!(of(&format!("socket:[{inode}]")), "socket:[{n}]");
        }

        #[test]
        fn a_hash_may_be_any(hash in "[0-9a-f]{12}|[0-9a-f]{40}|[0-9a-f]{64}") {
            // One in a hundred thousand is all letters.
            prop_assume!(hash.bytes().any(|byte| byte.is_ascii_digit()));
            prop_assume!(!hash.starts_with("19") && !hash.starts_with("20"));
            prop_assert_eq!(of(&format!("/var/lib/x/{hash}/layer.log")), "/var/lib/x/{hash}/layer.log");
        }
    }
}
