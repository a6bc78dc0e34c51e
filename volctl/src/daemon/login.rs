//! Logging on: lock file, claim, guardian, log-on transaction (section 6).

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lockdriver::deadline::SharedDeadline;
use lockdriver::device::Access;
use lockdriver::gate::Kind;
use lockdriver::guardian::{Guardian, SpawnConfig, close_leftovers_up_to, end_old};
use nix::fcntl::{Flock, FlockArg};
use ondisk::{ClientPage, Incarnation, SlotIndex, Uuid};

use super::config::{Config, GateKind};
use super::jobs::Workshop;
use crate::control::claim::{Claim, claim};
use crate::control::host::{HostLock, guardian_lock, host_name, random};
use crate::control::open::ControlVolume;
use crate::control::session::{Parts, Session};
use crate::control::view::{View, read_page};
use crate::engine::{Engine, Periods, Setup, Switches, TableOp, ops};
use crate::volumes::mounting::root::{MountRoot, prepare_mount_root};
use crate::wire::outcome::Failure;

/// A promise to somebody else is kept this long (section 6).
const NEXT_KEPT: Duration = Duration::from_secs(30);
/// What a dead reader held is kept this long (section 8).
const DEAD_HOLD: Duration = Duration::from_secs(600);
/// How long a guardian may take over an order before the daemon gives up on it.
const GUARDIAN_PATIENCE: Duration = Duration::from_secs(20);

/// What lives as long as the process: the control volume's identity and the lock on this host.
pub struct Place {
    /// The control volume as first opened.
    pub volume: ControlVolume,
    /// The own slot.
    pub slot: SlotIndex,
    /// The lock on this host.
    pub lock: HostLock,
    /// Where volumes are mounted.
    pub root: MountRoot,
    /// The highest incarnation of this process; 0: no claim ever stood.
    claimed: AtomicU64,
    _root_lock: Flock<File>,
}

impl Place {
    /// Opens the control volume, finds the client, takes the lock before anything else.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, the control volume or the mount root.
    pub fn find(config: &Config) -> Result<Self, Failure> {
        let volume = ControlVolume::open_first(&config.control, Access::ReadWrite, None)?;
        one_control_volume(config, &volume)?;
        let mut view = View::new(&volume);
        view.read_slots();
        view.load_tables()?;
        let slot = view.tables().and_then(|t| t.find_client(&config.client)).map(|(slot, _)| slot);
        let Some(slot) = slot else {
            return Err(Failure::refused(
                format!("client {} is unknown", config.client),
                format!("{} has no such client record", volume.path.display()),
                format!("`volctl client add {} --control {}`", config.client, volume.path.display()),
            ));
        };
        let lock = HostLock::take(volume.superblock.uuid, slot.0, &format!("client {}", config.client))?;
        // An old guardian still takes that daemon's mount root away: it has to be gone before the new one is made.
        let patience = volume.superblock.timings.lease();
        end_old(&guardian_lock(volume.superblock.uuid, slot.0), patience).map_err(|e| old_stays(&e))?;
        let bad = |e: &dyn std::fmt::Display| bad_root(&config.mount_root, e);
        let root = prepare_mount_root(&config.mount_root).map_err(|e| bad(&e))?;
        let private = root.open_private().map_err(|e| bad(&e))?;
        let root_lock = Flock::lock(private, FlockArg::LockExclusiveNonblock).map_err(|_| {
            Failure::busy(
                format!("{} cannot be the mount root", config.mount_root.display()),
                "another daemon uses it",
                "give each daemon of this host a mount_root of its own",
            )
        })?;
        Ok(Self { volume, slot, lock, root, claimed: AtomicU64::new(0), _root_lock: root_lock })
    }

    fn guardian_lock(&self) -> PathBuf {
        guardian_lock(self.volume.superblock.uuid, self.slot.0)
    }

    /// Ends a guardian of an earlier daemon and closes every gate that is left in this kernel.
    ///
    /// # Errors
    /// Names what does not end or close.
    pub fn close_old(&self) -> Result<(), Failure> {
        self.close_up_to(u64::MAX)
    }

    /// Ends this process' own guardian and closes every gate that its logins left. What bears the slot's mark beyond that
    /// belongs to the daemon that lives in it now.
    ///
    /// # Errors
    /// As [`Self::close_old`].
    pub fn close_own(&self) -> Result<(), Failure> {
        match self.claimed.load(Ordering::SeqCst) {
            0 => Ok(()),
            incarnation => self.close_up_to(incarnation),
        }
    }

    fn close_up_to(&self, incarnation: u64) -> Result<(), Failure> {
        let patience = self.volume.superblock.timings.lease();
        let control = self.volume.superblock.uuid;
        end_old(&self.guardian_lock(), patience).map_err(|e| old_stays(&e))?;
        close_leftovers_up_to(control, self.slot.0, incarnation, patience).map_err(|e| old_stays(&e))?;
        for leftover in self.root.leftovers().map_err(|e| old_stays(&e))? {
            if !is_a_gate(&leftover.device) {
                tracing::warn!(event = "mount.foreign", path = %leftover.path.display(), "not a mount of volctl: it stays");
                continue;
            }
            if let Err(e) = self.root.detach_leftover(&leftover) {
                tracing::warn!(event = "mount.left", error = %e, "a mount of an earlier daemon stays");
            }
        }
        Ok(())
    }
}

/// A mount of an earlier daemon stands on a device as gates are; it has been closed by now.
fn is_a_gate(source: &Path) -> bool {
    let source = source.to_string_lossy();
    match source.strip_prefix("/dev/") {
        Some(name) if name.starts_with("dm-") => {
            let uuid = std::fs::read_to_string(format!("/sys/block/{name}/dm/uuid"));
            uuid.map_or(true, |uuid| uuid.starts_with(lockdriver::gate::dm::UUID_PREFIX))
        }
        Some(name) => name.starts_with("loop") || name.starts_with("mapper/volctl-"),
        None => false,
    }
}

fn old_stays(e: &dyn std::fmt::Display) -> Failure {
    Failure::failed("what an earlier daemon left does not close", e.to_string(), "look at the kernel's log")
}

fn no_means(e: &std::io::Error) -> Failure {
    Failure::failed("the daemon cannot start", e.to_string(), "look at the system's limits")
}

fn bad_root(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::failed(
        format!("{} cannot be the mount root", path.display()),
        e.to_string(),
        "set mount_root to a directory that only root may change",
    )
}

/// A login, ready to run.
pub struct Login {
    /// The slot, its lease, its polls.
    pub session: Arc<Session>,
    /// Guardian and mounts.
    pub shop: Arc<Workshop>,
    /// The machine.
    pub engine: Engine,
}

/// What is known of a log-on on its way.
pub trait Watcher: Sync {
    /// It waits, for at most so long.
    fn waiting(&self, why: &str, at_most: Duration);
}

/// Logs on.
///
/// # Errors
/// Another daemon under this name, damage, a client that may not log on, or `stop`.
pub fn log_on(
    place: &Place,
    config: &Config,
    unmounted: Vec<Uuid>,
    tries: usize,
    watcher: &dyn Watcher,
    stop: &AtomicBool,
) -> Result<Login, Failure> {
    // A path can be opened and still be no good: the next try begins with the next one.
    let mut paths = config.control.clone();
    paths.rotate_left(tries % config.control.len().max(1));
    let volume = ControlVolume::open_first(&paths, Access::ReadWrite, Some(place.volume.superblock.uuid))?;
    let mut parts = Parts::new(volume.clone(), place.slot, Arc::new(place.lock.doubts())).map_err(|e| no_means(&e))?;
    parts.view.read_slots();
    parts.view.load_tables()?;
    let tables = parts
        .view
        .tables()
        .cloned()
        .ok_or_else(|| Failure::damaged("no tables", "they cannot be read", "run `volctl check`"))?;
    let record = tables.client(place.slot).map_or(Incarnation(0), |r| r.logged_on);
    let old_page = read_page(&volume.geometry, &*volume.device, place.slot).unwrap_or_default();
    let claimed = claim(
        &mut parts,
        &volume,
        Claim {
            slot: place.slot,
            host: place.lock.host,
            record,
            highest: tables.header.commit,
            page_sequence: old_page.sequence,
            waiting: &|why, at_most| watcher.waiting(why, at_most),
            close_gates: &mut |_| match place.close_old() {
                Ok(()) => true,
                Err(failure) => {
                    tracing::warn!(event = "logon.slow", why = %failure, "the slow way");
                    false
                }
            },
            stop: &|| stop.load(Ordering::SeqCst),
        },
    )?;
    let session = Arc::new(Session::begin(parts, place.slot, &claimed)?);
    place.claimed.store(session.me.incarnation.0, Ordering::SeqCst);
    let made = furnish(place, config, &session, claimed.first_way, stop);
    let made = made.and_then(|shop| Ok((shop, make_engine(&session, config, unmounted, old_page)?)));
    match made {
        Ok((shop, engine)) => Ok(Login { session, shop, engine }),
        Err(failure) => {
            // Nothing is open: the slot is left in order, if that was not done already, so that nobody need wait for it.
            let _ = session.log_off();
            Err(failure)
        }
    }
}

/// Everything between the claim and the engine: old gates, the guardian, the log-on transaction.
fn furnish(
    place: &Place,
    config: &Config,
    session: &Arc<Session>,
    first_way: bool,
    stop: &AtomicBool,
) -> Result<Arc<Workshop>, Failure> {
    // Also after the slow way: on this host nothing of an earlier daemon may live beside the new one.
    place.close_old()?;
    let guardian = match config.gate {
        GateKind::None => None,
        _ => Some(spawn_guardian(place, session)?),
    };
    let gate_kind = match config.gate {
        GateKind::Loop => Kind::Loop,
        GateKind::Dm => Kind::Mapped,
        GateKind::Auto | GateKind::None => Kind::Auto,
    };
    let check_before = config.takeover_check == super::config::TakeoverCheck::Before;
    let shop = Workshop::new(Arc::clone(session), guardian, place.root.clone(), (check_before, gate_kind));
    let op = TableOp::LogOn { host: host_name(), first_way };
    let stopped = || stop.load(Ordering::SeqCst);
    let done = session.transact_unless(&stopped, &mut |actor, world| ops::apply(&op, actor, world));
    if let Err(failure) = done {
        // Before the guardian's good-bye, which ends the lease.
        let _ = session.log_off();
        return Err(failure);
    }
    Ok(Arc::new(shop))
}

/// Several paths are several ways to the same tables.
fn one_control_volume(config: &Config, opened: &ControlVolume) -> Result<(), Failure> {
    for path in &config.control {
        // A path that does not answer now may answer later, and is proven then.
        let Ok(other) = ControlVolume::open(path, Access::Read) else { continue };
        if other.superblock.uuid != opened.superblock.uuid {
            return Err(Failure::usage(
                "the configuration names two control volumes",
                format!("{} and {} have different UUIDs", opened.path.display(), path.display()),
                "`control` is a list of paths to one and the same control volume",
            ));
        }
    }
    Ok(())
}

fn spawn_guardian(place: &Place, session: &Session) -> Result<Guardian, Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::failed("no guardian", e.to_string(), "without one nothing stops a writer that is lost; see the log")
    };
    let deadline: SharedDeadline = session.deadline.clone();
    let guardian = Guardian::spawn(SpawnConfig {
        program: PathBuf::from("/proc/self/exe"),
        args: vec![OsString::from("guardian")],
        envs: Vec::new(),
        lock_path: place.guardian_lock(),
        mount_root: Some(place.root.path().to_owned()),
        lease: session.volume.superblock.timings.lease(),
        deadline,
        timeout: GUARDIAN_PATIENCE,
    })
    .map_err(|e| failed(&e))?;
    if session.volume.superblock.lock == ondisk::LockKind::Ofd {
        session.share_ofd(&guardian).map_err(|e| failed(&e))?;
    }
    Ok(guardian)
}

fn make_engine(
    session: &Session,
    config: &Config,
    unmounted: Vec<Uuid>,
    old_page: ClientPage,
) -> Result<Engine, Failure> {
    let timings = session.volume.superblock.timings;
    let setup = Setup {
        slot: session.me.slot,
        incarnation: session.me.incarnation,
        periods: Periods {
            poll: timings.poll(),
            dead: timings.dead(),
            publish: config.publish,
            grace: config.grace,
            idle: config.idle,
            request_timeout: config.request_timeout,
            next_kept: NEXT_KEPT,
            dead_hold: DEAD_HOLD,
        },
        gateless: config.gate == GateKind::None,
        ask_hook: config.hooks.on_request.is_some(),
        unmounted,
        requests: old_page.requests,
        answers: old_page.answers,
        page_sequence: old_page.sequence,
        seed: u64::from_le_bytes(random()?),
        switches: Switches::ALL,
    };
    Ok(Engine::new(setup, session.volume.geometry.max_volumes()))
}
