//! Small pieces of binrw that several layouts share.

use binrw::{BinRead, BinResult, BinWrite, Endian};

/// A flag on disk: one byte, 0 or 1; anything else is damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flag;

impl Flag {
    /// Reads a flag byte.
    #[binrw::parser(reader, endian)]
    pub(crate) fn parse() -> BinResult<bool> {
        let pos = reader.stream_position()?;
        match u8::read_options(reader, endian, ())? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(binrw::Error::AssertFail { pos, message: "flag".to_owned() }),
        }
    }

    /// Writes a flag byte.
    #[binrw::writer(writer, endian)]
    pub(crate) fn write(flag: &bool) -> BinResult<()> {
        u8::from(*flag).write_options(writer, endian, ())
    }
}

/// Absent values are the most of what a poll reads: they are compared piece by piece, in bytes, and never allocated.
const PIECE: usize = 512;
const ZEROES: [u8; PIECE] = [0; PIECE];

/// An optional value on disk: one presence byte and the value's room, zero when absent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maybe;

impl Maybe {
    /// Reads presence and room; an absent value must be all zeroes in its `room` bytes.
    pub(crate) fn read<R, T>(r: &mut R, e: Endian, room: usize) -> BinResult<Option<T>>
    where
        R: std::io::Read + std::io::Seek,
        T: for<'a> BinRead<Args<'a> = ()>,
    {
        let pos = r.stream_position()?;
        let present = u8::read_options(r, e, ())?;
        match present {
            1 => Ok(Some(T::read_options(r, e, ())?)),
            0 => {
                let mut piece = [0u8; PIECE];
                let mut left = room;
                while left > 0 {
                    let piece = &mut piece[..left.min(PIECE)];
                    r.read_exact(piece)?;
                    if *piece != ZEROES[..piece.len()] {
                        return Err(binrw::Error::AssertFail { pos, message: "absent value".to_owned() });
                    }
                    left -= piece.len();
                }
                Ok(None)
            }
            _ => Err(binrw::Error::AssertFail { pos, message: "presence".to_owned() }),
        }
    }

    /// Writes presence and value, or zeroes over its `room` bytes.
    pub(crate) fn write<W, T>(value: Option<&T>, w: &mut W, e: Endian, room: usize) -> BinResult<()>
    where
        W: std::io::Write + std::io::Seek,
        T: for<'a> BinWrite<Args<'a> = ()>,
    {
        match value {
            Some(t) => {
                1u8.write_options(w, e, ())?;
                t.write_options(w, e, ())
            }
            None => {
                0u8.write_options(w, e, ())?;
                w.write_all(&vec![0u8; room])?;
                Ok(())
            }
        }
    }
}

/// A UUID on disk: its sixteen bytes in the order of its text.
pub(crate) mod uuid_bytes {
    use binrw::{BinRead, BinResult, BinWrite};

    #[binrw::parser(reader, endian)]
    pub(crate) fn parse() -> BinResult<uuid::Uuid> {
        Ok(uuid::Uuid::from_bytes(<[u8; 16]>::read_options(reader, endian, ())?))
    }

    #[binrw::writer(writer, endian)]
    pub(crate) fn write(id: &uuid::Uuid) -> BinResult<()> {
        id.as_bytes().write_options(writer, endian, ())
    }
}
