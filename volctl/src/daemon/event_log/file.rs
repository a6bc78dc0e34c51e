//! `events.jsonl`: one JSON object a line, put aside as `events.jsonl.1` when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use lockdriver::trust::open_regular;

use super::FILE_NAME;
use crate::wire::event::EventRecord;

/// How much of the end of the file is read at the start, in bytes.
const TAIL_BYTES_MAX: u64 = 512 << 10;

/// The file, opened again after every failure.
pub(super) struct EventFile {
    dir: PathBuf,
    bytes_max: u64,
    open: Option<(File, u64)>,
}

impl EventFile {
    pub(super) fn new(dir: &Path, bytes_max: u64) -> Self {
        Self { dir: dir.to_owned(), bytes_max, open: None }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// Opens the file for appending, if it is not open, and ends a line that a crash or a full disk cut.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir)?;
        let mut file = open_regular(&self.path(), OpenOptions::new().create(true).append(true).read(true))?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        self.open = Some((file, bytes));
        Ok(())
    }

    /// Appends one event. After an error the file is opened anew with the next one.
    pub(super) fn append(&mut self, event: &EventRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let result = self.make_room(length).and_then(|()| self.open()).and_then(|()| match &mut self.open {
            Some((file, bytes)) => {
                file.write_all(&line)?;
                *bytes += length;
                Ok(())
            }
            None => Err(io::ErrorKind::NotFound.into()),
        });
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn make_room(&mut self, length: u64) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(_, bytes)| *bytes > 0 && bytes.saturating_add(length) > self.bytes_max) {
            self.open = None;
            fs::rename(self.path(), self.dir.join(format!("{FILE_NAME}.1")))?;
        }
        Ok(())
    }

    /// The last events of earlier runs, oldest first; lines that are none are passed over.
    pub(super) fn recent(&self, count: usize) -> Vec<EventRecord> {
        let mut events = Vec::new();
        for name in [format!("{FILE_NAME}.1"), FILE_NAME.to_owned()] {
            // What cannot be read is not there to show; that it cannot be written is said elsewhere.
            let tail = tail(&self.dir.join(name)).unwrap_or_default();
            events.extend(events_of(&tail));
        }
        let skip = events.len().saturating_sub(count);
        events.split_off(skip)
    }
}

/// The events of a file's lines; lines that are none are passed over. Public for the fuzzer.
pub fn events_of(bytes: &[u8]) -> impl Iterator<Item = EventRecord> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_regular(path, OpenOptions::new().read(true))?;
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
