//! The desktop: notifications, the file manager, the file with the preferences.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

use crate::model::Event;
use crate::prefs::{self, Prefs};

/// What the desktop is asked for.
#[derive(Debug)]
pub(super) enum Wish {
    /// A notification.
    Notify { title: String, body: String },
    /// A directory in the file manager.
    Open(String),
    /// The preferences on disk.
    Save(Prefs),
}

pub(super) fn run(wishes: &Receiver<Wish>, tell: &Sender<Event>) {
    // Without a notification service each one would fail: the window itself shows everything, so it is said once.
    let mut said = false;
    for wish in wishes {
        let result = match wish {
            Wish::Notify { title, body } => match notify(&title, &body) {
                Err(why) if !std::mem::replace(&mut said, true) => {
                    Err(format!("desktop notifications do not work here: {why}"))
                }
                _ => Ok(()),
            },
            Wish::Open(path) => open(&path),
            Wish::Save(prefs) => save(&prefs),
        };
        if let Err(why) = result
            && tell.send(Event::Trouble(why)).is_err()
        {
            return;
        }
    }
}

fn notify(title: &str, body: &str) -> Result<(), String> {
    // Where there is no session bus there is nobody to ask, and the bus's own search would start one.
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        return Ok(());
    }
    let shown = notify_rust::Notification::new()
        .appname("volctl")
        .icon("volctl-gui")
        .hint(notify_rust::Hint::DesktopEntry("volctl-gui".to_owned()))
        .summary(title)
        .body(&plain(body))
        .urgency(notify_rust::Urgency::Critical)
        .show();
    match shown.map_err(|error| error.to_string()) {
        // A desktop without a notification service is one, too.
        Err(why) if why.contains("ServiceUnknown") => Ok(()),
        shown => shown.map(drop),
    }
}

/// Notification services read markup; nothing of what another person wrote is any.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn open(path: &str) -> Result<(), String> {
    let spawned =
        Command::new("xdg-open").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = spawned.map_err(|error| format!("{path} was not opened: xdg-open: {error}"))?;
    // It hands over to the file manager and ends; one that becomes the file manager is left to itself.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err(format!("{path} was not opened: no file manager took it")),
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error.to_string()),
        }
    }
    std::thread::spawn(move || child.wait());
    Ok(())
}

fn save(prefs: &Prefs) -> Result<(), String> {
    let Some(path) = prefs::path() else { return Ok(()) };
    prefs.save(&path).map_err(|error| format!("the preferences were not kept in {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_another_person_wrote_is_no_markup() {
        assert_eq!(super::plain("<b>a & b</b>"), "&lt;b&gt;a &amp; b&lt;/b&gt;");
    }
}
