//! What the semaphores of the storage ask of the device: the word of `caw`, the registration of `pr`.

use std::sync::PoisonError;

use lockdriver::reservation::{Fault, Swap};
use lockdriver::semaphore::{OfdOp, OfdResult, Retest, WordOp, WordResult};
use ondisk::{Incarnation, SemaphoreWord, SlotIndex, Verdict};

use super::open::read;
use super::session::Session;
use super::transact::Inside;
use crate::wire::outcome::Failure;

impl Session {
    /// Is the semaphore still the own one?
    pub(super) fn still_ours(&self, retest: Retest) -> OfdResult {
        match retest {
            Retest::Range => self.ofd(OfdOp::Retest),
            Retest::Key => self.registration(),
            Retest::Word(word) => match self.exchange(WordOp::Read) {
                WordResult::Is(found) if found == word => OfdResult::Held,
                WordResult::Failed => OfdResult::Failed,
                _ => OfdResult::NotHeld,
            },
        }
    }

    /// Does this host's registration stand?
    pub(super) fn registration(&self) -> OfdResult {
        self.membership.as_ref().map_or(OfdResult::Failed, |membership| membership.stands())
    }

    /// Those who are about to be recorded as dead may write no more, before anybody relies on it.
    pub(super) fn expel(&self, reaped: &[(SlotIndex, Incarnation)]) -> Result<(), Inside> {
        let due = !reaped.is_empty() && self.volume.rules.victim_goes_first;
        let Some(membership) = self.membership.as_ref().filter(|_| due) else { return Ok(()) };
        membership.expel(reaped).map_err(|e| {
            let why = format!("a client that does not answer could not be kept from writing: {e}");
            Failure::failed("the tables were not changed", why, "try again; look at the control volume's device").into()
        })
    }

    /// Reads the word, or exchanges it. An exchange goes past the beating thread: whenever it lands, it changes nothing but
    /// the very word that it expects, and words never repeat.
    pub(super) fn exchange(&self, op: WordOp) -> WordResult {
        let device = &*self.volume.device;
        let Some(place) = self.volume.geometry.semaphore_word() else { return WordResult::Failed };
        let len = usize::try_from(device.sector_bytes()).expect("a sector fits memory");
        let mut seen = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        match op {
            WordOp::Read => {
                let Ok(bytes) = read(device, place.offset, len) else { return WordResult::Failed };
                let verdict = SemaphoreWord::decode(&bytes, place);
                *seen = bytes;
                match verdict {
                    Verdict::Valid(word) => WordResult::Is(word),
                    _ => WordResult::Damaged,
                }
            }
            WordOp::Swap { expected, new } => {
                let block = |word: SemaphoreWord| {
                    let mut block = vec![0; len];
                    word.encode(place, &mut block);
                    block
                };
                let expected = expected.map_or_else(|| seen.clone(), block);
                let Some(commands) = device.commands() else { return WordResult::Failed };
                if !self.is_live() {
                    return WordResult::Failed;
                }
                match commands.compare_and_write(place.offset, &expected, &block(new)) {
                    Ok(Swap::Done) => WordResult::Swapped,
                    Ok(Swap::Differs) => WordResult::Differs,
                    Err(Fault::Conflict | Fault::Unsupported(_)) => WordResult::Failed,
                    Err(_) => WordResult::Unknown,
                }
            }
        }
    }
}
