//! What can happen.

use std::fmt;

/// One event, and who had just read what it changes. Nobody sees a read, so one that finds what the end of the reading would
/// find, too, is made there; every other one is made at the last moment before the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    pub(super) event: Event,
    /// A bit for each client.
    pub(super) read_before: u8,
}

/// What happens. Clients and slots by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Wants in.
    Begin(usize),
    /// The write of the slot lands, and returns.
    Write(usize),
    /// The write of the slot returns without a result, and has not landed.
    WriteUnknown(usize),
    /// A beat: the slot says again what its client wrote last.
    Beat(usize),
    /// A beat returns without a result, and has not landed.
    BeatUnknown(usize),
    /// The reading under way finds a sector of a slot bad.
    SampleBadly(usize, usize, u8),
    /// The reading finds the rest as it is now, is complete, and shows these slots as silent.
    Judge(usize, u8),
    /// `margin` passes.
    Wait(usize),
    /// Reads the header inside.
    Admit(usize),
    /// The new header is on the disk.
    Commit(usize),
    /// The same, and it reaps one who lives.
    CommitRobbing(usize, usize),
    /// Leaves.
    Release(usize),
    /// Its lease is over; what was under way never lands.
    Lapse(usize),
    /// Its lease is over with a write of its slot under way.
    LapseWriting(usize),
    /// Its lease is over with its header under way.
    LapseCommitting(usize),
    /// Its daemon is killed.
    Kill(usize),
    /// The late write lands.
    Land,
    /// A new daemon begins to log on.
    Start(usize),
    /// A log-on reads.
    LogonRead(usize),
    /// A log-on's write lands, and returns.
    LogonWrite(usize),
}

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

fn names(clients: u8) -> String {
    let names: Vec<&str> = (0..NAMES.len()).filter(|c| clients >> c & 1 == 1).map(|c| NAMES[c]).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.fmt(f)?;
        if self.read_before != 0 {
            write!(f, "; {} had just read what this changes", names(self.read_before))?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (c, what) = match *self {
            Self::Begin(c) => (c, "wants in".to_owned()),
            Self::Write(c) => (c, "writes its slot".to_owned()),
            Self::WriteUnknown(c) => (c, "writes its slot without a result; the write is still on its way".to_owned()),
            Self::Beat(c) => (c, "beats, which mends its slot".to_owned()),
            Self::BeatUnknown(c) => (c, "beats without a result; the write is still on its way".to_owned()),
            Self::SampleBadly(c, slot, n) => (c, format!("reads the slot of {}, sector {n} badly", NAMES[slot])),
            Self::Judge(c, silent) => (c, format!("has read all, and finds {} silent", names(silent))),
            Self::Wait(c) => (c, "waits out its doubt".to_owned()),
            Self::Admit(c) => (c, "reads the header inside".to_owned()),
            Self::Commit(c) => (c, "commits".to_owned()),
            Self::CommitRobbing(c, whom) => (c, format!("commits that {} is reaped, who lives", NAMES[whom])),
            Self::Release(c) => (c, "leaves".to_owned()),
            Self::Lapse(c) => (c, "stands still until its lease is over".to_owned()),
            Self::LapseWriting(c) => {
                (c, "stands still until its lease is over, a write of its slot under way".to_owned())
            }
            Self::LapseCommitting(c) => (c, "stands still until its lease is over, its header under way".to_owned()),
            Self::Kill(c) => (c, "is killed".to_owned()),
            Self::Land => return f.write_str("the late write lands"),
            Self::Start(c) => (c, "is started anew".to_owned()),
            Self::LogonRead(c) => (c, "reads for its log-on".to_owned()),
            Self::LogonWrite(c) => (c, "writes its claim".to_owned()),
        };
        write!(f, "{} {what}", NAMES[c])
    }
}
