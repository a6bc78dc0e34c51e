//! How numbers and other people's texts are shown.

use volctl::wire::outcome::one_line;

/// The most characters of a text that others wrote, wherever it is shown in one line.
pub const LINE_MAX: usize = 160;

/// A time for people, no finer than they can use: what changes rarely needs no new picture.
#[must_use]
pub fn elapsed(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => {
            let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
            if minutes == 0 { format!("{hours} h") } else { format!("{hours} h {minutes} min") }
        }
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The age of a beat: while a client lives it is below a second or two, and then it is simply there.
#[must_use]
pub fn beat(ms: u64) -> String {
    if ms < 3000 { "now".to_owned() } else { format!("{} ago", elapsed(ms)) }
}

/// The same, coarsely: for what stands for hours.
#[must_use]
pub fn roughly(ms: u64) -> String {
    if ms < 60_000 { "less than a minute".to_owned() } else { elapsed(ms) }
}

/// Bytes for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    volctl::units::round_size(bytes)
}

/// A text of somebody else in one line: nothing in it can move, hide or turn what stands beside it.
#[must_use]
pub fn line(text: &str) -> String {
    cut(&safe(text), LINE_MAX)
}

/// A text of somebody else, its lines kept.
#[must_use]
pub fn lines(text: &str) -> String {
    let kept: Vec<String> = text.lines().take(12).map(safe).collect();
    cut(kept.join("\n").trim(), 1024)
}

/// Not every font has the sign that stands for what cannot be shown.
fn safe(text: &str) -> String {
    one_line(text).replace('\u{fffd}', "?")
}

/// At most so many characters, and a sign where more was.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// At most so many characters of a path, its begin and its end: the end tells which.
#[must_use]
pub fn middle(path: &str, most: usize) -> String {
    let letters: Vec<char> = path.chars().collect();
    if letters.len() <= most {
        return path.to_owned();
    }
    let kept = most.saturating_sub(1);
    let (begin, end) = (kept / 3, letters.len() - (kept - kept / 3));
    letters[..begin].iter().chain(['…'].iter()).chain(&letters[end..]).collect()
}

/// "1 file", "2 files".
#[must_use]
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// An argument as a shell takes it.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_no_finer_than_people_can_use() {
        let said: Vec<String> = [0, 59_999, 60_000, 3_599_000, 3_600_000, 7_500_000, 90_000_000].map(elapsed).into();
        assert_eq!(said, ["0 s", "59 s", "1 min", "59 min", "1 h", "2 h 5 min", "1 d 1 h"]);
        assert_eq!((beat(900), beat(65_000)), ("now".to_owned(), "1 min ago".to_owned()));
    }

    #[test]
    fn a_text_of_somebody_else_cannot_turn_or_clear_what_stands_beside_it() {
        assert_eq!(line("a\u{202e}b\x1b[2J\nc"), "a?b?[2J c");
        assert_eq!(lines("one\ntwo\u{2066}"), "one\ntwo?");
        assert_eq!(line(&"x".repeat(10_000)).chars().count(), LINE_MAX + 1);
        assert_eq!(cut("héé", 2), "hé…");
        assert_eq!((middle("/mnt/é", 6), middle("/mnt/volctl/é", 7)), ("/mnt/é".into(), "/m…tl/é".into()));
    }

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        assert_eq!(shell_word("/dev/disk/by-id/x"), "/dev/disk/by-id/x");
        assert_eq!(shell_word("it's; rm"), "'it'\\''s; rm'");
        assert_eq!(shell_word(""), "''");
    }
}
