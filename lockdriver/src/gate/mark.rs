//! The mark of a gate: who made a loop device, for which volume and how, readable by whoever comes after (section 6).
//!
//! It lies in `lo_file_name`, 63 printable bytes at most: `vc1:` and 43 bytes in base64url.
//!
//! | byte | what |
//! | --- | --- |
//! | 0 | UUID of the control volume |
//! | 16 | UUID of the volume |
//! | 32 | slot, little-endian |
//! | 34 | incarnation, little-endian |
//! | 42 | bit 0: read-write; bit 1: stays open when the lease ends |

use uuid::Uuid;

const PREFIX: &str = "vc1:";
const RAW_BYTES: usize = 43;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Which way a gate is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Mode {
    /// The kernel itself refuses writes.
    ReadOnly,
    /// The writer's.
    ReadWrite,
}

/// What a gate says about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// UUID of the control volume.
    pub control: Uuid,
    /// UUID of the volume.
    pub volume: Uuid,
    /// Slot of the client that made it.
    pub slot: u16,
    /// Incarnation of the client that made it.
    pub incarnation: u64,
    /// Read-only or read-write.
    pub mode: Mode,
    /// Stays open when the lease ends: a reader of a `live` volume. Means nothing for a writer's gate, which always closes.
    pub keep_after_lease: bool,
}

impl Mark {
    /// The mark as at most 63 printable bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut raw = [0; RAW_BYTES];
        raw[..16].copy_from_slice(self.control.as_bytes());
        raw[16..32].copy_from_slice(self.volume.as_bytes());
        raw[32..34].copy_from_slice(&self.slot.to_le_bytes());
        raw[34..42].copy_from_slice(&self.incarnation.to_le_bytes());
        raw[42] = u8::from(self.mode == Mode::ReadWrite) | u8::from(self.keep_after_lease) << 1;
        let mut text = String::from(PREFIX);
        for group in raw.chunks(3) {
            let mut bits = [0; 3];
            bits[..group.len()].copy_from_slice(group);
            let word = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
            for digit in 0..=group.len() {
                let index = (word >> (18 - 6 * digit)) & 63;
                text.push(char::from(ALPHABET[usize::try_from(index).unwrap_or(0)]));
            }
        }
        text
    }

    /// Reads a mark; `None` for everything that [`encode`](Self::encode) does not write.
    #[must_use]
    pub fn decode(name: &[u8]) -> Option<Self> {
        let digits = name.strip_prefix(PREFIX.as_bytes())?;
        let mut raw = Vec::with_capacity(RAW_BYTES + 2);
        for group in digits.chunks(4) {
            let mut word = 0_u32;
            for digit in 0..4 {
                let value = match group.get(digit) {
                    Some(byte) => ALPHABET.iter().position(|known| known == byte)?,
                    None => 0,
                };
                word = word << 6 | u32::try_from(value).ok()?;
            }
            raw.extend_from_slice(&word.to_be_bytes()[1..group.len().max(1)]);
        }
        let raw: [u8; RAW_BYTES] = raw.try_into().ok()?;
        let mark = Self {
            control: Uuid::from_slice(&raw[..16]).ok()?,
            volume: Uuid::from_slice(&raw[16..32]).ok()?,
            slot: u16::from_le_bytes(raw[32..34].try_into().ok()?),
            incarnation: u64::from_le_bytes(raw[34..42].try_into().ok()?),
            mode: if raw[42] & 1 == 0 { Mode::ReadOnly } else { Mode::ReadWrite },
            keep_after_lease: raw[42] & 2 != 0,
        };
        // One mark has one spelling: unknown flags and stray bits are not ours.
        (mark.encode().as_bytes() == name).then_some(mark)
    }

    /// True for the gates that the end of a lease leaves open.
    #[must_use]
    pub fn outlives_lease(&self) -> bool {
        self.keep_after_lease && self.mode == Mode::ReadOnly
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_mark_survives_the_round_trip_in_63_printable_bytes(
            control: u128, volume: u128, slot: u16, incarnation: u64, write: bool, keep: bool,
        ) {
            let mark = Mark {
                control: Uuid::from_u128(control),
                volume: Uuid::from_u128(volume),
                slot,
                incarnation,
                mode: if write { Mode::ReadWrite } else { Mode::ReadOnly },
                keep_after_lease: keep,
            };
            let text = mark.encode();
            prop_assert!(text.len() <= crate::sys::loopdev::NAME_BYTES);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(Mark::decode(text.as_bytes()), Some(mark));
        }

        #[test]
        fn other_names_are_never_taken_for_marks(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(mark) = Mark::decode(&name) {
                let encoded = mark.encode();
                prop_assert_eq!(encoded.as_bytes(), &name[..]);
            }
        }
    }

    #[test]
    fn paths_and_cut_marks_are_not_marks() {
        let mark = Mark {
            control: Uuid::from_u128(1),
            volume: Uuid::from_u128(2),
            slot: 3,
            incarnation: 4,
            mode: Mode::ReadWrite,
            keep_after_lease: false,
        };
        let text = mark.encode();
        assert_eq!(Mark::decode(b"/images/footage.img"), None);
        assert_eq!(Mark::decode(b"vc1:"), None);
        assert_eq!(Mark::decode(&text.as_bytes()[..text.len() - 1]), None);
        assert_eq!(Mark::decode(format!("{text}A").as_bytes()), None);
    }
}
