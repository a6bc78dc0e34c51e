//! The rules for names and messages (section 4, limits), checked wherever one enters.

/// The most bytes of a name.
pub const NAME_BYTES_MAX: usize = 63;
/// The most bytes of a message.
pub const MESSAGE_BYTES_MAX: usize = 255;

/// Why a name or a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A name needs at least one byte.
    #[error("it is empty")]
    Empty,
    /// Too many bytes.
    #[error("it has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// A name becomes a directory name.
    #[error("it contains '/'")]
    Slash,
    /// `.` and `..` are directories of their own.
    #[error("it is a name that every directory has")]
    Dot,
    /// It would garble a terminal or a log.
    #[error("it contains a control character")]
    Control,
}

/// Checks the name of a client or a volume: 1 to 63 bytes, no `/`, no control characters, not `.` or `..`
/// (it names a directory below the mount root).
///
/// # Errors
/// [`NameError`], the first rule that it breaks.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.len() > NAME_BYTES_MAX {
        Err(NameError::TooLong { bytes: name.len(), max: NAME_BYTES_MAX })
    } else if name.contains('/') {
        Err(NameError::Slash)
    } else if matches!(name, "." | "..") {
        Err(NameError::Dot)
    } else if name.chars().any(char::is_control) {
        Err(NameError::Control)
    } else {
        Ok(())
    }
}

/// Checks a message: at most 255 bytes, no control characters but line break and tab.
///
/// # Errors
/// [`NameError`], the first rule that it breaks.
pub fn check_message(message: &str) -> Result<(), NameError> {
    if message.len() > MESSAGE_BYTES_MAX {
        Err(NameError::TooLong { bytes: message.len(), max: MESSAGE_BYTES_MAX })
    } else if message.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        Err(NameError::Control)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_limits() {
        let longest = "é".repeat(31) + "x";
        for name in ["a", "footage", "Büro 3", "-x", ".hidden", longest.as_str()] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_name(""), Err(NameError::Empty));
        assert_eq!(check_name(&"é".repeat(32)), Err(NameError::TooLong { bytes: 64, max: 63 }));
        assert_eq!(check_name("a/b"), Err(NameError::Slash));
        assert_eq!(check_name(".."), Err(NameError::Dot));
        for name in ["a\0", "a\nb", "\u{7f}", "\u{85}"] {
            assert_eq!(check_name(name), Err(NameError::Control));
        }
    }

    #[test]
    fn messages_may_have_lines_but_no_escapes() {
        assert_eq!(check_message(""), Ok(()));
        assert_eq!(check_message("two\nlines\tand a tab"), Ok(()));
        assert_eq!(check_message("\x1b[2J"), Err(NameError::Control));
        assert_eq!(check_message(&"x".repeat(255)), Ok(()));
        assert_eq!(check_message(&"x".repeat(256)), Err(NameError::TooLong { bytes: 256, max: 255 }));
    }
}
