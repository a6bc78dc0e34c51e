//! How an I/O on the control volume goes: when its bytes move, when its issuer hears of it, and what goes wrong with it.

use crate::disk::Region;
use crate::rng::nanos;
use crate::world::{HostId, World};

/// When an I/O's bytes move (after its begin), when its issuer hears of it, and how.
pub(crate) struct Course {
    pub(crate) moves: Vec<u64>,
    pub(crate) returns: u64,
    pub(crate) ok: bool,
    pub(crate) harmful: bool,
    /// It lands there instead.
    pub(crate) astray: Option<usize>,
}

impl World {
    pub(crate) fn usual_course(&mut self) -> Course {
        let lands = self.rng.between(20_000, 200_000);
        let returns = lands + self.rng.between(5_000, 100_000);
        Course { moves: vec![lands], returns, ok: true, harmful: false, astray: None }
    }

    /// Parts that move at different moments, the last one no later than `by`.
    fn split(&mut self, course: &mut Course, by: u64) {
        let first = course.moves[0];
        let parts = 2 + self.rng.below(3);
        course.moves = (0..parts).map(|_| self.rng.between(first, by.max(first))).collect();
        course.returns = course.returns.max(course.moves.iter().copied().max().unwrap_or(first) + 10_000);
    }

    pub(crate) fn course_of_read(&mut self, host: HostId) -> Course {
        let mut course = self.usual_course();
        if let Some(wait) = self.outage(host) {
            let fails = self.hosts[host].path_fails;
            let returns = if fails { 1_000_000 } else { wait };
            course =
                Course { moves: vec![returns], returns: returns + 10_000, ok: !fails, harmful: false, astray: None };
        }
        if self.calm {
            return course;
        }
        let odds = self.plan.odds;
        if self.rng.one_in(odds.slow) {
            self.count("a slow read");
            let most = nanos(self.plan.timings.lease()) * 2;
            let by = course.moves[0] + self.rng.between(1_000_000, most);
            course.returns = by;
            self.split(&mut course, by);
        } else if self.rng.one_in(odds.split) {
            let by = course.moves[0] + 2_000_000;
            self.split(&mut course, by);
        }
        if self.rng.one_in(odds.read_error) {
            self.count("a read error");
            course.ok = false;
        }
        course
    }

    /// How long the host's path to the control volume stays away, if it is.
    fn outage(&self, host: HostId) -> Option<u64> {
        let until = self.hosts[host].path_until;
        (until > self.now).then(|| until - self.now)
    }

    pub(crate) fn course_of_write(&mut self, host: HostId, region: Region, block: usize) -> Course {
        let mut course = self.usual_course();
        // What the assumption allows, less what the medium itself needs.
        let soon = nanos(self.plan.margin()) * 4 / 5;
        let late = nanos(self.plan.timings.dead()) * 4;
        // Whenever an exchange of the word lands, it harms nothing.
        let word = region == Region::Word;
        let may_be_late = !self.calm && (word || region != Region::Slot && self.disk.may_harm(region, block));
        if let Some(wait) = self.outage(host) {
            if self.hosts[host].path_fails {
                return Course { moves: Vec::new(), returns: 1_000_000, ok: false, ..course };
            }
            if wait <= soon || may_be_late {
                let harmful = wait > soon && !word;
                return Course { moves: vec![wait], returns: wait + 50_000, harmful, ..course };
            }
            return Course { moves: Vec::new(), returns: wait, ok: false, ..course };
        }
        if self.calm {
            return course;
        }
        let odds = self.plan.odds;
        if self.rng.one_in(odds.split) && region != Region::Slot && !word {
            let by = course.moves[0] + 1_000_000;
            self.split(&mut course, by);
        }
        if self.rng.one_in(odds.slow) {
            self.count("a slow write");
            let later = may_be_late && self.rng.one_in(3);
            let wait = self.rng.between(1_000_000, if later { late } else { soon });
            course = Course { moves: vec![wait], returns: wait + 50_000, harmful: wait > soon && !word, ..course };
        }
        if self.rng.one_in(odds.write_error) {
            course.ok = false;
            match self.rng.below(3) {
                0 => {
                    self.count("a write fails");
                    course.moves.clear();
                }
                1 => self.count("a write fails and has landed"),
                // What lands over newer bytes of the tables harms them, however soon.
                _ if may_be_late || region == Region::Slot => {
                    self.count("a write fails and lands later");
                    let wait = self.rng.between(1_000_000, if may_be_late { late } else { soon });
                    course.harmful = may_be_late && !word;
                    course.moves = vec![wait];
                }
                _ => course.moves.clear(),
            }
        } else if may_be_late && !word && self.rng.one_in(odds.misdirected) {
            course.astray = self.other_block(region, block);
            course.harmful = course.astray.is_some();
        }
        course
    }

    /// As a write that harms nothing whenever it lands; there are few commands, so they go wrong more often.
    pub(crate) fn course_of_command(&mut self, host: HostId) -> Course {
        let odds = self.plan.odds;
        let oftener = |n: usize| if n == 0 { 0 } else { (n / 4).max(6) };
        self.plan.odds.write_error = oftener(odds.write_error);
        self.plan.odds.slow = oftener(odds.slow);
        let course = self.course_of_write(host, Region::Word, 0);
        self.plan.odds = odds;
        course
    }

    /// Another block than this one, of a structure that is whole.
    fn other_block(&mut self, region: Region, block: usize) -> Option<usize> {
        let g = &self.disk.geometry;
        let start = usize::try_from(g.page_copy(ondisk::SlotIndex(0), 0).offset).expect("a small disk");
        let end = usize::try_from(g.free_area().start).expect("a small disk");
        let at = start + self.rng.below(end - start);
        let (other, first, _) = self.disk.block_at(at);
        let harmless = matches!(other, Region::Page) && region != Region::Page && self.disk.may_harm(other, first);
        if !harmless || first == block {
            return None;
        }
        self.count("a write goes astray");
        Some(first)
    }
}
