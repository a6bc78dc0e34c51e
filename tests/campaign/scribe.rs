//! A program that writes: numbered, checksummed records, each stable before its number is told outside.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a record, so that a record never lies in two pages.
const RECORD: usize = 64;
/// Between two records.
const PAUSE: Duration = Duration::from_millis(3);

/// The record with a number: anybody can tell whether it is right.
fn record(name: &str, number: u64) -> [u8; RECORD] {
    let text = format!("{number:>12} {name}");
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut record = [b' '; RECORD];
    let line = format!("{text:<46.46} {sum:016x}");
    record[..63].copy_from_slice(&line.as_bytes()[..63]);
    record[63] = b'\n';
    record
}

/// The process: writes until its standard input ends or it is refused, and tells each number on standard output.
pub(crate) fn write(path: &Path, name: &str) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let _ = std::io::stdin().read(&mut [0]);
            stop.store(true, Ordering::Relaxed);
        }
    });
    match append(path, name, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("refused {error}");
            ExitCode::FAILURE
        }
    }
}

fn append(path: &Path, name: &str, stop: &AtomicBool) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
    // The name is stable, too, before the first number is told.
    File::open(path.parent().unwrap_or(path))?.sync_all()?;
    for number in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        file.write_all(&record(name, number))?;
        file.sync_all()?;
        println!("{number}");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// What a file of records must have in it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The file's name, which is in every record.
    pub(crate) name: String,
    /// The last number that was told to be stable.
    pub(crate) stable: Arc<AtomicU64>,
}

impl Entry {
    /// Every record that was told to be stable is there, right and in its order.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn check(&self, directory: &Path) -> Result<u64, String> {
        let stable = self.stable.load(Ordering::SeqCst);
        if stable == 0 {
            return Ok(0);
        }
        let path = directory.join(&self.name);
        let bytes =
            std::fs::read(&path).map_err(|e| format!("{}: {e}; {stable} records were stable", path.display()))?;
        for number in 1..=stable {
            let at = usize::try_from(number - 1).expect("few") * RECORD;
            let found = bytes.get(at..at + RECORD);
            if found != Some(&record(&self.name, number)[..]) {
                let found = found.map(String::from_utf8_lossy);
                let path = path.display();
                return Err(format!("{path}: record {number} of {stable} that were stable is not there: {found:?}"));
            }
        }
        Ok(stable)
    }
}

/// A running scribe.
#[derive(Debug)]
pub(crate) struct Scribe {
    child: Child,
}

impl Scribe {
    pub(crate) fn start(directory: &Path, entry: &Entry) -> std::io::Result<Self> {
        let path: PathBuf = directory.join(&entry.name);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("scribe").arg(path).arg(&entry.name).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let stable = Arc::clone(&entry.stable);
        std::thread::spawn(move || {
            // The last line may say why it was refused.
            for number in lines.map_while(Result::ok).filter_map(|line| line.parse().ok()) {
                stable.store(number, Ordering::SeqCst);
            }
        });
        Ok(Self { child })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Asks it to end after its record; false if it does not within `limit` (its file system may stand still).
    pub(crate) fn end(&mut self, limit: Duration) -> bool {
        drop(self.child.stdin.take());
        let begun = Instant::now();
        while !self.has_ended() {
            if begun.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_stable_and_is_gone_or_wrong_is_found() {
        let directory = std::env::temp_dir().join(format!("volctl-records-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let entry = Entry { name: "r1-alice-1".into(), stable: Arc::new(AtomicU64::new(3)) };
        let path = directory.join(&entry.name);
        let put = |numbers: &[u64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| record(&entry.name, *n)).collect();
            std::fs::write(&path, bytes).expect("written");
            entry.check(&directory)
        };
        assert_eq!(put(&[1, 2, 3, 4]), Ok(3), "more than was told is no harm");
        assert!(put(&[1, 2]).is_err());
        assert!(put(&[1, 3, 2]).is_err());
        std::fs::write(&path, [0; 192]).expect("written");
        assert!(entry.check(&directory).is_err());
        std::fs::remove_dir_all(&directory).expect("gone");
        assert!(entry.check(&directory).is_err());
    }
}
