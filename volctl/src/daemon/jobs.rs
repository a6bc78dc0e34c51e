//! The blocking work on volumes: gates, mounts, publishes. One job at a time for each volume, each on a thread of its own.
//!
//! What is open of a volume is kept in its [`Gates`]; the engine learns only what a job's end says.

mod fenced;
mod reader;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;
use lockdriver::gate::{Kind, Mark, Mode, Node, Opening};
use lockdriver::guardian::{Guardian, OpenedGate};
use ondisk::{Generation, ReadersPolicy, Uuid, VolumeTable};

pub use self::fenced::{Look, Sight};
use crate::control::session::Session;
use crate::engine::effect::Busy;
use crate::engine::{Job, JobDone};
use crate::volumes::busy::{BusyProcess, Scope, who_holds};
use crate::volumes::identify::{self, Identity};
use crate::volumes::inflight::{self, Inflight};
use crate::volumes::mounting::DetachedMount;
use crate::volumes::mounting::root::MountRoot;
use crate::volumes::opening::{OpeningError, Origin, open_volume};
use crate::volumes::publish::Sample;
use crate::volumes::publish::snapshots::forget_device;
use crate::wire::outcome::{Failure, one_line};
use ondisk::FsKind;

/// How long a file system check after a takeover may take (section 7).
pub const CHECK_BUDGET: Duration = Duration::from_secs(10);

/// A read gate with its mount, in its place or lazily detached.
#[derive(Debug)]
struct ReadGate {
    generation: Generation,
    node: Node,
    mount_id: u64,
}

/// The writer's gate with its mount.
#[derive(Debug)]
struct WriteGate {
    node: Node,
    mount_id: u64,
    sample: Option<Sample>,
    /// Sectors written when the last probe looked.
    written: Option<u64>,
    /// The newest generation published through it.
    published: Option<Generation>,
    /// A publish was begun and not ended.
    owed: bool,
    /// Snapshots that nobody holds any more, to be deleted with the next publish.
    doomed: Vec<Generation>,
}

/// What is open of one volume on this client.
#[derive(Debug, Default)]
pub struct Gates {
    reader: Option<ReadGate>,
    old: Vec<ReadGate>,
    writer: Option<WriteGate>,
    inflight: Option<Inflight>,
    /// While the writer's gate is open, on devices that have reservations.
    fence: Option<fenced::Fence>,
    /// Under which name it is mounted, whatever the tables call it by now.
    name: Option<String>,
}

impl Gates {
    fn has_mount(&self, id: u64) -> bool {
        let reads = self.reader.iter().chain(&self.old).any(|gate| gate.mount_id == id);
        reads || self.writer.as_ref().is_some_and(|gate| gate.mount_id == id)
    }
}

/// What a job needs to know of its volume.
#[derive(Debug, Clone)]
pub struct Spec {
    /// In the tables.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Where its device is on this host.
    pub device: PathBuf,
    /// Who says so.
    pub origin: Origin,
    /// How it is recognised.
    pub identity: Identity,
    /// Its file system.
    pub kind: FsKind,
    /// What readers may see.
    pub readers: ReadersPolicy,
}

impl Spec {
    /// From its table; the configuration's `[devices]` come first.
    pub fn of(table: &VolumeTable, devices: &BTreeMap<String, PathBuf>) -> Self {
        let device = devices.get(table.name.as_str()).cloned();
        let id = &table.identity;
        let wwid = Some(id.wwid.as_str()).filter(|w| !w.is_empty()).map(str::to_owned);
        Self {
            uuid: table.uuid,
            name: table.name.to_string(),
            origin: if device.is_some() { Origin::Configuration } else { Origin::Tables },
            device: device.unwrap_or_else(|| PathBuf::from(table.device.as_str())),
            identity: Identity {
                kind: table.fs,
                fs_uuid: id.fs_uuid,
                size_bytes: id.size,
                offset_bytes: if id.enveloped { ondisk::envelope::ENVELOPE_BYTES } else { 0 },
                wwid,
                partition_uuid: Some(id.partition).filter(|p| !p.is_nil()),
            },
            kind: table.fs,
            readers: table.readers,
        }
    }
}

/// Everything that a job works with; shared by all jobs of one login.
pub struct Workshop {
    /// The login.
    pub session: Arc<Session>,
    /// Makes and closes the gates; None with `gate = "none"`.
    pub guardian: Option<Guardian>,
    /// Where volumes are mounted.
    pub root: MountRoot,
    /// Configuration `takeover_check = "before"`.
    pub check_before: bool,
    /// Configuration `gate`.
    pub gate_kind: Kind,
    gates: Mutex<BTreeMap<Uuid, Arc<Mutex<Gates>>>>,
    /// Held while a mount is put into a place, so that no two volumes of one name come into it together.
    placing: Mutex<()>,
    /// Why nothing bounds this host's late writes to a volume, and which setting would.
    unbounded: Mutex<BTreeMap<Uuid, String>>,
    /// Why the last gate of a volume was a loop device although another kind is preferred: said once, and not at each refresh.
    instead: Mutex<BTreeMap<Uuid, String>>,
}

/// A job that came to its end.
pub struct Finished {
    /// Of which volume.
    pub volume: Uuid,
    /// How.
    pub done: JobDone,
}

impl Drop for Workshop {
    /// Whoever drops it last, the loop or a job that came late: the guardian closes what is left and exits. (Without a
    /// good-bye it would take the daemon for dead, and its mount root away.)
    fn drop(&mut self) {
        if let Some(Err(e)) = self.guardian.take().map(Guardian::bye) {
            tracing::warn!(event = "guardian.lost", error = %e, "the guardian does not say good-bye");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workshop {
    /// For one login.
    pub fn new(
        session: Arc<Session>,
        guardian: Option<Guardian>,
        root: MountRoot,
        (check_before, gate_kind): (bool, Kind),
    ) -> Self {
        Self {
            session,
            guardian,
            root,
            check_before,
            gate_kind,
            gates: Mutex::default(),
            placing: Mutex::default(),
            unbounded: Mutex::default(),
            instead: Mutex::default(),
        }
    }

    /// Runs a job on a thread of its own and reports its end.
    pub fn start(self: &Arc<Self>, spec: Spec, job: Job, ended: Sender<Finished>) {
        let shop = Arc::clone(self);
        let volume = spec.uuid;
        let report = ended.clone();
        let run = move || {
            let gates = Arc::clone(lock(&shop.gates).entry(volume).or_default());
            // Without a word of its end a job would count as running for ever, and the login could never end.
            let ran = catch_unwind(AssertUnwindSafe(|| shop.run(&spec, &job, &mut lock(&gates))));
            let done = ran.unwrap_or_else(|_| JobDone::Lost(failed(&spec, "a job broke off", &"see the daemon's log")));
            drop(shop);
            // The loop may have ended; then nobody needs to know.
            let _ = ended.send(Finished { volume, done });
        };
        if let Err(e) = std::thread::Builder::new().name("job".into()).spawn(run) {
            let failure = Failure::failed("no thread for a job", e.to_string(), "look at the system's limits");
            let _ = report.send(Finished { volume, done: JobDone::Failed(failure) });
        }
    }

    fn run(&self, spec: &Spec, job: &Job, gates: &mut Gates) -> JobDone {
        if self.guardian.is_none() {
            return gateless(job);
        }
        let name = gates.name.get_or_insert_with(|| spec.name.clone()).clone();
        let done = self.run_gated(&Spec { name, ..spec.clone() }, job, gates);
        if gates.reader.is_none() && gates.writer.is_none() {
            gates.name = None;
        }
        done
    }

    fn run_gated(&self, spec: &Spec, job: &Job, gates: &mut Gates) -> JobDone {
        let done = match job {
            Job::MountReader { generation } => self.mount_reader(spec, *generation, gates),
            Job::UnmountReader { force } => Ok(self.unmount_reader(spec, *force, gates)),
            Job::Retire => Ok(self.retire(spec, gates)),
            Job::MountWriter { check, breaks_foreign, .. } => self.mount_writer(spec, *check, *breaks_foreign, gates),
            Job::Publish { generation, always } => self.publish(spec, *generation, *always, gates),
            Job::Delete { generations } => Ok(self.delete(generations, gates)),
            Job::StopWriter { generation, always, force, check } => {
                return self.stop_writer(spec, *generation, (*always, *force, *check), gates);
            }
            Job::FenceWriter => {
                return self.close_under(
                    spec,
                    gates,
                    &failed(spec, "the write privilege is lost", &"the tables say so"),
                );
            }
            Job::Measure => Ok(JobDone::Measured { inflight_ms: self.measure_inflight(spec, gates) }),
            Job::Probe { files } => self.probe(spec, *files, gates),
        };
        done.unwrap_or_else(JobDone::Failed)
    }

    fn guardian(&self) -> Result<&Guardian, Failure> {
        self.guardian
            .as_ref()
            .ok_or_else(|| Failure::failed("no gate", "the configuration has gate = \"none\"", "set it"))
    }

    /// Opens the device and proves, on the very descriptor that the guardian gets, that it is the volume that the table means.
    fn prove(&self, spec: &Spec, write: bool) -> Result<File, Failure> {
        let file = open_device(spec, write)?;
        prove_opened(spec, &file)?;
        Ok(file)
    }

    fn open_gate(&self, spec: &Spec, backing: &File, mode: Mode) -> Result<OpenedGate, Failure> {
        let opening = Opening {
            mark: Mark {
                control: self.session.volume.superblock.uuid,
                volume: spec.uuid,
                slot: self.session.me.slot.0,
                incarnation: self.session.me.incarnation.0,
                mode,
                keep_after_lease: mode == Mode::ReadOnly && spec.readers == ReadersPolicy::Live,
            },
            offset: spec.identity.offset_bytes,
            size_limit: 0,
            block_size: 0,
            direct_io: true,
            kind: self.gate_kind,
        };
        let gate = self.guardian()?.open_gate(backing.as_fd(), &opening).map_err(|e| {
            Failure::failed(format!("{}: the gate does not open", spec.name), e.to_string(), "see `volctl log`")
        })?;
        if let Some(why) = gate.instead.clone()
            && lock(&self.instead).insert(spec.uuid, why.clone()).as_ref() != Some(&why)
        {
            tracing::info!(event = "gate.loop", volume = spec.name, %why, "its gates are loop devices");
        }
        if !gate.direct_io {
            tracing::warn!(
                event = "gate.buffered",
                volume = spec.name,
                "the kernel refused direct I/O: readers may see stale blocks"
            );
        }
        Ok(gate)
    }

    /// What is mounted in the volume's place, if anything is, is the volume's own: a table may have two volumes of one name,
    /// and whoever owns the root directory of a volume may mount something over it.
    fn own_place(&self, spec: &Spec, gates: &Gates) -> Result<(), Failure> {
        let found = self.root.mounted_id(&spec.name).map_err(|e| failed(spec, "its place cannot be looked at", &e))?;
        match found {
            Some(id) if !gates.has_mount(id) => Err(Failure::refused(
                format!("{}: its place is taken", spec.name),
                format!(
                    "rule one place, one volume: something else is mounted at {}, in its place or over it",
                    self.root.path_of(&spec.name).display()
                ),
                "unmount it (findmnt shows it); `volctl check` tells of two volumes of one name",
            )),
            _ => Ok(()),
        }
    }

    /// Puts a mount into the volume's place, under the one that is there if it is its own.
    fn put_in_place(&self, spec: &Spec, gates: &Gates, mount: DetachedMount) -> Result<u64, Failure> {
        let _one_by_one = lock(&self.placing);
        self.own_place(spec, gates)?;
        let placed = self.root.switch_beneath(mount, &spec.name);
        placed.map(|placed| placed.mount_id).map_err(|e| failed(spec, "its mount cannot be put in its place", &e))
    }

    fn measure_inflight(&self, spec: &Spec, gates: &mut Gates) -> u64 {
        let measured = gates.inflight.get_or_insert_with(|| inflight::measure(&spec.device));
        match measured {
            Inflight::Bounded(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Inflight::Unbounded(why) | Inflight::Unknown(why) => {
                lock(&self.unbounded).insert(spec.uuid, why.clone());
                u64::MAX
            }
        }
    }

    /// The volumes to which this host's late writes have no bound: why, and which setting would give one.
    pub fn unbounded(&self) -> BTreeMap<Uuid, String> {
        lock(&self.unbounded).clone()
    }

    /// Clears a gate whose mount is gone; best effort, since the guardian tries on.
    fn forget(&self, spec: &Spec, node: Node) {
        if spec.kind == FsKind::Btrfs {
            forget_device(&node.path());
        }
    }
}

fn open_device(spec: &Spec, write: bool) -> Result<File, Failure> {
    open_volume(&spec.device, spec.origin, write).map_err(|e| {
        let what = format!("{}: the device {} cannot be opened", spec.name, spec.device.display());
        let next = "attach it, or name its path in [devices] of the configuration";
        match e {
            OpeningError::Io(_) => Failure::failed(what, e.to_string(), next),
            _ => Failure::refused(what, format!("rule device: {e}"), next),
        }
    })
}

/// Is what was opened the volume that the tables mean?
fn prove_opened(spec: &Spec, file: &File) -> Result<(), Failure> {
    if spec.identity.offset_bytes > 0 {
        prove_envelope(file, spec)?;
    }
    identify::prove(file, &spec.identity).map_err(|e| wrong_device(spec, &e.to_string()))
}

fn prove_envelope(file: &File, spec: &Spec) -> Result<(), Failure> {
    use std::os::unix::fs::FileExt;
    for offset in ondisk::envelope::COPIES {
        let mut block = vec![0; ondisk::envelope::COPY_BYTES];
        if file.read_exact_at(&mut block, offset).is_err() {
            continue;
        }
        if let Some(envelope) = ondisk::envelope::Envelope::decode(&block, offset).valid() {
            return if envelope.volume == spec.uuid {
                Ok(())
            } else {
                Err(wrong_device(spec, &format!("its envelope belongs to volume {}", envelope.volume)))
            };
        }
    }
    Err(wrong_device(spec, "it has no envelope"))
}

fn wrong_device(spec: &Spec, why: &str) -> Failure {
    Failure::refused(
        format!("{}: {} is another device than the tables mean", spec.name, spec.device.display()),
        why.to_owned(),
        "the path may have moved: name the right one in [devices] of the configuration",
    )
}

fn failed(spec: &Spec, what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {what}", spec.name), why.to_string(), "see `volctl log` and the kernel's log")
}

fn to_busy(found: Vec<BusyProcess>) -> Vec<Busy> {
    let mut busy: Vec<Busy> = found
        .into_iter()
        .map(|b| Busy {
            // Any user names his programs and files, and this goes to other hosts.
            program: one_line(&b.program),
            pid: u32::try_from(b.pid).unwrap_or(0),
            user: b.user,
            path: one_line(&b.path.display().to_string()),
        })
        .collect();
    busy.dedup_by_key(|b| b.pid);
    busy
}

fn holders(gates: &[ReadGate]) -> Vec<Busy> {
    if gates.is_empty() { Vec::new() } else { to_busy(who_holds(&Scope::of_ids(gates.iter().map(|g| g.mount_id)))) }
}

/// `gate = "none"`: the tables are kept, nothing is mounted.
fn gateless(job: &Job) -> JobDone {
    match job {
        Job::MountReader { generation } => JobDone::ReaderMounted { generation: *generation },
        Job::UnmountReader { .. } => JobDone::ReaderUnmounted { closed: true, busy: Vec::new() },
        Job::Retire => JobDone::Retired { lingering: Vec::new(), busy: Vec::new() },
        Job::MountWriter { .. } => JobDone::WriterMounted { snapshots: Vec::new() },
        Job::Publish { .. } => JobDone::Published { generation: None, modified_ms: 0 },
        Job::Delete { .. } => JobDone::Deleted,
        Job::StopWriter { generation, .. } => {
            JobDone::Stopped { generation: Some(*generation), clean: true, modified_ms: 0, check: None }
        }
        Job::FenceWriter => JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None },
        Job::Measure => JobDone::Measured { inflight_ms: u64::MAX },
        Job::Probe { .. } => JobDone::Probed(crate::engine::effect::Probe {
            inflight_ms: u64::MAX,
            open_for_writing: Some(false),
            ..Default::default()
        }),
    }
}
