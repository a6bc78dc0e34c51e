//! The semaphore's word: who is inside, exchanged by COMPARE AND WRITE (section 5, kind `caw`). One logical sector, alone in
//! its region.
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 8; stamp = epoch of the tenure that wrote it . 0 |
//! | 64 | 1 | flag | held | a tenure lasts |
//! | 65 | 1 | u8 | reserved | zero |
//! | 66 | 2 | u16 | slot | whose tenure; zero while free |
//! | 68 | 4 | u32 | reserved | zero |
//! | 72 | 8 | u64 | incarnation | of which login; zero while free |
//! | 80 | 16 | bytes | daemon_id | of which daemon; zero while free |

use binrw::binrw;

use crate::block::{self, Kind, Place, Stamp};
use crate::error::{Corrupt, Verdict};
use crate::ids::{DaemonId, Incarnation, SlotIndex, Ticket};

/// Who is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Whose slot.
    pub slot: SlotIndex,
    /// Which login.
    pub incarnation: Incarnation,
    /// Which daemon.
    pub daemon: DaemonId,
}

/// The word. Epochs never repeat, so no two words of one control volume are the same twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SemaphoreWord {
    /// The tenure that wrote it.
    pub epoch: Ticket,
    /// None: free.
    pub holder: Option<Holder>,
}

#[binrw]
#[brw(little)]
struct Body {
    #[br(assert(held < 2))]
    held: u8,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u8,
    slot: SlotIndex,
    #[br(temp, assert(reserved_too == 0))]
    #[bw(calc = 0)]
    reserved_too: u32,
    incarnation: Incarnation,
    daemon: DaemonId,
}

impl SemaphoreWord {
    /// Writes the word that lies at `place` into `block`: the same bytes for the same word, always.
    pub fn encode(&self, place: Place, block: &mut [u8]) {
        let holder = self.holder.unwrap_or(Holder {
            slot: SlotIndex(0),
            incarnation: Incarnation(0),
            daemon: DaemonId([0; 16]),
        });
        let body = Body {
            held: u8::from(self.holder.is_some()),
            slot: holder.slot,
            incarnation: holder.incarnation,
            daemon: holder.daemon,
        };
        block::seal(block, Kind::SemaphoreWord, place, Stamp { major: self.epoch.0, minor: 0 }, &body);
    }

    /// Decodes the word read from `place`.
    pub fn decode(block: &[u8], place: Place) -> Verdict<Self> {
        block::open(block, Kind::SemaphoreWord, Some(place.table), place.offset).and_then(|opened| {
            let b: Body = block::body(&opened, (), "semaphore word")?;
            let holder = Holder { slot: b.slot, incarnation: b.incarnation, daemon: b.daemon };
            let none = Holder { slot: SlotIndex(0), incarnation: Incarnation(0), daemon: DaemonId([0; 16]) };
            match (b.held, holder == none) {
                (1, _) => Ok(Self { epoch: Ticket(opened.stamp.major), holder: Some(holder) }),
                (_, true) => Ok(Self { epoch: Ticket(opened.stamp.major), holder: None }),
                (_, false) => Err(Corrupt::Field("semaphore word")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const PLACE: Place = Place { table: Uuid::from_u128(5), offset: 8192 };

    fn held() -> SemaphoreWord {
        let holder = Holder { slot: SlotIndex(3), incarnation: Incarnation(9), daemon: DaemonId([7; 16]) };
        SemaphoreWord { epoch: Ticket(41), holder: Some(holder) }
    }

    #[test]
    fn a_word_comes_back_as_it_went_and_encodes_to_the_same_bytes() {
        for word in [held(), SemaphoreWord { holder: None, ..held() }, SemaphoreWord::default()] {
            let (mut one, mut two) = (vec![0; 512], vec![0xff; 512]);
            word.encode(PLACE, &mut one);
            word.encode(PLACE, &mut two);
            assert_eq!(one, two);
            assert_eq!(SemaphoreWord::decode(&one, PLACE).valid(), Some(word));
        }
    }

    #[test]
    fn every_changed_byte_is_found() {
        let mut block = vec![0; 512];
        held().encode(PLACE, &mut block);
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 0x11;
            assert_eq!(SemaphoreWord::decode(&bad, PLACE).valid(), None, "byte {at}");
        }
        for len in 0..80 {
            assert_eq!(SemaphoreWord::decode(&block[..len], PLACE).valid(), None);
        }
    }
}
