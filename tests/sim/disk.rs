//! The control volume: bytes, and I/O that is on its way.
//!
//! Each I/O has a moment (or several) at which its bytes move, and a later one at which its issuer hears of it. What may go
//! wrong keeps to the numbered assumptions of `docs/safety.md`: a slot write lands within `margin` or never (A3); a late,
//! torn or misdirected write of the tables, or a lost block, comes one at a time, until what it harmed was written again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use lockdriver::check::ReadAt;
use lockdriver::device::{BlockDevice, Durability};
use lockdriver::reservation::Commands;
use ondisk::Geometry;

use crate::reservations::{Answer, Command, Reservations};
use crate::threads::{Shared, pause};
use crate::world::{Event, HostId, ProcId, ThreadId, World};

/// Number of an I/O.
pub(crate) type IoId = u64;

const SECTOR: usize = 512;

/// What a place on the control volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Region {
    /// Superblocks and what belongs to nobody.
    Other,
    /// A slot sector.
    Slot,
    /// A copy of the table header.
    Header,
    /// A copy of a client page.
    Page,
    /// A block of a cell.
    Cell,
    /// The semaphore's word.
    Word,
}

/// An I/O on its way.
#[derive(Debug)]
pub(crate) struct Io {
    thread: ThreadId,
    proc: ProcId,
    pub(crate) host: HostId,
    pub(crate) write: bool,
    region: Region,
    pub(crate) offset: usize,
    data: Vec<u8>,
    /// It lands only where this is (COMPARE AND WRITE).
    expected: Option<Vec<u8>>,
    /// It is no write but this, and what came of it.
    command: Option<Command>,
    answer: Option<Answer>,
    /// Its first byte has moved, or was refused.
    pub(crate) judged: bool,
    /// A reservation was against it.
    refused: bool,
    /// A preemption has ended it.
    pub(crate) ended: bool,
    /// It was not there.
    differs: bool,
    /// It hit a sector that cannot be read.
    failed: bool,
    /// Parts that did not move yet.
    pub(crate) left: Vec<(usize, usize)>,
    /// The issuer has heard of it, or will not any more.
    returned: Option<bool>,
    /// The issuer has taken the result.
    taken: bool,
    /// When it was begun.
    begun: u64,
    /// It lands late or in the wrong place: what it writes over is harmed.
    harmful: bool,
}

/// The control volume.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Where everything lies.
    pub(crate) geometry: Geometry,
    /// What is on the medium.
    pub(crate) bytes: Vec<u8>,
    /// Sectors that give an error until they are written.
    pub(crate) unreadable: BTreeSet<usize>,
    /// Who may write it.
    pub(crate) reservations: Reservations,
    pub(crate) flying: BTreeMap<IoId, Io>,
    next: IoId,
    /// Blocks (region, first byte) that something went wrong with, until they are written again.
    pub(crate) harmed: BTreeSet<(Region, usize)>,
}

impl Disk {
    /// A formatted disk.
    pub(crate) fn new(geometry: Geometry, bytes: Vec<u8>) -> Self {
        Self {
            geometry,
            bytes,
            unreadable: BTreeSet::new(),
            reservations: Reservations::default(),
            flying: BTreeMap::new(),
            next: 0,
            harmed: BTreeSet::new(),
        }
    }

    /// What lies at a byte, and the block's first byte and length.
    pub(crate) fn block_at(&self, at: usize) -> (Region, usize, usize) {
        let g = &self.geometry;
        let place = |offset: u64| usize::try_from(offset).expect("a small disk");
        let within = |region, start: usize, count: usize, len: usize| {
            (start..start + count * len).contains(&at).then(|| (region, start + (at - start) / len * len, len))
        };
        let slots = within(Region::Slot, place(g.poll_area().start), 2 * g.slot_count(), g.stride());
        let headers = within(Region::Header, place(g.header_copy(0).offset), 2, g.header_bytes());
        let pages = within(
            Region::Page,
            place(g.page_copy(ondisk::SlotIndex(0), 0).offset),
            2 * usize::from(g.max_clients()),
            g.page_bytes(),
        );
        let cell = || {
            g.cells()
                .find_map(|cell| within(Region::Cell, place(g.cell_block(cell, 0, 0).offset), 4, g.cell_bytes(cell)))
        };
        let word = || {
            g.semaphore_area().and_then(|area| within(Region::Word, place(area.start), 1, place(area.end - area.start)))
        };
        slots.or(headers).or(pages).or_else(cell).or_else(word).unwrap_or((Region::Other, at / SECTOR * SECTOR, SECTOR))
    }

    /// May a block of this region be harmed now? One thing at a time in the tables, and in a client's page and slot.
    pub(crate) fn may_harm(&self, region: Region, block: usize) -> bool {
        let tables = |r: Region| matches!(r, Region::Header | Region::Cell);
        let near = |other: usize, len: usize| block.abs_diff(other) <= len;
        let flying = self.flying.values().any(|io| io.write && io.harmful);
        let count = self.harmed.len();
        match region {
            Region::Other | Region::Word => false,
            Region::Header | Region::Cell => !flying && !self.harmed.iter().any(|(r, _)| tables(*r)),
            Region::Page => {
                !flying && !self.harmed.iter().any(|(r, b)| *r == Region::Page && near(*b, self.geometry.page_bytes()))
            }
            Region::Slot => {
                count < 3 && !self.harmed.iter().any(|(r, b)| *r == Region::Slot && near(*b, self.geometry.stride()))
            }
        }
    }

    /// What the device answers to a command, if its issuer still waits.
    pub(crate) fn answer(&mut self, id: IoId, answer: Answer) {
        if let Some(io) = self.flying.get_mut(&id) {
            io.answer = Some(answer);
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for sector in at / SECTOR..(at + bytes.len()).div_ceil(SECTOR) {
            self.unreadable.remove(&sector);
        }
    }

    /// Is I/O under way that began before then? What was slow in times of trouble may come long after.
    pub(crate) fn flies_since(&self, before: u64) -> bool {
        self.flying.values().any(|io| io.begun < before)
    }

    /// Has the process I/O in the kernel? Then its end waits for it, and its lock file stays locked.
    pub(crate) fn flies_for(&self, proc: ProcId) -> bool {
        self.flying.values().any(|io| io.proc == proc && io.returned.is_none())
    }

    /// The block cannot be read any more, or reads as something else.
    pub(crate) fn rot(&mut self, region: Region, block: usize, len: usize, unreadable: bool) {
        self.harmed.insert((region, block));
        if unreadable {
            self.unreadable.extend(block / SECTOR..(block + len) / SECTOR);
        } else {
            self.bytes[block + len / 3] ^= 0x10;
        }
    }
}

impl ReadAt for Disk {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        if (at / SECTOR..(at + len).div_ceil(SECTOR)).any(|s| self.unreadable.contains(&s)) {
            return Err(io::Error::other("an unreadable sector"));
        }
        self.bytes.get(at..at + len).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}

impl World {
    fn submit(&mut self, proc: ProcId, act: Act, offset: u64) -> IoId {
        let (len, data, expected, command) = match act {
            Act::Read { len } => (len, Vec::new(), None, None),
            Act::Write { data } => (data.len(), data, None, None),
            Act::Exchange { expected, data } => (data.len(), data, Some(expected), None),
            Act::Command(command) => (0, Vec::new(), None, Some(command)),
        };
        let write = command.is_some() || !data.is_empty();
        let thread = self.running.expect("a simulated thread has the turn");
        let host = self.procs[proc].host;
        let at = usize::try_from(offset).expect("a small disk");
        let (region, block, _) = match command {
            // As late as the word, and as harmless.
            Some(_) => (Region::Word, 0, 0),
            None => self.disk.block_at(at),
        };
        let course = if self.is_tender(proc) {
            self.usual_course()
        } else if command.is_some() {
            self.course_of_command(host)
        } else if write {
            self.course_of_write(host, region, block)
        } else {
            self.course_of_read(host)
        };
        if write && command.is_none() {
            self.look_at_submission(proc, region, at, &data);
            self.note(|w| {
                let how = if course.ok { "" } else { ", gives an error" };
                let when =
                    course.moves.first().map_or("never lands".into(), |t| format!("lands after {} us", t / 1000));
                format!("{}: writes {} bytes at {at} ({region:?}), {when}{how}", w.name(host), data.len())
            });
        }
        if course.returns > 20_000_000 {
            self.is_slow_until(proc, self.now + course.returns);
        }
        let id = self.disk.next;
        self.disk.next += 1;
        let parts = course.moves.len();
        // Cut anywhere, not at sectors only.
        let cut = |i: usize| if i == parts { len } else { (len * i / parts).next_multiple_of(8).min(len) };
        let left: Vec<(usize, usize)> = (0..parts).map(|i| (cut(i), cut(i + 1))).collect();
        for ((from, to), after) in left.iter().copied().zip(&course.moves) {
            self.at(self.now + after, Event::Moves { io: id, from, to });
        }
        self.at(self.now + course.returns, Event::Returns { io: id, ok: course.ok });
        let io = Io {
            thread,
            proc,
            host,
            write,
            region,
            offset: course.astray.unwrap_or(at),
            data,
            expected,
            command,
            answer: None,
            judged: false,
            refused: false,
            ended: false,
            differs: false,
            failed: false,
            left,
            returned: None,
            taken: false,
            begun: self.now,
            harmful: course.harmful,
        };
        if let Some(stray) = course.astray {
            // The right place keeps what it had, the wrong one is lost.
            self.disk.harmed.insert((region, block));
            let (other, first, _) = self.disk.block_at(stray);
            self.disk.harmed.insert((other, first));
        }
        self.disk.flying.insert(id, io);
        id
    }

    /// Bytes move, or a command is carried out.
    pub(crate) fn move_bytes(&mut self, id: IoId, from: usize, to: usize) {
        let Some(io) = self.disk.flying.get_mut(&id) else { return };
        let Some(part) = io.left.iter().position(|part| *part == (from, to)) else { return };
        io.left.swap_remove(part);
        let range = io.offset + from..io.offset + to;
        if !io.write {
            let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
            io.failed |= self.disk.unreadable.range(sectors).next().is_some();
            if from == io.data.len() {
                io.data.extend_from_slice(&self.disk.bytes[range]);
            } else {
                // Parts come in any order.
                io.data.resize(io.data.len().max(to), 0);
                io.data[from..to].copy_from_slice(&self.disk.bytes[range]);
            }
            return;
        }
        if !std::mem::replace(&mut io.judged, true) {
            io.refused = io.command.is_none() && !io.ended && !self.disk.reservations.may_write(io.host);
        }
        let (ended, refused, host, command) = (io.ended, io.refused, io.host, io.command);
        io.differs = !refused && io.expected.as_ref().is_some_and(|expected| *expected != self.disk.bytes[range]);
        if refused && io.left.is_empty() {
            self.count("a write is refused");
            self.note(|w| format!("{}: its write is refused", w.name(host)));
        } else if let Some(command) = command.filter(|_| !ended) {
            self.carry_out(id, host, command);
        } else if !ended && !refused {
            self.land_part(id, from, to);
        }
        // Whoever stalls takes the result of a write that failed and landed late after that.
        let Some(io) = self.disk.flying.get(&id) else { return };
        if io.left.is_empty() && (io.taken || self.procs[io.proc].dead) {
            self.disk.flying.remove(&id);
        }
    }

    fn land_part(&mut self, id: IoId, from: usize, to: usize) {
        let io = &self.disk.flying[&id];
        if io.differs {
            return;
        }
        let (at, bytes) = (io.offset + from, io.data[from..to].to_vec());
        let (harmful, whole, host) = (io.harmful, io.left.is_empty(), io.host);
        let (region, block, _) = self.disk.block_at(at);
        self.disk.put(at, &bytes);
        if harmful {
            self.note(|w| format!("a late or stray write of {} lands at {at} ({region:?})", w.name(host)));
            self.disk.harmed.insert((region, block));
        } else if whole {
            self.disk.harmed.remove(&(region, block));
        }
        (self.oracle.writer, self.oracle.late) = (Some(host), harmful);
        self.look_at_landing(region);
        (self.oracle.writer, self.oracle.late) = (None, false);
    }

    /// The issuer hears of its I/O.
    pub(crate) fn return_io(&mut self, id: IoId, ok: bool) {
        let Some(io) = self.disk.flying.get_mut(&id) else { return };
        io.returned = Some(ok && !io.failed && !io.ended);
        let (thread, proc) = (io.thread, io.proc);
        if self.procs[proc].dead {
            if io.left.is_empty() || !io.write {
                self.disk.flying.remove(&id);
            }
            return;
        }
        self.wake(thread);
    }

    /// A host loses its power: what it had under way lands, or does not, or in part.
    pub(crate) fn cut_io(&mut self, host: HostId) {
        let ids: Vec<IoId> = self.disk.flying.iter().filter(|(_, io)| io.host == host).map(|(id, _)| *id).collect();
        for id in ids {
            let io = &self.disk.flying[&id];
            let (write, whole, region, at, len) = (io.write, io.left.len() == 1, io.region, io.offset, io.data.len());
            let (_, block, _) = self.disk.block_at(at);
            match self.rng.below(3) {
                _ if !write => drop(self.disk.flying.remove(&id)),
                0 => drop(self.disk.flying.remove(&id)),
                1 if whole && self.disk.may_harm(region, block) => {
                    let io = self.disk.flying.remove(&id).expect("it flies");
                    let cut = self.rng.between(1, len as u64 - 1);
                    let cut = usize::try_from(cut).expect("a short write");
                    self.count("a torn write");
                    self.note(|w| format!("{}: its write at {at} is torn after {cut} bytes", w.name(host)));
                    self.disk.put(at, &io.data[..cut]);
                    self.disk.harmed.insert((region, block));
                    self.look_at_landing(region);
                }
                _ => {}
            }
        }
    }

    fn take_result(&mut self, id: IoId) -> Option<Taken> {
        let io = self.disk.flying.get_mut(&id)?;
        let ok = io.returned?;
        io.taken = true;
        let (differs, refused, answer) = (io.differs, io.refused, io.answer.take());
        let data = if io.write { Vec::new() } else { std::mem::take(&mut io.data) };
        if io.left.is_empty() || !io.write {
            self.disk.flying.remove(&id);
        }
        Some(Taken { ok, data, differs, refused, answer })
    }
}

/// What is asked of the disk.
pub(crate) enum Act {
    Read {
        len: usize,
    },
    Write {
        data: Vec<u8>,
    },
    /// Lands if `expected` is there.
    Exchange {
        expected: Vec<u8>,
        data: Vec<u8>,
    },
    Command(Command),
}

/// What an issuer hears.
pub(crate) struct Taken {
    ok: bool,
    data: Vec<u8>,
    pub(crate) differs: bool,
    refused: bool,
    pub(crate) answer: Option<Answer>,
}

/// The control volume, as one process reaches it.
pub(crate) struct SimDevice {
    /// The world.
    pub(crate) shared: Shared,
    /// The process.
    pub(crate) proc: ProcId,
    /// Its length.
    pub(crate) len: u64,
}

impl SimDevice {
    pub(crate) fn run(&self, act: Act, offset: u64) -> io::Result<Taken> {
        if self.shared.world().procs[self.proc].dead {
            // Its threads run out in turn, also one that never rests.
            pause(&self.shared, None, false);
            return Err(io::Error::other("the process is dead"));
        }
        let id = {
            let mut world = self.shared.world();
            world.progress(self.proc);
            world.submit(self.proc, act, offset)
        };
        loop {
            pause(&self.shared, None, false);
            let mut world = self.shared.world();
            if world.procs[self.proc].dead {
                return Err(io::Error::other("the process is dead"));
            }
            match world.take_result(id) {
                Some(taken) if taken.ok && taken.refused => return Err(io::Error::from_raw_os_error(libc::EBADE)),
                Some(taken) if taken.ok => return Ok(taken),
                Some(_) => return Err(io::Error::other("an I/O error")),
                None => {}
            }
        }
    }
}

impl BlockDevice for SimDevice {
    fn len_bytes(&self) -> u64 {
        self.len
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn physical_block_bytes(&self) -> u32 {
        512
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let taken = self.run(Act::Read { len: buf.len() }, offset)?;
        buf.copy_from_slice(&taken.data);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], _durability: Durability) -> io::Result<()> {
        self.run(Act::Write { data: data.to_vec() }, offset).map(drop)
    }

    fn commands(&self) -> Option<&dyn Commands> {
        Some(self)
    }

    fn flush(&self) -> io::Result<()> {
        // Everything that landed is stable: volatile caches are the crash points' matter.
        volctl::control::machine::Machine::sleep(
            &crate::threads::SimMachine { shared: self.shared.clone(), proc: self.proc },
            Duration::from_micros(100),
        );
        if self.shared.world().procs[self.proc].dead {
            return Err(io::Error::other("the process is dead"));
        }
        Ok(())
    }
}
