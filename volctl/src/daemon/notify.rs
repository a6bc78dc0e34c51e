//! Words to the service manager (sd_notify): ready, status, stopping, watchdog. Without one, nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Speaks to the service manager, if there is one. A failure is logged and never stops anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notifier;

impl Notifier {
    /// The daemon has logged on (or knows why it cannot) and serves its socket.
    pub fn ready(self, status: &str) {
        send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// One line for `systemctl status`.
    pub fn status(self, status: &str) {
        send(&[NotifyState::Status(&one_line(status))]);
    }

    /// An orderly end has begun.
    pub fn stopping(self, status: &str) {
        send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// The main loop still goes round.
    pub fn watchdog(self) {
        send(&[NotifyState::Watchdog]);
    }

    /// An orderly end needs this much more time.
    pub fn extend(self, time: Duration) {
        send(&[NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))]);
    }

    /// How often [`Notifier::watchdog`] must be called: half of what the service manager asks; `None`: never.
    #[must_use]
    pub fn watchdog_period(self) -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }
}

/// Tells the service manager's watchdog that a loop goes round. Whatever loop runs has one: the manager listens from the first
/// log-on to the end, also while a lost login is let go and a new one is waited for.
#[derive(Debug)]
pub struct Watchdog {
    notifier: Notifier,
    period: Option<Duration>,
    due: Instant,
}

impl Watchdog {
    /// Due at once.
    #[must_use]
    pub fn new(notifier: Notifier) -> Self {
        Self { notifier, period: notifier.watchdog_period(), due: Instant::now() }
    }

    /// The loop has come round.
    pub fn tick(&mut self) {
        if self.is_due(Instant::now()) {
            self.notifier.watchdog();
        }
    }

    /// A loop with nothing to do comes round after this time at the latest.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.period.map_or(Duration::from_hours(1), |period| period / 2)
    }

    fn is_due(&mut self, now: Instant) -> bool {
        match self.period {
            Some(period) if now >= self.due => {
                self.due = now + period;
                true
            }
            _ => false,
        }
    }
}

fn one_line(text: &str) -> String {
    crate::wire::outcome::one_line(text)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not reached");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_watchdog_is_told_once_a_period_and_never_without_one() {
        let now = Instant::now();
        let mut dog = Watchdog { notifier: Notifier, period: Some(Duration::from_secs(2)), due: now };
        let seconds = |s| now + Duration::from_secs(s);
        assert!(dog.is_due(now) && !dog.is_due(seconds(1)) && dog.is_due(seconds(2)) && !dog.is_due(seconds(3)));
        assert_eq!(dog.wait(), Duration::from_secs(1));
        dog.period = None;
        assert!(!dog.is_due(seconds(9)));
    }

    /// Not a test of its own: the one below runs it in a process with its own environment.
    #[test]
    fn spoken_by_a_child() {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        assert_eq!(Notifier.watchdog_period(), Some(Duration::from_secs(2)));
        Notifier.ready("alice: 2 volumes\nSTOPPING=1");
        Notifier.watchdog();
        Notifier.stopping("giving back footage");
    }

    #[test]
    fn the_service_manager_hears_the_words_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bind");
        manager.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "daemon::notify::tests::spoken_by_a_child"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "4000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let mut buffer = [0; 256];
        let mut next = || {
            let n = manager.recv(&mut buffer).expect("a word");
            String::from_utf8(buffer[..n].to_vec()).expect("UTF-8")
        };
        assert_eq!(next(), "READY=1\nSTATUS=alice: 2 volumes STOPPING=1\n");
        assert_eq!(next(), "WATCHDOG=1\n");
        assert_eq!(next(), "STOPPING=1\nSTATUS=giving back footage\n");
    }
}
