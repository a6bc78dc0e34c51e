//! Every verb of an administrator, run as the command line runs it, on an image; what it writes is recorded.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use lockdriver::check::{self, BlockId, blocks};
use lockdriver::device::Access;
use lockdriver::format::{FormatStep, format};
use ondisk::{CellId, Geometry, Label, LockKind, SlotIndex, Timings, Uuid, VolumeIndex};
use tempfile::TempDir;
use volctl::cli::output::Ui;
use volctl::control::admin_login;
use volctl::control::maintain::Stillness;
use volctl::control::open::ControlVolume;
use volctl::wire::outcome::ExitCode;

use super::disk::{Image, Recorder, Recording, Step};

/// Lock files lie where `$VOLCTL_RUN` says, which only a process of its own can be told: the test runs itself once more.
/// True in that process.
pub(crate) fn has_place_for_locks(test: &str) -> bool {
    const DONE: &str = "VOLCTL_TEST_HAS_RUN_DIR";
    if std::env::var_os(DONE).is_some() {
        return true;
    }
    let run = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let args = ["--exact", test, "--nocapture", "--test-threads=1"];
    let ended = Command::new(this).args(args).env(DONE, "1").env("VOLCTL_RUN", run.path()).status().unwrap();
    assert!(ended.success(), "{test} failed in a process of its own: see above");
    false
}

/// What a verb said on stderr.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs one command line in this process.
pub(crate) fn run(args: &[&str]) -> (ExitCode, String) {
    let said = Said::default();
    let mut ui = Ui::new(Box::new(io::sink()), Box::new(said.clone()));
    let line = std::iter::once("volctl").chain(args.iter().copied()).map(OsString::from).collect();
    let code = volctl::cli::run(line, &mut ui);
    let said = String::from_utf8_lossy(&said.0.lock().unwrap()).into_owned();
    (code, said)
}

/// A machine that does many things at once loses no lease with these.
pub(crate) const PATIENT: &[&str] = &["--beat", "10s", "--lease", "60s", "--dead", "80s"];

/// A control volume on an image, and what the verbs did to it.
pub(crate) struct Office {
    dir: TempDir,
    pub(super) recordings: Vec<Recording>,
}

impl Office {
    fn new() -> Self {
        Self::with(PATIENT)
    }

    /// With other timings.
    pub(crate) fn with(times: &[&str]) -> Self {
        let office = Self { dir: tempfile::tempdir().unwrap(), recordings: Vec::new() };
        let sizes = ["--max-clients", "2", "--max-volumes", "2", "--size", "512K"];
        let control = office.control();
        let args = [&["init", control.to_str().unwrap()][..], &sizes, times].concat();
        let (code, said) = run(&args);
        assert_eq!(code, ExitCode::Done, "{said}");
        office
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.dir.path().join("control.img")
    }

    pub(crate) fn image(&self) -> Image {
        Image(std::fs::read(self.control()).unwrap())
    }

    pub(crate) fn put(&self, image: &Image) {
        std::fs::write(self.control(), &image.0).unwrap();
    }

    /// An image that begins like an ext4; nothing mounts it.
    pub(crate) fn ext4(&self, name: &str, number: u8) -> String {
        let path = self.dir.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(4 << 20).unwrap();
        let mut superblock = [0; 1024];
        superblock[0x04..0x08].copy_from_slice(&4096u32.to_le_bytes());
        superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        superblock[0x5c] = 4;
        superblock[0x68..0x78].fill(number);
        file.write_all_at(&superblock, 1024).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs a verb with `--control`, and keeps what it did to the control volume.
    pub(crate) fn verb(&mut self, args: &[&str]) {
        let base = self.image();
        let taken: Arc<Mutex<Option<Arc<Recorder>>>> = Arc::default();
        let layer = {
            let taken = Arc::clone(&taken);
            move |under| -> Arc<dyn lockdriver::device::BlockDevice> {
                let recorder = Recorder::over(under);
                *taken.lock().unwrap() = Some(Arc::clone(&recorder));
                recorder
            }
        };
        let control = self.control();
        let (code, said) =
            volctl::admin::through(layer, || run(&[args, &["--control", control.to_str().unwrap()]].concat()));
        assert_eq!(code, ExitCode::Done, "{args:?}: {said}");
        let steps = taken.lock().unwrap().take().unwrap().take();
        let recording = Recording { name: args.join(" "), base, steps };
        // The recorder saw everything: played back, it is the image.
        assert!(*recording.prefixes().last().unwrap() == self.image(), "{}: recorded in full", recording.name);
        self.recordings.push(recording);
    }

    /// Repairs under the semaphore, as `check --repair` does once it is logged on, and keeps what that did.
    pub(super) fn repair(&mut self, name: &str, watch: bool) {
        let base = self.image();
        let mut volume = ControlVolume::open(&self.control(), Access::ReadWrite).unwrap();
        let recorder = Recorder::over(Arc::clone(&volume.device));
        volume.device = recorder.clone();
        let plan = admin_login::run_on(volume, &mut |_| (), |session, _| {
            let still = if watch { session.watch_still()? } else { Stillness::default() };
            session.repair(still, false)
        });
        assert!(!plan.unwrap().1.writes.is_empty(), "{name}");
        self.recordings.push(Recording { name: name.to_owned(), base, steps: recorder.take() });
    }
}

/// Every verb that changes the tables of clients and volumes.
pub(super) fn a_week() -> Vec<Recording> {
    let mut office = Office::new();
    let (one, two) = (office.ext4("one.img", 1), office.ext4("two.img", 2));
    office.verb(&["client", "add", "alice"]);
    office.verb(&["client", "add", "bob"]);
    office.verb(&["volume", "add", "footage", "--device", &one, "--readers", "exclusive"]);
    office.verb(&["volume", "add", "audio", "--device", &two]);
    office.verb(&["allow", "alice", "footage", "write"]);
    office.verb(&["allow", "bob", "footage", "read", "--auto-update", "off"]);
    office.verb(&["allow", "alice", "footage", "read", "--force"]);
    office.verb(&["set", "footage", "write-enabled", "off"]);
    office.verb(&["set-client", "alice", "auto-response", "idle"]);
    office.verb(&["set-client", "alice", "admin", "on"]);
    office.verb(&["set-client", "bob", "enabled", "off", "--force"]);
    office.verb(&["client", "remove", "bob"]);
    office.verb(&["volume", "remove", "audio", "--force"]);
    office.verb(&["volume", "remove", "footage"]);
    office.recordings
}

/// Repairs of one lost block of each kind that the tables have.
pub(super) fn mended_tables() -> Vec<Recording> {
    let mut office = Office::new();
    let one = office.ext4("one.img", 1);
    office.verb(&["client", "add", "alice"]);
    office.verb(&["volume", "add", "footage", "--device", &one]);
    office.verb(&["allow", "alice", "footage", "write"]);
    let whole = office.image();
    let report = check::check(&whole);
    let geometry = report.geometry().unwrap().clone();
    let tables = report.tables.unwrap();
    office.recordings.clear();
    let (client, volume) = (CellId::Client(SlotIndex(0)), CellId::Volume(VolumeIndex(0)));
    let current = |cell| tables.header.cells[geometry.cell_index(cell)].version;
    let lost = [
        BlockId::Superblock(0),
        BlockId::Superblock(1),
        BlockId::Header(0),
        BlockId::Header(1),
        BlockId::Cell(client, current(client), 0),
        BlockId::Cell(volume, current(volume), 1),
        BlockId::Cell(volume, 1 - current(volume), 0),
    ];
    for id in lost {
        office.put(&without(&whole, &geometry, id));
        office.repair(&format!("repair of {id}"), false);
    }
    office.recordings
}

/// Repairs of what belongs to a client that has gone: all slots are watched for the death time first.
pub(super) fn mended_client() -> Vec<Recording> {
    let mut office = Office::with(&["--beat", "1s", "--lease", "8s", "--dead", "10s"]);
    office.verb(&["client", "add", "alice"]);
    let whole = office.image();
    let geometry = check::check(&whole).geometry().unwrap().clone();
    office.recordings.clear();
    let slot = SlotIndex(0);
    let both = without(&without(&whole, &geometry, BlockId::Slot(slot, 0)), &geometry, BlockId::Page(slot, 1));
    office.put(&both);
    office.repair("repair of a slot and a page", true);
    office.recordings
}

fn without(image: &Image, geometry: &Geometry, id: BlockId) -> Image {
    let (_, offset, len) = blocks(geometry).find(|b| b.0 == id).unwrap();
    let mut image = image.clone();
    image.put(usize::try_from(offset).unwrap(), &vec![0xee; len]);
    image
}

/// The steps of `init` over whatever is there.
pub(super) fn init_over(base: Image) -> Recording {
    let len = base.0.len() as u64;
    let geometry = Geometry::plan(Uuid::from_u128(99), 2, 2, 512, len).unwrap();
    let superblock = geometry.superblock(LockKind::Bakery, Timings::default(), Label::default(), 1);
    let steps = format(&geometry, &superblock, None).map(|step| match step {
        FormatStep::Write { offset, bytes } => {
            Step::Write { offset: usize::try_from(offset).unwrap(), bytes, fua: false }
        }
        FormatStep::Flush => Step::Flush,
    });
    Recording { name: "init over a control volume".to_owned(), base, steps: steps.collect() }
}
