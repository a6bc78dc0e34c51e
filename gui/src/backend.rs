//! The threads: everything that may wait. The window only sends and receives.
//!
//! ```text
//!   monitor ──┐  (subscription: statuses)          ┌── workers   calls to the daemon, four at a time
//!   follower ─┼──> pump ──> events ──> window ──>──┼── admin     volctl, lsblk, one after the other
//!   workers ──┘     │                              ├── desktop   notifications, file manager
//!                wakes the window                  └── programs  who has files open
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use volctl::wire::call::{ActReply, Call, RequestReply};
use volctl::wire::client::Client;
use volctl::wire::outcome::Failure;

use crate::command::Command;
use crate::model::{Effect, Event};

mod desktop;
mod link;
mod programs;
mod pump;
mod tools;

/// How many calls to the daemon are under way at once; it takes 64 connections from everybody together.
const WORKERS: usize = 4;
/// How many things may wait for one kind of thread before further ones are refused.
const QUEUE: usize = 256;

/// Wakes the window from any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The threads, as the window sees them.
pub struct Backend {
    /// What they tell.
    pub events: Receiver<Event>,
    told: Sender<Event>,
    calls: Sender<(Command, Call)>,
    acts: Sender<tools::Act>,
    desktop: Sender<desktop::Wish>,
    programs: Sender<(String, String)>,
    again: Sender<()>,
    socket: PathBuf,
}

impl Backend {
    /// Starts them.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(socket: PathBuf, wake: Wake) -> std::io::Result<Self> {
        let (told, heard) = unbounded();
        let (to_window, events) = unbounded();
        let (again, reconnect) = bounded(1);
        spawn("pump", move || pump::run(&heard, &to_window, &wake))?;
        link::start(&socket, &told, reconnect)?;
        let (calls, waiting) = bounded::<(Command, Call)>(QUEUE);
        for _ in 0..WORKERS {
            let (waiting, told, socket) = (waiting.clone(), told.clone(), socket.clone());
            spawn("calls", move || {
                for (command, call) in waiting {
                    if told.send(Event::Called { result: make_call(&socket, &call), command }).is_err() {
                        return;
                    }
                }
            })?;
        }
        let (acts, waiting) = bounded(QUEUE);
        let tell = told.clone();
        spawn("administration", move || tools::run(&waiting, &tell))?;
        let (desktop, waiting) = bounded(QUEUE);
        let tell = told.clone();
        spawn("desktop", move || desktop::run(&waiting, &tell))?;
        let (programs, waiting) = bounded(QUEUE);
        let tell = told.clone();
        spawn("programs", move || programs::run(&waiting, &tell))?;
        Ok(Self { events, told, calls, acts, desktop, programs, again, socket })
    }

    /// Gives an effect to the thread that carries it out. What is the window's own is given back.
    pub fn carry_out(&self, effect: Effect) -> Option<Effect> {
        match effect {
            // It may take as long as the writer's last writes: it gets a thread of its own.
            Effect::Call(command, call @ Call::Takeover(_)) => self.call_alone(command, call),
            Effect::Call(command, call) => {
                if let Err(refused) = self.calls.try_send((command, call)) {
                    let (command, _) = refused.into_inner();
                    let why = "so many others are under way that no more are taken";
                    let failure = Failure::busy("the call was not made", why, "wait until the daemon answers");
                    self.tell(Event::Called { command, result: Err(failure) });
                }
            }
            Effect::Administer { command, control, means, daemon } => {
                if let Err(refused) = self.acts.try_send(tools::Act { command, control, means, daemon }) {
                    let why = "an earlier one has not ended";
                    let failure = Failure::busy("it was not done", why, "wait for it");
                    self.tell(Event::Administered { command: refused.into_inner().command, result: Err(failure) });
                }
            }
            Effect::FindPrograms { volume, mountpoint } => {
                // A thread that hangs in a dead file system answers nobody; the prompt goes on saying that it looks.
                let _ = self.programs.try_send((volume, mountpoint));
            }
            Effect::Notify { title, body } => self.desktop(desktop::Wish::Notify { title, body }),
            Effect::OpenFolder(path) => self.desktop(desktop::Wish::Open(path)),
            Effect::Save(prefs) => self.desktop(desktop::Wish::Save(prefs)),
            Effect::Reconnect => {
                // One that waits is enough.
                let _ = self.again.try_send(());
            }
            own @ (Effect::Copy(_) | Effect::Attention | Effect::Quit) => return Some(own),
        }
        None
    }

    fn desktop(&self, wish: desktop::Wish) {
        // A desktop that hangs is not waited for.
        let _ = self.desktop.try_send(wish);
    }

    fn tell(&self, event: Event) {
        // The pump ends only with the window.
        let _ = self.told.send(event);
    }

    fn call_alone(&self, command: Command, call: Call) {
        let (told, socket, named) = (self.told.clone(), self.socket.clone(), command.clone());
        let spawned = spawn("takeover", move || {
            let _ = told.send(Event::Called { result: make_call(&socket, &call), command });
        });
        if let Err(error) = spawned {
            let failure = Failure::busy("the call was not made", error.to_string(), "try again in a moment");
            self.tell(Event::Called { command: named, result: Err(failure) });
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn make_call(socket: &std::path::Path, call: &Call) -> Result<String, Failure> {
    let mut client = Client::connect(socket)?;
    match call {
        Call::Request(_) => client.call_as::<RequestReply>(call).map(|reply| reply.text),
        _ => client.call_as::<ActReply>(call).map(|reply| reply.text),
    }
}

/// The pause before a broken connection is tried again.
const PAUSE: Duration = Duration::from_millis(500);
