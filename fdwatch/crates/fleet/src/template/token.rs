//! Tokens of a name that differ between hosts: numbers, versions, addresses, hashes, UUIDs, random names.

/// Words with digits that are not replaced.
const WORDS: [&str; 34] = [
    "x86_64", "amd64", "arm64", "aarch64", "armv7l", "i386", "i686", "ppc64le", "s390x", "riscv64",
    "lib32", "lib64", "utf8", "utf16", "ext2", "ext3", "ext4", "md5", "sha1", "sha256", "sha512",
    "base64", "http2", "http3", "ipv4", "ipv6", "oauth2", "mp3", "mp4", "bz2", "lz4", "s3", "ec2",
    "k8s",
];

/// Characters of the random suffixes of Kubernetes.
const POD_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A position in a component of a name.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) part: &'a str,
    pub(super) at: usize,
    pub(super) is_temporary: bool,
    pub(super) is_of_pods: bool,
}

impl Token<'_> {
    /// Returns the length of the token that starts here and its placeholder; `None` if it is not replaced.
    pub(super) fn placeholder(self) -> Option<(usize, &'static str)> {
        // Control group of a pod: pod3f2c8a5e-...
        if self.part[..self.at].ends_with("pod")
            && let Some(length) = self.uuid()
        {
            return Some((length, "{uuid}"));
        }
        if self.begins_word() {
            if self.literal_word().is_some() {
                return None;
            }
            if let Some(length) = self.uuid() {
                return Some((length, "{uuid}"));
            }
            if let Some(length) = self.pod() {
                return Some((length, "{pod}"));
            }
            if self.is_hash() {
                return Some((self.word().len(), "{hash}"));
            }
            if self.is_random() {
                return Some((self.word().len(), "{tmp}"));
            }
        }
        self.number()
    }

    /// Returns the length of the word of [`WORDS`] that starts here.
    pub(super) fn literal_word_len(self) -> Option<usize> {
        self.begins_word().then(|| self.literal_word()).flatten()
    }

    fn rest(&self) -> &[u8] {
        &self.part.as_bytes()[self.at..]
    }

    fn before(&self) -> Option<u8> {
        self.part.as_bytes()[..self.at].last().copied()
    }

    fn begins_word(&self) -> bool {
        !self.before().is_some_and(|it| it.is_ascii_alphanumeric())
    }

    /// Returns the letters and digits from here on.
    fn word(&self) -> &[u8] {
        let rest = self.rest();
        let length = rest.iter().take_while(|it| it.is_ascii_alphanumeric());
        &rest[..length.count()]
    }

    fn literal_word(&self) -> Option<usize> {
        let rest = self.rest();
        let found = WORDS.iter().find(|word| {
            rest.len() >= word.len()
                && rest[..word.len()].eq_ignore_ascii_case(word.as_bytes())
                && !rest.get(word.len()).is_some_and(u8::is_ascii_alphanumeric)
        });
        found.map(|word| word.len())
    }

    /// Matches a UUID: 8-4-4-4-12 with hyphens or, in names of slices, underscores.
    fn uuid(&self) -> Option<usize> {
        const LENGTH: usize = 36;
        let text = self.rest().get(..LENGTH)?;
        let is_uuid = text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == text[8] && b"-_".contains(byte),
            _ => byte.is_ascii_hexdigit(),
        });
        let continues = self.rest().get(LENGTH).is_some_and(u8::is_ascii_hexdigit);
        (is_uuid && !continues).then_some(LENGTH)
    }

    /// Matches the suffix of a pod's name: `7c5ddbdf54-x2k4f` of a deployment and, in directories of
    /// pods, `x2k4f` of a daemon set.
    fn pod(&self) -> Option<usize> {
        if self.before() != Some(b'-') {
            return None;
        }
        let is_of_pod = |word: &[u8]| word.iter().all(|it| POD_ALPHABET.contains(it));
        let first = self.word();
        if self.is_of_pods && first.len() == 5 && is_of_pod(first) {
            return (self.rest().get(5) == Some(&b'_')).then_some(5);
        }
        let is_hash = (8..=10).contains(&first.len()) && first.iter().any(u8::is_ascii_digit);
        let rest = &self.rest()[first.len()..];
        if !is_hash || !is_of_pod(first) || rest.first() != Some(&b'-') {
            return None;
        }
        let last = &rest[1..];
        let last = last.iter().take_while(|it| it.is_ascii_alphanumeric());
        let last: Vec<u8> = last.copied().collect();
        (last.len() == 5 && is_of_pod(&last)).then_some(first.len() + 6)
    }

    /// Matches hexadecimal digits, or a long word with several runs of digits. Eight or more decimal
    /// digits match, too: one in forty random values of eight hexadecimal digits has no letter.
    fn is_hash(&self) -> bool {
        let word = self.word();
        let has_digits = word.iter().any(u8::is_ascii_digit);
        if word.iter().all(u8::is_ascii_hexdigit) && has_digits {
            let has_letters = word.iter().any(u8::is_ascii_alphabetic);
            // git abbreviates to seven.
            return word.len() >= 8 || (word.len() == 7 && has_letters);
        }
        word.len() >= 16 && digit_runs(word) >= 3
    }

    /// Matches names like those of `mkstemp`.
    fn is_random(&self) -> bool {
        let word = self.word();
        let ends = self.at + word.len() == self.part.len();
        let follows_mark = self.before().is_some_and(|it| b".-_".contains(&it));
        // Python's tempfile: tmp and eight characters.
        if let Some(random) = word.strip_prefix(b"tmp")
            && self.at == 0
        {
            return random.len() == 8 && (ends || self.is_temporary);
        }
        let is_long_enough = (6..=16).contains(&word.len());
        // Temporary files of rsync and editors: `.name.AbC123`.
        let is_hidden = self.part.starts_with('.') && ends && word.len() == 6;
        let is_expected = self.is_temporary || is_hidden || self.part.starts_with("tmp.");
        is_expected && is_long_enough && (follows_mark || self.is_temporary) && looks_random(word)
    }

    /// Matches a number, a version or an IPv4 address.
    fn number(self) -> Option<(usize, &'static str)> {
        let rest = self.rest();
        let before = self.before();
        if !rest.first().is_some_and(u8::is_ascii_digit)
            || before.is_some_and(|it| it.is_ascii_digit())
        {
            return None;
        }
        let digits = |from: usize| {
            let rest = rest.get(from..).unwrap_or_default();
            rest.iter().take_while(|it| it.is_ascii_digit()).count()
        };
        let first = digits(0);
        let after = rest.get(first);
        let is_within = before.is_some_and(|it| it.is_ascii_alphabetic())
            && after.is_some_and(u8::is_ascii_alphabetic);
        if first == 1 && is_within {
            // A word such as log4j.
            return None;
        }
        let (mut length, mut parts) = (first, 1);
        while rest.get(length) == Some(&b'.') && digits(length + 1) > 0 {
            length += 1 + digits(length + 1);
            parts += 1;
        }
        if parts == 1 {
            return Some((first, "{n}"));
        }
        let text = &rest[..length];
        let is_address = parts == 4
            && text.split(|it| *it == b'.').all(|part| {
                let part = str::from_utf8(part).ok();
                part.and_then(|part| part.parse::<u8>().ok()).is_some()
            });
        if is_address {
            return Some((length, "{ip}"));
        }
        Some((length + suffix(&rest[length..]), "{v}"))
    }
}

/// Returns the length of a version's suffix: `-rc1`, `.beta2`, `-SNAPSHOT`.
fn suffix(rest: &[u8]) -> usize {
    const NAMES: [&[u8]; 8] = [
        b"snapshot",
        b"release",
        b"alpha",
        b"beta",
        b"final",
        b"post",
        b"dev",
        b"rc",
    ];
    let mark = usize::from(rest.first().is_some_and(|it| b"-._~".contains(it)));
    let name = &rest[mark..];
    let found = NAMES
        .iter()
        .find(|known| name.len() >= known.len() && name[..known.len()].eq_ignore_ascii_case(known));
    let Some(known) = found else {
        return 0;
    };
    let after = &name[known.len()..];
    let mark_after = usize::from(after.first().is_some_and(|it| b"-.".contains(it)));
    let count = |from: usize| {
        let digits = after.get(from..).unwrap_or_default();
        digits.iter().take_while(|it| it.is_ascii_digit()).count()
    };
    let length = mark + known.len();
    match (count(0), count(mark_after)) {
        (0, 0) if after.first().is_some_and(u8::is_ascii_alphabetic) => 0,
        (0, 0) => length,
        (0, digits) => length + mark_after + digits,
        (digits, _) => length + digits,
    }
}

fn digit_runs(word: &[u8]) -> usize {
    let starts = word
        .iter()
        .enumerate()
        .filter(|(at, it)| it.is_ascii_digit() && (*at == 0 || !word[at - 1].is_ascii_digit()));
    starts.count()
}

/// Returns whether upper and lower case are mixed other than in `CamelCase`, or digits come before letters.
fn looks_random(word: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| word.iter().any(is);
    if has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) {
        let digits_at_end = word.iter().rev().take_while(|it| it.is_ascii_digit());
        let rest = &word[..word.len() - digits_at_end.count()];
        return rest.iter().any(u8::is_ascii_digit) || is_mixed(rest);
    }
    is_mixed(word)
}

/// Returns whether there is a capital and a lone lower-case letter; words have several in a row.
fn is_mixed(word: &[u8]) -> bool {
    let small_runs = word.split(|it| !it.is_ascii_lowercase());
    word.iter().any(u8::is_ascii_uppercase) && small_runs.into_iter().any(|run| run.len() == 1)
}
