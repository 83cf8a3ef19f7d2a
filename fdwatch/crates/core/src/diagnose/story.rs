//! The story of a finding: what happened to its descriptors, in order, one sentence each.

use super::{chain::Link, descriptor::Descriptor, finding::Finding};
use crate::{
    detail::Frame,
    model::{Access, Moment},
};

/// An event in the story.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    /// When; none if it happened before fdwatch saw events.
    pub at: Option<Moment>,
    /// What happened. Contains unescaped names.
    pub text: Vec<u8>,
    /// The stack, innermost first.
    pub stack: Vec<Frame>,
}

/// A descriptor of another process with the same description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// The descriptor of the finding.
    pub fd: u32,
    /// The other process.
    pub pid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its descriptor.
    pub their_fd: u32,
    /// Whether it is the parent of the finding's process.
    pub is_parent: bool,
}

/// Returns what happened to the descriptors of `finding`, in order.
#[must_use]
pub fn story(finding: &Finding, sharers: &[Sharer]) -> Vec<Sentence> {
    let mut story = Vec::new();
    for descriptor in finding.fds.iter().chain(&finding.closed) {
        add_descriptor(descriptor, finding, &mut story);
    }
    for descriptor in &finding.fds {
        let own = sharers.iter().filter(|sharer| sharer.fd == descriptor.fd);
        story.extend(own.map(|sharer| (None, sentence(None, shared(sharer)))));
    }
    if let Some(again) = &finding.closed_again {
        let fd = finding.closed.last().map_or(0, |last| last.fd);
        let text = format!(
            "{fd} was closed again by thread {}, although it was not open",
            again.tid
        );
        let again = Sentence {
            stack: again.stack.clone(),
            ..sentence(Some(again.at), text.into_bytes())
        };
        story.push((None, again));
    }
    // The sort is stable: sentences of the same moment stay in order of descriptors.
    story.sort_by_key(|(_, sentence)| sentence.at);
    story.dedup();
    fold_similar(story)
}

/// A sentence; if it is about the opening of a descriptor, with the number that its text begins
/// with.
type Part = (Option<u32>, Sentence);

/// Number of similar sentences in a row that are not folded.
const MAX_SIMILAR: usize = 3;

/// Folds similar sentences, of which a leak has many, into the first and a list of the others.
fn fold_similar(story: Vec<Part>) -> Vec<Sentence> {
    let mut folded = Vec::new();
    for similar in story.chunk_by(are_similar) {
        let [(Some(_), first), .., (_, last)] = similar else {
            folded.extend(similar.iter().map(|(_, sentence)| sentence.clone()));
            continue;
        };
        if similar.len() <= MAX_SIMILAR {
            folded.extend(similar.iter().map(|(_, sentence)| sentence.clone()));
            continue;
        }
        folded.push(first.clone());
        let others: Vec<_> = similar.iter().skip(1).filter_map(|(fd, _)| *fd).collect();
        let when = if last.at.is_some() {
            ", until then"
        } else {
            ""
        };
        let text = format!("{} likewise{when}", numbers(&others));
        folded.push(sentence(last.at, text.into_bytes()));
    }
    folded
}

/// Returns whether two sentences differ only in the descriptor and the time.
fn are_similar((one, first): &Part, (other, second): &Part) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return false;
    };
    let tail = |fd: &u32, text: &[u8]| {
        text.strip_prefix(fd.to_string().as_bytes())
            .map(<[u8]>::to_vec)
    };
    first.at.is_some() == second.at.is_some()
        && tail(one, &first.text) == tail(other, &second.text)
        && first.stack == second.stack
}

/// Maximum number of items in a list of descriptors.
const MAX_PIECES: usize = 16;

/// Lists descriptors, with ranges for four and more in a row: `3, 4, 7-131`.
#[must_use]
pub fn numbers(fds: &[u32]) -> String {
    let mut fds = fds.to_vec();
    fds.sort_unstable();
    let mut pieces = Vec::new();
    for row in fds.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
        match row {
            [first, _, _, .., last] => pieces.push((row.len(), format!("{first}-{last}"))),
            few => pieces.extend(few.iter().map(|fd| (1, fd.to_string()))),
        }
    }
    let more: usize = pieces.iter().skip(MAX_PIECES).map(|(count, _)| count).sum();
    pieces.truncate(MAX_PIECES);
    let pieces: Vec<_> = pieces.into_iter().map(|(_, piece)| piece).collect();
    let list = pieces.join(", ");
    if more > 0 {
        format!("{list} and {more} more")
    } else {
        list
    }
}

fn add_descriptor(descriptor: &Descriptor, finding: &Finding, story: &mut Vec<Part>) {
    let fd = descriptor.fd;
    let kind = access(descriptor);
    for near in descriptor.recent_opens.iter().rev() {
        let tid = descriptor.tid.unwrap_or_default();
        let text = if near.is_connection {
            format!("a connection was accepted on {} by thread {tid}", near.fd)
        } else {
            format!("{} opened by {}, thread {tid}", near.fd, near.origin)
        };
        let made = descriptor
            .opened
            .map(|opened| Moment(opened.0.saturating_sub(near.before)));
        story.push((None, sentence(made, text.into_bytes())));
        if let Some(closed) = near.closed {
            let stays = descriptor.closed.is_none_or(|own| own > closed);
            let text = if stays {
                format!("{} was closed, but {fd} stayed open", near.fd)
            } else {
                format!("{} was closed", near.fd)
            };
            story.push((None, sentence(Some(closed), text.into_bytes())));
        }
    }
    let mut text = match (descriptor.opened, descriptor.chain.first()) {
        (None, None) => format!("{fd} ({kind}) was open before fdwatch started").into_bytes(),
        (None, Some(had)) => by(
            format!("{fd} ({kind}) was open before fdwatch started, in "),
            had,
        ),
        (Some(_), Some(made)) => by(format!("{fd} ({kind}) opened by {} in ", made.how), made),
        (Some(_), None) => {
            let tid = descriptor.tid.unwrap_or_default();
            format!(
                "{fd} ({kind}) opened by {}, thread {tid}",
                descriptor.origin
            )
            .into_bytes()
        }
    };
    if let Some(path) = &descriptor.asked_path
        && Some(path) != finding.file.path.as_ref()
    {
        text.extend(b", requested as ");
        text.extend(path);
    }
    if let Some(role) = &descriptor.role {
        text.extend(b"; ");
        text.extend(role.as_bytes());
    }
    let came = Sentence {
        stack: descriptor.stack.clone(),
        ..sentence(descriptor.opened, text)
    };
    story.push((Some(fd), came));
    for link in descriptor.chain.iter().skip(1) {
        let text = match link.how {
            "fork" => by(format!("{fd} was inherited across fork by "), link),
            _ => by(format!("{fd} was kept across exec by "), link),
        };
        story.push((None, sentence(link.at, text)));
    }
    if let Some(closed) = descriptor.closed {
        let by = descriptor
            .closed_by
            .map_or_else(String::new, |tid| format!(" by thread {tid}"));
        let gone = Sentence {
            stack: descriptor.closed_stack.clone(),
            ..sentence(Some(closed), format!("{fd} was closed{by}").into_bytes())
        };
        story.push((None, gone));
    }
}

const fn sentence(at: Option<Moment>, text: Vec<u8>) -> Sentence {
    Sentence {
        at,
        text,
        stack: Vec::new(),
    }
}

fn by(text: String, link: &Link) -> Vec<u8> {
    let mut text = text.into_bytes();
    text.extend(&link.comm);
    text.extend(format!("[{}]", link.pid).bytes());
    text
}

fn shared(sharer: &Sharer) -> Vec<u8> {
    let whose = if sharer.is_parent { "its parent " } else { "" };
    let mut text = format!(
        "{} shares its description with {} of {whose}",
        sharer.fd, sharer.their_fd
    )
    .into_bytes();
    text.extend(&sharer.comm);
    text.extend(format!("[{}]", sharer.pid).bytes());
    text
}

fn access(descriptor: &Descriptor) -> &'static str {
    match (descriptor.access, descriptor.append) {
        (Access::Read, _) => "reading",
        (Access::Write | Access::ReadWrite, true) => "appending",
        (Access::Write, false) => "writing",
        (Access::ReadWrite, false) => "reading and writing",
        (Access::Path, _) => "path only",
    }
}
