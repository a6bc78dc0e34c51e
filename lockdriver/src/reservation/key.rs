//! Registration keys that tell whose they are: the table, the slot, the login.

use std::fmt;

use ondisk::{Incarnation, SlotIndex, Uuid};

const SLOT_BITS: u32 = 11;
const INCARNATION_BITS: u32 = 37;

/// The key of one login: 16 bits of the control volume's UUID, 11 of the slot, 37 of the incarnation. Never zero, since
/// incarnations begin at 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u64);

impl Key {
    /// The key of this login.
    pub fn of(table: Uuid, slot: SlotIndex, incarnation: Incarnation) -> Self {
        let low = incarnation.0 & ((1 << INCARNATION_BITS) - 1);
        let slot = u64::from(slot.0) & ((1 << SLOT_BITS) - 1);
        Self(tag(table) << (SLOT_BITS + INCARNATION_BITS) | slot << INCARNATION_BITS | low.max(1))
    }

    /// Whose key of this table it is; None: a foreign one.
    pub fn owner(self, table: Uuid) -> Option<(SlotIndex, Incarnation)> {
        let slot = u16::try_from(self.0 >> INCARNATION_BITS & ((1 << SLOT_BITS) - 1)).ok()?;
        let incarnation = self.0 & ((1 << INCARNATION_BITS) - 1);
        let ours = self.0 >> (SLOT_BITS + INCARNATION_BITS) == tag(table) && incarnation != 0;
        ours.then_some((SlotIndex(slot), Incarnation(incarnation)))
    }

    /// Is it a key of this slot, of a login up to `incarnation`?
    pub fn is_up_to(self, table: Uuid, slot: SlotIndex, incarnation: Incarnation) -> bool {
        let low = incarnation.0.min((1 << INCARNATION_BITS) - 1);
        self.owner(table).is_some_and(|(s, i)| s == slot && i.0 <= low)
    }
}

/// Never zero: the keys that people make up begin with zeroes, and must not pass for a table's.
fn tag(table: Uuid) -> u64 {
    let sum =
        table.as_bytes().chunks_exact(2).fold(0, |sum, pair| sum ^ (u64::from(pair[0]) << 8 | u64::from(pair[1])));
    sum.max(1)
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#018x}", self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_whose_it_is() {
        let table = Uuid::from_u128(0x1234_5678_9abc_def0_0123_4567_89ab_cdef);
        for (slot, incarnation) in [(0, 1), (3, 7), (1027, 1 << 36)] {
            let key = Key::of(table, SlotIndex(slot), Incarnation(incarnation));
            assert_eq!(key.owner(table), Some((SlotIndex(slot), Incarnation(incarnation))));
            assert_eq!(key.owner(Uuid::from_u128(7)), None);
            assert!(key.is_up_to(table, SlotIndex(slot), Incarnation(incarnation)));
            assert!(!key.is_up_to(table, SlotIndex(slot), Incarnation(incarnation - 1)));
            assert!(!key.is_up_to(table, SlotIndex(slot + 1), Incarnation(u64::MAX)));
        }
    }

    #[test]
    fn keys_of_any_numbers_are_not_zero() {
        for incarnation in [0, 1 << 37, u64::MAX] {
            assert_ne!(Key::of(Uuid::nil(), SlotIndex(0), Incarnation(incarnation)).0, 0);
        }
        for key in [0, 1, u64::MAX, 1 << 48] {
            assert_eq!(Key(key).owner(Uuid::nil()), None, "{key:#x}");
        }
    }
}
