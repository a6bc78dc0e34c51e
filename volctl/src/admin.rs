//! The verbs that work on the tables themselves, with or without a daemon (section 9, `--control` commands).
//!
//! Each logs on to an administration slot, looks at everything once more under the semaphore, and commits.

pub mod check;
pub mod clients;
pub mod doctor;
pub mod dump;
pub mod init;
pub mod permissions;
mod revoke;
mod storage;
pub mod volumes;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use lockdriver::device::{Access, BlockDevice};
use lockdriver::poll::Poll;
use lockdriver::tables::Tables;
use lockdriver::transaction::Change;
use ondisk::{ClientRecord, Name, SlotIndex, VolumeIndex, VolumeTable};

use crate::cli::output::Ui;
use crate::control::admin_login;
use crate::control::open::ControlVolume;
use crate::control::session::Session;
use crate::control::view::View;
use crate::engine::World;
use crate::engine::ops::Actor;
use crate::wire::outcome::Failure;

/// Names that an error message lists at most.
const LISTED: usize = 20;

/// Logs on, runs `f`, logs off; what is waited for is said on stderr.
fn logged_on<T>(
    control: &Path,
    ui: &mut Ui,
    f: impl FnOnce(&Session, &mut dyn FnMut(&str)) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut notes = |line: &str| ui.remark(line);
    let mut volume = ControlVolume::open(control, Access::ReadWrite)?;
    LAYER.with_borrow(|layer| {
        if let Some(layer) = layer {
            volume.device = layer(Arc::clone(&volume.device));
        }
    });
    admin_login::run_on(volume, &mut notes, f)
}

/// Makes one device of another.
type Layer = Box<dyn Fn(Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice>>;

thread_local! {
    static LAYER: RefCell<Option<Layer>> = const { RefCell::new(None) };
}

/// Runs `f`; what verbs in it do on this thread, they do to the device that `layer` makes of the real one. For the tests that
/// record what a verb writes, and cut it off everywhere.
#[doc(hidden)]
pub fn through<T>(layer: impl Fn(Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice> + 'static, f: impl FnOnce() -> T) -> T {
    LAYER.set(Some(Box::new(layer)));
    let done = f();
    LAYER.set(None);
    done
}

/// One transaction whose closure also gives what is to be told afterwards.
fn commit<T>(
    session: &Session,
    mut decide: impl FnMut(Actor, &World<'_>) -> Result<(Option<Change>, T), Failure>,
) -> Result<T, Failure> {
    let mut told = None;
    session.transact(&mut |actor, world| {
        let (change, tell) = decide(actor, world)?;
        told = Some(tell);
        Ok(change)
    })?;
    told.ok_or_else(|| Failure::failed("nothing was changed", "the transaction did not come to it", "try again"))
}

/// The tables as they are, without a log-on, and the poll that they were read after.
fn read_tables<T>(control: &Path, look: impl FnOnce(&Tables, &Poll) -> T) -> Result<T, Failure> {
    let volume = ControlVolume::open(control, Access::Read)?;
    let mut view = View::new(&volume);
    view.read_slots();
    view.load_tables()?;
    let Some(tables) = view.tables().cloned() else {
        return Err(Failure::damaged("the tables cannot be read", "nothing was loaded", "run `volctl check CONTROL`"));
    };
    Ok(look(&tables, view.decoder.poll()))
}

/// A name that the command line has checked.
fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|e| {
        Failure::usage(format!("'{text}' is no name"), e.to_string(), "names are 1 to 63 bytes of UTF-8 without '/'")
    })
}

/// The client of a name.
fn client<'w>(tables: &'w Tables, name: &str) -> Result<(SlotIndex, &'w ClientRecord), Failure> {
    tables.find_client(name).ok_or_else(|| {
        let known = known(tables.clients().map(|(_, c)| c.name.as_str()), "clients");
        Failure::refused(format!("there is no client {name}"), known, "see `volctl client list --control CONTROL`")
    })
}

/// The volume of a name.
fn volume<'w>(tables: &'w Tables, name: &str) -> Result<(VolumeIndex, &'w VolumeTable), Failure> {
    tables.find_volume(name).ok_or_else(|| {
        let known = known(tables.volumes().map(|(_, v)| v.name.as_str()), "volumes");
        Failure::refused(format!("there is no volume {name}"), known, "see `volctl volume list --control CONTROL`")
    })
}

fn known<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.len() {
        0 => format!("the tables have no {what} yet"),
        n if n <= LISTED => format!("the tables have the {what} {}", names.join(", ")),
        n => format!("the tables have {n} {what}: {} and others", names[..LISTED].join(", ")),
    }
}

/// Milliseconds since 1970, for people.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A fresh random UUID.
fn uuid() -> Result<ondisk::Uuid, Failure> {
    let bytes = crate::control::host::random::<16>()?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
