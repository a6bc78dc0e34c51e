//! Bytes of SCSI commands, sense data, and NVMe reservation reports: encoders and decoders without any I/O.
//!
//! What a target answers is foreign: every length in it is held against the bytes that are really there.

use std::fmt;

use crate::reservation::{Held, Kind};

/// SAM status of a command that went well.
pub const GOOD: u8 = 0x00;
/// The target has sense data to say what went wrong.
pub const CHECK_CONDITION: u8 = 0x02;
/// The target holds a reservation against this host.
pub const RESERVATION_CONFLICT: u8 = 0x18;

/// Sense keys that are told apart.
mod key {
    pub(super) const ILLEGAL_REQUEST: u8 = 0x5;
    pub(super) const UNIT_ATTENTION: u8 = 0x6;
    pub(super) const MISCOMPARE: u8 = 0xe;
}

/// Sense key, additional code and its qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

impl Sense {
    /// Reads fixed and descriptor format; None: there is no sense that means anything.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
        match bytes.first()? & 0x7f {
            0x70 | 0x71 if bytes.len() > 2 => Some(Self { key: at(2) & 0xf, asc: at(12), ascq: at(13) }),
            0x72 | 0x73 if bytes.len() > 1 => Some(Self { key: at(1) & 0xf, asc: at(2), ascq: at(3) }),
            _ => None,
        }
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sense {:x}/{:02x}/{:02x}", self.key, self.asc, self.ascq)
    }
}

/// How a command came back, as SG_IO tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// SAM status.
    pub status: u8,
    /// The host adapter's word: zero is good.
    pub host: u16,
    /// The driver's word: its low bits beside "there is sense".
    pub driver: u16,
    /// Sense, if there is any.
    pub sense: Option<Sense>,
    /// Bytes that were really moved.
    pub moved: usize,
}

impl fmt::Display for Completion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "status {:#x}", self.status)?;
        if let Some(sense) = self.sense {
            write!(out, ", {sense}")?;
        }
        if self.host != 0 || self.driver & 0x7 != 0 {
            write!(out, ", host {:#x}, driver {:#x}", self.host, self.driver)?;
        }
        Ok(())
    }
}

/// What a completion means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Done.
    Good,
    /// A compare found other bytes; nothing was written. No error.
    Miscompare,
    /// A reservation of somebody else stands against it; nothing was done.
    Conflict,
    /// The target does not know this command, or not so; nothing was done.
    Illegal,
    /// Something had happened before (a reset, a preemption) that the target wanted told first; nothing was done.
    Attention,
    /// Anything else: it may have been done.
    Unknown,
}

impl Completion {
    /// What it means. Whatever is not known for certain to have done nothing counts as unknown.
    pub fn meaning(&self) -> Meaning {
        // DRIVER_SENSE (8) only says that there is sense.
        if self.host != 0 || self.driver & 0x7 != 0 {
            return Meaning::Unknown;
        }
        match (self.status, self.sense.map(|s| s.key)) {
            (GOOD, None) => Meaning::Good,
            (RESERVATION_CONFLICT, _) => Meaning::Conflict,
            (CHECK_CONDITION, Some(key::MISCOMPARE)) => Meaning::Miscompare,
            (CHECK_CONDITION, Some(key::ILLEGAL_REQUEST)) => Meaning::Illegal,
            (CHECK_CONDITION, Some(key::UNIT_ATTENTION)) => Meaning::Attention,
            _ => Meaning::Unknown,
        }
    }
}

/// PERSISTENT RESERVE IN of 4096 bytes.
pub fn reserve_in(action: ReserveIn) -> [u8; 10] {
    let action = match action {
        ReserveIn::Keys => 0,
        ReserveIn::Reservation => 1,
    };
    [0x5e, action, 0, 0, 0, 0, 0, 0x10, 0, 0]
}

/// What PERSISTENT RESERVE IN is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveIn {
    /// All registered keys.
    Keys,
    /// Who holds the reservation.
    Reservation,
}

/// COMPARE AND WRITE of one block. Not FUA, which targets without a volatile cache refuse here: like a beat, the word must be
/// seen by all, and need not outlive a loss of power.
pub fn compare_and_write(lba: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x89;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[13] = 1;
    cdb
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
}

fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// The keys in the answer to READ KEYS, as many as are really there; None: it is no answer.
pub fn keys(answer: &[u8]) -> Option<Vec<u64>> {
    let length = usize::try_from(be32(answer, 4)?).ok()?;
    let list = answer.get(8..)?;
    Some(list[..length.min(list.len())].chunks_exact(8).filter_map(be64).collect())
}

/// The reservation in the answer to READ RESERVATION. The outer None: it is no answer.
#[allow(clippy::option_option, reason = "no answer and no reservation are two things")]
pub fn reservation(answer: &[u8]) -> Option<Option<Held>> {
    if be32(answer, 4)? < 16 {
        return Some(None);
    }
    let key = be64(answer.get(8..16)?)?;
    let kind = Kind::of_scsi(answer.get(21)? & 0xf);
    Some(Some(Held { key, kind }))
}

/// All keys, and the reservation.
pub type Report = (Vec<u64>, Option<Held>);

/// Keys and reservation in an extended NVMe reservation report; None: it is no answer.
pub fn nvme_report(report: &[u8]) -> Option<Report> {
    let count = usize::from(u16::from_le_bytes(report.get(5..7)?.try_into().ok()?));
    let kind = *report.get(4)?;
    let hosts: Vec<(bool, u64)> = report
        .get(64..)?
        .chunks_exact(64)
        .take(count)
        .map(|host| (host[2] & 1 == 1, host[8..16].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
        .collect();
    let holder = hosts.iter().find(|(holds, _)| *holds).map_or(0, |(_, key)| *key);
    let held = (kind != 0).then(|| Held { key: holder, kind: Kind::of_ioctl(u32::from(kind)) });
    Some((hosts.iter().map(|(_, key)| *key).collect(), held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense(bytes: &[u8]) -> Option<Sense> {
        Sense::decode(bytes)
    }

    fn completion(status: u8, sense: Option<Sense>) -> Completion {
        Completion { status, host: 0, driver: 0, sense, moved: 0 }
    }

    #[test]
    fn both_formats_of_sense_are_read() {
        let mut fixed = [0; 18];
        (fixed[0], fixed[2], fixed[12], fixed[13]) = (0xf0, 0x0e, 0x1d, 0x00);
        assert_eq!(sense(&fixed), Some(Sense { key: 0xe, asc: 0x1d, ascq: 0 }));
        assert_eq!(sense(&[0x72, 0x06, 0x2a, 0x03]), Some(Sense { key: 6, asc: 0x2a, ascq: 3 }));
        assert_eq!(sense(&[0x70, 0, 5]), Some(Sense { key: 5, asc: 0, ascq: 0 }));
    }

    #[test]
    fn sense_of_any_bytes_and_length_is_no_panic() {
        for code in 0..=255u8 {
            for len in 0..20 {
                let _ = sense(&vec![code; len]);
            }
        }
        assert_eq!((sense(&[]), sense(&[0x70]), sense(&[0x12; 18])), (None, None, None));
    }

    #[test]
    fn only_what_surely_did_nothing_is_not_unknown() {
        let with = |key| Some(Sense { key, asc: 0, ascq: 0 });
        for (status, sense, meaning) in [
            (GOOD, None, Meaning::Good),
            (CHECK_CONDITION, with(0xe), Meaning::Miscompare),
            (CHECK_CONDITION, with(5), Meaning::Illegal),
            (CHECK_CONDITION, with(6), Meaning::Attention),
            (RESERVATION_CONFLICT, None, Meaning::Conflict),
            (CHECK_CONDITION, with(0xb), Meaning::Unknown),
            (CHECK_CONDITION, None, Meaning::Unknown),
            (GOOD, with(1), Meaning::Unknown),
            (0x08, None, Meaning::Unknown),
            (0x28, None, Meaning::Unknown),
        ] {
            assert_eq!(completion(status, sense).meaning(), meaning, "{status:#x} {sense:?}");
        }
        let lost = Completion { host: 3, ..completion(GOOD, None) };
        assert_eq!(lost.meaning(), Meaning::Unknown, "a time-out in the adapter");
        let told = Completion { driver: 8, ..completion(CHECK_CONDITION, with(0xe)) };
        assert_eq!(told.meaning(), Meaning::Miscompare, "driver 8 only says that there is sense");
    }

    #[test]
    fn commands_are_laid_out_as_the_standards_have_them() {
        let caw = compare_and_write(0x0102_0304_0506_0708);
        assert_eq!(caw, [0x89, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 0]);
        assert_eq!(reserve_in(ReserveIn::Keys), [0x5e, 0, 0, 0, 0, 0, 0, 0x10, 0, 0]);
        assert_eq!(reserve_in(ReserveIn::Reservation)[1], 1);
    }

    #[test]
    fn keys_are_counted_by_the_bytes_that_are_there() {
        let mut answer = vec![0, 0, 0, 9, 0, 0, 0, 16];
        answer.extend(7u64.to_be_bytes());
        answer.extend(8u64.to_be_bytes());
        assert_eq!(keys(&answer), Some(vec![7, 8]));
        answer[7] = 0xff;
        answer[4] = 0xff;
        assert_eq!(keys(&answer), Some(vec![7, 8]), "a length beyond the answer");
        answer[4..8].copy_from_slice(&[0, 0, 0, 12]);
        assert_eq!(keys(&answer), Some(vec![7]), "half a key is none");
        assert_eq!(keys(&answer[..8]), Some(vec![]));
        assert_eq!(keys(&answer[..7]), None);
    }

    #[test]
    fn a_reservation_is_read_with_its_kind() {
        let mut answer = vec![0; 24];
        assert_eq!(reservation(&answer), Some(None));
        answer[7] = 16;
        answer[8..16].copy_from_slice(&77u64.to_be_bytes());
        for (code, kind) in [(5, Kind::WriteRegistrants), (7, Kind::WriteAllRegistrants), (1, Kind::Other(1))] {
            answer[21] = code;
            assert_eq!(reservation(&answer), Some(Some(Held { key: 77, kind })));
        }
        for len in 0..24 {
            let _ = reservation(&answer[..len]);
        }
        assert_eq!(reservation(&answer[..12]), None, "a reservation that is cut off is no answer");
    }

    #[test]
    fn an_nvme_report_is_read_as_far_as_it_reaches() {
        let mut report = vec![0; 64 + 2 * 64];
        report[4] = 5;
        report[5] = 2;
        report[64 + 8] = 0x11;
        report[128 + 2] = 1;
        report[128 + 8] = 0x22;
        let held = Held { key: 0x22, kind: Kind::WriteAllRegistrants };
        assert_eq!(nvme_report(&report), Some((vec![0x11, 0x22], Some(held))));
        report[5] = 0xff;
        report[6] = 0xff;
        assert_eq!(nvme_report(&report).unwrap().0.len(), 2, "more hosts than bytes");
        report[4] = 0;
        assert_eq!(nvme_report(&report).unwrap().1, None);
        for len in 0..64 {
            let _ = nvme_report(&report[..len]);
        }
    }
}
