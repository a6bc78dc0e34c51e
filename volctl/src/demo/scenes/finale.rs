//! The end: everybody logs off in order, and what is left on the disks is checked.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{CAST, Scenes};
use crate::demo::fault::Fault;
use crate::demo::stage::Outcome;
use crate::volumes::fscheck::{CheckOutcome, check_unchanged};
use ondisk::FsKind;

/// For one file system of the demo.
const CHECK: Duration = Duration::from_secs(30);

impl Scenes<'_, '_, '_> {
    pub(super) fn orderly_end(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "10. The end, in order",
            "alice still writes to footage when she is told to end: her daemon publishes, lets go and logs off.",
        );
        self.client("alice", &["request", "footage", "--wait", "20s"], 0, 1)?;
        self.writes("alice", "footage", "end.txt", "fin")?;
        for name in CAST {
            let pid = self.stage.actor(name).pid().unwrap_or(0);
            self.teller.begins();
            let took = self.stage.end(name, Signal::SIGTERM)?;
            let typed = format!("kill {pid}; wait    # {name}'s daemon");
            self.teller.told("root", &Outcome { typed, exit: 0, took, output: String::new() }, 1);
        }
        self.teller.begins();
        let outcome = self.stage.on_control("check", &[], 0)?;
        self.teller.told("admin", &outcome, 3);
        for (name, kind, typed) in [
            ("footage", FsKind::Ext4, "e2fsck -f -n"),
            ("scans", FsKind::Xfs, "xfs_repair -n"),
            ("music", FsKind::Btrfs, "btrfs check --readonly"),
        ] {
            self.by_hand("admin", &format!("{typed} {name}.img"), |stage| {
                match check_unchanged(&stage.image(name), kind, CHECK) {
                    CheckOutcome::Clean => Ok((0, "clean".to_owned())),
                    CheckOutcome::NotChecked(why) => Ok((0, format!("not checked: {why}"))),
                    CheckOutcome::Damaged(said) => {
                        Err(Fault::Wrong { what: format!("the {kind} on {name}"), seen: said })
                    }
                }
            })?;
        }
        Ok(())
    }
}
