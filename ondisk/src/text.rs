//! Texts of fixed room: names, labels and messages, length-prefixed UTF-8.

use std::fmt;

use binrw::{BinRead, BinResult, BinWrite, Endian};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A name must have at least one character.
    #[error("it is empty")]
    Empty,
    /// The UTF-8 form is longer than the room on disk.
    #[error("it is {found} bytes long, at most {room} are possible")]
    TooLong {
        /// Bytes of the text.
        found: usize,
        /// Bytes on disk.
        room: usize,
    },
    /// Names go into paths.
    #[error("it contains '/'")]
    Slash,
    /// Names go onto terminals.
    #[error("it contains a control character")]
    Control,
    /// "." and ".." mean directories.
    #[error("it is the name of a directory")]
    Dots,
    /// Volumes are mounted beside what volctl keeps there for itself.
    #[error("names that begin with .volctl are kept for volctl")]
    Kept,
}

/// A text of at most `N` bytes; on disk one length byte and `N` bytes, the rest zero.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Text<const N: usize>(String);

/// A message between people, at most 255 bytes.
pub type Message = Text<255>;
/// The label of a control volume or a host name, at most 63 bytes; may be empty.
pub type Label = Text<63>;

impl<const N: usize> Text<N> {
    /// Takes the text if it fits.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        const { assert!(N <= 255, "the length is one byte") };
        let text = text.into();
        if text.len() > N {
            return Err(TextError::TooLong { found: text.len(), room: N });
        }
        Ok(Self(text))
    }

    /// Takes as many whole characters of the text as fit.
    pub fn cut(text: &str) -> Self {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<const N: usize> BinRead for Text<N> {
    type Args<'a> = ();

    fn read_options<R: std::io::Read + std::io::Seek>(r: &mut R, e: Endian, (): ()) -> BinResult<Self> {
        let at = r.stream_position()?;
        let bad = |err: &str| binrw::Error::AssertFail { pos: at, message: err.to_owned() };
        let len = usize::from(u8::read_options(r, e, ())?);
        let mut room = [0u8; 255];
        let room = room.get_mut(..N).ok_or_else(|| bad("text"))?;
        r.read_exact(room)?;
        let (used, rest) = room.split_at_checked(len).ok_or_else(|| bad("text"))?;
        // Pages are full of empty texts: one comparison for each, not one for each byte.
        if *rest != [0; 255][..rest.len()] {
            return Err(bad("text"));
        }
        let text = std::str::from_utf8(used).map_err(|_| bad("text"))?;
        Ok(Self(text.to_owned()))
    }
}

impl<const N: usize> BinWrite for Text<N> {
    type Args<'a> = ();

    fn write_options<W: std::io::Write + std::io::Seek>(&self, w: &mut W, e: Endian, (): ()) -> BinResult<()> {
        let mut room = [0u8; 255];
        room[..self.0.len()].copy_from_slice(self.0.as_bytes());
        let len = u8::try_from(self.0.len()).expect("a text is at most 255 bytes long");
        len.write_options(w, e, ())?;
        w.write_all(&room[..N])?;
        Ok(())
    }
}

/// The name of a client or a volume: UTF-8, 1 to 63 bytes, no '/', no control characters (section 4, limits),
/// and not what volctl calls its own files.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(Label);

impl Name {
    /// Takes the name if it keeps the rules.
    pub fn new(name: impl Into<String>) -> Result<Self, TextError> {
        let label = Label::new(name)?;
        let text = label.as_str();
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.contains('/') {
            return Err(TextError::Slash);
        }
        if text.chars().any(char::is_control) {
            return Err(TextError::Control);
        }
        if text == "." || text == ".." {
            return Err(TextError::Dots);
        }
        if text.starts_with(".volctl") {
            return Err(TextError::Kept);
        }
        Ok(Self(label))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

impl BinRead for Name {
    type Args<'a> = ();

    fn read_options<R: std::io::Read + std::io::Seek>(r: &mut R, e: Endian, (): ()) -> BinResult<Self> {
        let at = r.stream_position()?;
        let label = Label::read_options(r, e, ())?;
        Self::new(label.as_str()).map_err(|_| binrw::Error::AssertFail { pos: at, message: "name".to_owned() })
    }
}

impl BinWrite for Name {
    type Args<'a> = ();

    fn write_options<W: std::io::Write + std::io::Seek>(&self, w: &mut W, e: Endian, (): ()) -> BinResult<()> {
        self.0.write_options(w, e, ())
    }
}
