//! Claims about the word's steps.

use ondisk::{DaemonId, SlotSector, Ticket};

use super::*;
use crate::rules::Rules;
use crate::traces::bench::{BEAT, Bench, Client, DEAD, MARGIN, at};

/// Clients on one control volume and one word.
struct Rig {
    bench: Bench,
    word: Option<SemaphoreWord>,
    seats: Vec<Seat>,
}

struct Seat {
    client: Client,
    caw: Caw,
    step: Step,
    /// Answers of compare-and-writes are lost from now on; with `done`, they are done all the same.
    lost: Option<bool>,
}

fn rig() -> Rig {
    let mut bench = Bench::new(2);
    let seats = (0..2).map(|slot| seat(&mut bench, slot, 1)).collect();
    Rig { bench, word: Some(SemaphoreWord::default()), seats }
}

fn seat(bench: &mut Bench, slot: u16, incarnation: u64) -> Seat {
    let client = Client::new(bench, slot, incarnation, Rules::ALL);
    let (margin, beat, ticket) = (MARGIN, BEAT, client.sector.ticket);
    let caw = Caw::new(Params { me: client.me, slots: 6, margin, beat, ticket, rules: Rules::ALL });
    Seat { client, caw, step: Step::Left, lost: None }
}

impl Rig {
    /// Does what the last step of `who` asks for; false when it waits, is in or is out.
    fn advance(&mut self, who: usize, now: Duration) -> bool {
        let Self { bench, word, seats } = self;
        let seat = &mut seats[who];
        seat.step = match seat.step.clone() {
            Step::WriteSlot { .. } => {
                seat.client.sector.beat += 1;
                seat.caw.fields().put(&mut seat.client.sector);
                bench.write_slot(seat.client.me.slot, &seat.client.sector);
                seat.caw.slot_written(WriteResult::Stable, now)
            }
            Step::Poll | Step::WaitThenPoll(_) => {
                let poll = seat.client.look(bench, now, now);
                seat.caw.polled(&poll, &seat.client.watch, now)
            }
            Step::Word(WordOp::Read) => {
                let result = word.map_or(WordResult::Damaged, WordResult::Is);
                seat.caw.word_done(result, now)
            }
            Step::Word(WordOp::Swap { expected, new }) => {
                let fits = expected.is_none_or(|e| *word == Some(e));
                if fits && seat.lost != Some(false) {
                    *word = Some(new);
                }
                let result = match seat.lost.take() {
                    Some(_) => WordResult::Unknown,
                    None if fits => WordResult::Swapped,
                    None => WordResult::Differs,
                };
                seat.caw.word_done(result, now)
            }
            other => panic!("nothing to advance after {other:?}"),
        };
        !matches!(seat.step, Step::WaitThenPoll(_) | Step::Entered(_) | Step::Left | Step::Failed(_))
    }

    fn run(&mut self, who: usize, now: Duration) -> Step {
        while self.advance(who, now) {}
        self.seats[who].step.clone()
    }

    fn acquire(&mut self, who: usize, now: Duration) -> Step {
        let seat = &mut self.seats[who];
        seat.step = seat.caw.begin(now);
        self.run(who, now)
    }

    fn release(&mut self, who: usize, now: Duration) -> Step {
        let seat = &mut self.seats[who];
        seat.step = seat.caw.release();
        self.run(who, now)
    }

    fn holder(&self) -> Option<SlotIndex> {
        self.word.and_then(|w| w.holder).map(|h| h.slot)
    }

    /// A word left by the other client, who does not stand in the queue.
    fn left_by(&mut self, who: usize, incarnation: u64) {
        let me = self.seats[who].client.me;
        let holder = Holder { slot: me.slot, incarnation: Incarnation(incarnation), daemon: me.daemon };
        self.word = Some(SemaphoreWord { epoch: Ticket(7), holder: Some(holder) });
    }
}

#[test]
fn the_word_is_taken_inside_the_queue_and_let_go_before_it() {
    let mut rig = rig();
    assert!(matches!(rig.acquire(0, at(0.0)), Step::Entered(t) if t.epoch == Ticket(6)));
    assert_eq!(rig.holder(), Some(SlotIndex(0)));
    let held = rig.word.unwrap();
    assert_eq!(rig.seats[0].caw.before_commit(), Some(Retest::Word(held)));
    rig.seats[0].step = rig.seats[0].caw.release();
    assert!(matches!(rig.seats[0].step, Step::Word(WordOp::Swap { expected: Some(e), .. }) if e == held));
    rig.advance(0, at(0.1));
    assert_eq!(rig.word, Some(SemaphoreWord { epoch: Ticket(6), holder: None }));
    assert!(matches!(rig.seats[0].step, Step::WriteSlot { fields, .. } if !fields.waiting), "the queue is left last");
    assert_eq!(rig.run(0, at(0.1)), Step::Left);
}

#[test]
fn first_come_first_served() {
    let mut rig = rig();
    rig.acquire(0, at(0.0));
    assert!(matches!(rig.acquire(1, at(0.1)), Step::WaitThenPoll(_)));
    rig.release(0, at(0.2));
    assert!(matches!(rig.acquire(0, at(0.3)), Step::WaitThenPoll(_)), "1 came first");
    assert!(matches!(rig.run(1, at(0.4)), Step::Entered(_)));
}

#[test]
fn a_lost_answer_is_read_back_whether_it_was_done_or_not() {
    for done in [true, false] {
        let mut rig = rig();
        rig.seats[0].lost = Some(done);
        rig.acquire(0, at(0.0));
        assert!(matches!(rig.run(0, at(0.1)), Step::Entered(_)), "{done}");
        rig.seats[0].lost = Some(done);
        assert_eq!(rig.release(0, at(0.2)), Step::Left, "{done}");
        assert_eq!(rig.holder(), None);
    }
}

#[test]
fn a_word_of_a_living_client_is_waited_for_although_it_stands_in_no_queue() {
    let mut rig = rig();
    rig.left_by(1, 1);
    for second in 0..40 {
        let beat = &mut rig.seats[1].client;
        beat.sector.beat += 1;
        let sector = beat.sector;
        rig.bench.write_slot(SlotIndex(1), &sector);
        let now = at(f64::from(second));
        let step = if second == 0 { rig.acquire(0, now) } else { rig.run(0, now) };
        assert!(matches!(step, Step::WaitThenPoll(_)), "{step:?}");
    }
    let freed = SemaphoreWord { epoch: Ticket(7), holder: None };
    rig.word = Some(freed);
    rig.advance(0, at(41.0));
    assert!(matches!(rig.run(0, at(41.0)), Step::Entered(_)));
}

#[test]
fn a_silent_holder_is_passed_and_reaped() {
    let mut rig = rig();
    rig.acquire(1, at(0.0));
    rig.seats[0].client.look(&rig.bench, at(0.5), at(0.5));
    assert!(matches!(rig.acquire(0, at(1.0)), Step::WaitThenPoll(_)));
    rig.run(0, at(0.5) + DEAD - Duration::from_millis(1));
    assert_eq!(rig.holder(), Some(SlotIndex(1)));
    let step = rig.run(0, at(0.5) + DEAD);
    assert!(matches!(step, Step::Entered(t) if t.reap == [(SlotIndex(1), Incarnation(1))]));
    // The holder comes back: before its next commit it sees another word.
    let Some(Retest::Word(expected)) = rig.seats[1].caw.before_commit() else { panic!("inside") };
    assert_ne!(rig.word, Some(expected));
    assert_eq!(rig.seats[1].caw.retested(OfdResult::NotHeld), Err(LockError::LockLost));
    // Nor can it let go of what is another's.
    let mut rig = rig_of_two_inside();
    assert_eq!(rig.release(1, at(20.0)), Step::Failed(LockError::LockLost));
    assert_eq!(rig.holder(), Some(SlotIndex(0)));
}

fn rig_of_two_inside() -> Rig {
    let mut rig = rig();
    rig.acquire(1, at(0.0));
    rig.seats[0].client.look(&rig.bench, at(0.5), at(0.5));
    rig.acquire(0, at(1.0));
    rig.run(0, at(0.5) + DEAD);
    assert_eq!(rig.holder(), Some(SlotIndex(0)));
    rig
}

#[test]
fn what_a_login_that_is_over_left_is_taken_at_once() {
    // Reaped, logged off, replaced by a newer login, or the own earlier one.
    let mut reaped = rig();
    reaped.bench.commit(Ticket(1), &[(SlotIndex(1), Incarnation(1))]);
    let mut off = rig();
    let sector = SlotSector { logged_on: false, ..off.seats[1].client.sector };
    off.bench.write_slot(SlotIndex(1), &sector);
    let mut newer = rig();
    newer.seats[1] = seat(&mut newer.bench, 1, 3);
    for (mut rig, who, incarnation) in [(reaped, 1, 1), (off, 1, 1), (newer, 1, 1), (rig(), 0, 0)] {
        rig.left_by(who, incarnation);
        assert!(matches!(rig.acquire(0, at(0.0)), Step::Entered(t) if t.reap.is_empty()));
        assert_eq!(rig.word.unwrap().holder.unwrap().incarnation, Incarnation(1));
    }
}

#[test]
fn a_word_that_is_none_is_mended_by_the_first_in_the_queue() {
    let mut rig = rig();
    rig.word = None;
    assert!(matches!(rig.acquire(0, at(0.0)), Step::Entered(_)));
    assert_eq!(rig.holder(), Some(SlotIndex(0)));
    let number = SlotIndex(999);
    let nobody = Holder { slot: number, incarnation: Incarnation(1), daemon: DaemonId([1; 16]) };
    rig.release(0, at(0.1));
    rig.word = Some(SemaphoreWord { epoch: Ticket(9), holder: Some(nobody) });
    assert!(matches!(rig.acquire(0, at(0.2)), Step::Entered(_)));
}

#[test]
fn a_device_that_refuses_leaves_the_queue_in_order() {
    let mut rig = rig();
    rig.seats[0].step = rig.seats[0].caw.begin(at(0.0));
    while !matches!(rig.seats[0].step, Step::Word(_)) {
        rig.advance(0, at(0.0));
    }
    rig.seats[0].step = rig.seats[0].caw.word_done(WordResult::Failed, at(0.1));
    assert_eq!(rig.run(0, at(0.2)), Step::Failed(LockError::WordUnreachable));
    assert!(!rig.seats[0].caw.fields().waiting);
    assert!(matches!(rig.acquire(0, at(0.3)), Step::Entered(_)), "tried again later");
}
