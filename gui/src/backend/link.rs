//! The two subscriptions: statuses and events. Each connects again for as long as the window is there.

use std::path::Path;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};
use volctl::wire::call::{Call, LogCall};
use volctl::wire::client::{Client, decode_reply};
use volctl::wire::event::LogReply;
use volctl::wire::outcome::{ExitCode, Failure};
use volctl::wire::status::Status;

use super::{PAUSE, spawn};
use crate::model::Event;

pub(super) fn start(socket: &Path, told: &Sender<Event>, again: Receiver<()>) -> std::io::Result<()> {
    let (path, tell) = (socket.to_owned(), told.clone());
    spawn("monitor", move || {
        loop {
            let failure = monitor(&path, &tell);
            if tell.send(Event::Down(failure)).is_err() {
                return;
            }
            // Either the time is over, or the person does not want to wait for it.
            let _ = again.recv_timeout(PAUSE);
        }
    })?;
    let (path, tell) = (socket.to_owned(), told.clone());
    spawn("events", move || {
        loop {
            // Why it ended is said by the other one.
            let _ = follow(&path, &tell);
            std::thread::sleep(PAUSE);
        }
    })
}

/// Runs until the subscription ends, and tells why it did.
fn monitor(path: &Path, tell: &Sender<Event>) -> Failure {
    let mut client = match Client::connect(path) {
        Ok(client) => client,
        Err(failure) => return failure,
    };
    // Somebody may have been added to the group since, or the socket is another one's now. That the window is gone is
    // noticed with the first status.
    let _ = tell.send(Event::Rights(crate::rights::rights(path)));
    let ended = client.call_more(&Call::Monitor, |value| {
        let status: Status = decode_reply(value)?;
        Ok(tell.send(Event::Status(Arc::new(status))).is_ok())
    });
    let Err(failure) = ended else {
        let next = "it connects again by itself";
        return Failure::no_daemon("the daemon ended the subscription", "it goes away, or starts anew", next);
    };
    // A daemon that is not logged on refuses to be watched, but says who it is.
    if failure.exit == ExitCode::Busy
        && let Ok(status) = Client::connect(path).and_then(|mut client| client.status())
        && tell.send(Event::Status(Arc::new(status))).is_ok()
    {
        return busy(failure);
    }
    failure
}

fn busy(failure: Failure) -> Failure {
    Failure { exit: ExitCode::Busy, ..failure }
}

fn follow(path: &Path, tell: &Sender<Event>) -> Result<(), Failure> {
    let mut client = Client::connect(path)?;
    let mut first = true;
    client.call_more(&Call::Log(LogCall { follow: true }), |value| {
        let reply: LogReply = decode_reply(value)?;
        let event = if std::mem::take(&mut first) { Event::Log(reply.events) } else { Event::News(reply.events) };
        Ok(tell.send(event).is_ok())
    })?;
    Ok(())
}
