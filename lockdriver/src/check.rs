//! Offline verification of a whole control volume, and the plan that restores its redundancy (sections 4 and 11).
//!
//! [`check`] reads every block that `init` formats and says of each whether it can be believed; [`repair`] turns what
//! it found into an ordered list of writes. Neither decides who may run it: see the functions.

mod examine;
mod finding;
mod map;
mod repair;
pub mod semantics;
mod survey;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use serde::Serialize;

use crate::device::{AlignedBuf, BlockDevice};
use crate::tables::Tables;

pub use finding::{BlockId, Finding, Recovered, Severity, Violation, Wrong};
pub use map::{Decoded, blocks, look, padding};
pub use repair::{RepairError, RepairOptions, RepairPlan, Write, repair};
use survey::Survey;

/// How often a check starts anew because the tables changed under it.
const ROUNDS: usize = 5;

/// Something that bytes can be read from: a device, an image, a buffer.
pub trait ReadAt {
    /// Reads exactly `len` bytes from byte `offset` on; offset and length are multiples of 512.
    ///
    /// # Errors
    /// The device's error, or that the bytes are not there; that block is then reported as unreadable.
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// Bytes in all.
    ///
    /// # Errors
    /// When the size cannot be found out; the trailing superblock is then not looked for unless the first names it.
    fn size(&self) -> io::Result<u64>;
}

/// The control volume's device as a source.
pub struct OnDevice<'a>(pub &'a dyn BlockDevice);

impl ReadAt for OnDevice<'_> {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = AlignedBuf::zeroed(len);
        self.0.read_at(offset, &mut buffer)?;
        Ok(buffer.to_vec())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len_bytes())
    }
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Everything that is not as it should be, superblock first.
    pub findings: Vec<Finding>,
    /// Nothing was found.
    pub clean: bool,
    /// What the tables say; None when they cannot be recovered as a whole.
    pub tables: Option<Tables>,
    /// Bytes that belong to no block of this version and are not looked at.
    pub padding: Vec<Range<u64>>,
    #[serde(skip)]
    survey: Option<Box<Survey>>,
}

impl Report {
    /// The gravest finding.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }

    /// The geometry, when there is a usable superblock.
    pub fn geometry(&self) -> Option<&ondisk::Geometry> {
        Some(&self.survey.as_ref()?.geometry)
    }

    /// Nobody is logged on, and every slot can be read: what was found is not somebody's work half done.
    pub fn is_quiet(&self) -> bool {
        let Some(survey) = self.survey.as_ref() else { return false };
        survey.geometry.slots().all(|slot| matches!(survey.slot(slot), (Some(sector), true) if !sector.logged_on))
    }

    /// The superblock, when there is a usable one.
    pub fn superblock(&self) -> Option<&ondisk::Superblock> {
        Some(&self.survey.as_ref()?.superblock)
    }
}

/// Verifies a whole control volume. Clients may be alive: when the tables change meanwhile the check starts anew;
/// a commit under way then shows as an unfinished transaction, a page being written as copies one sequence apart.
pub fn check(source: &dyn ReadAt) -> Report {
    let mut rounds = 0;
    loop {
        rounds += 1;
        match Survey::take(source) {
            Ok((_, stable)) if !stable && rounds < ROUNDS => {}
            Ok((survey, _)) => return report(survey),
            Err(findings) => {
                return Report { findings, clean: false, tables: None, padding: Vec::new(), survey: None };
            }
        }
    }
}

fn report(survey: Survey) -> Report {
    let findings = examine::findings(&survey);
    let lost = findings.iter().any(|f| f.severity == Severity::Lost);
    Report {
        clean: findings.is_empty(),
        findings,
        tables: if lost { None } else { survey.tables() },
        padding: padding(&survey.geometry),
        survey: Some(Box::new(survey)),
    }
}
