//! Read gates: one fresh read-only device for each generation, switched beneath the one before (section 8).

use std::path::Path;

use lockdriver::gate::Mode;
use ondisk::{Generation, ReadersPolicy};

use super::{Gates, ReadGate, Spec, Workshop, failed, holders};
use crate::engine::JobDone;
use crate::engine::effect::Probe;
use crate::volumes::busy::open_for_writing;
use crate::volumes::fscheck::space;
use crate::volumes::mounting::mount_reader;
use crate::volumes::snapshot_name;
use crate::wire::outcome::Failure;

impl Workshop {
    pub(super) fn mount_reader(
        &self,
        spec: &Spec,
        generation: Generation,
        gates: &mut Gates,
    ) -> Result<JobDone, Failure> {
        let backing = self.prove(spec, false)?;
        let gate = self.open_gate(spec, &backing, Mode::ReadOnly)?;
        drop(backing);
        let mounted = self.put_reader(spec, generation, &gate.path(), gates);
        let mount_id = match mounted {
            Ok(mount_id) => mount_id,
            Err(failure) => {
                // The guardian keeps what does not clear at once, and closes it with the rest.
                let _ = self.guardian()?.close_now(gate.node);
                self.forget(spec, gate.node);
                return Err(failure);
            }
        };
        let new = ReadGate { generation, node: gate.node, mount_id };
        if let Some(before) = gates.reader.replace(new) {
            gates.old.push(before);
        }
        self.measure_inflight(spec, gates);
        Ok(JobDone::ReaderMounted { generation })
    }

    fn put_reader(&self, spec: &Spec, generation: Generation, device: &Path, gates: &Gates) -> Result<u64, Failure> {
        let snapshot = spec.readers == ReadersPolicy::Snapshot;
        let subvol = snapshot.then(|| snapshot_name::path(generation));
        let mount = mount_reader(device, spec.kind, subvol.as_deref())
            .map_err(|e| failed(spec, "it cannot be mounted read-only", &e))?;
        self.put_in_place(spec, gates, mount)
    }

    /// Clears the gates of older generations that nobody uses any more.
    fn retire_old(&self, spec: &Spec, gates: &mut Gates) {
        let Ok(guardian) = self.guardian() else { return };
        gates.old.retain(|old| {
            let gone = guardian.retire(old.node).unwrap_or(false);
            if gone {
                self.forget(spec, old.node);
            }
            !gone
        });
    }

    pub(super) fn retire(&self, spec: &Spec, gates: &mut Gates) -> JobDone {
        self.retire_old(spec, gates);
        JobDone::Retired { lingering: gates.old.iter().map(|g| g.generation).collect(), busy: Vec::new() }
    }

    pub(super) fn unmount_reader(&self, spec: &Spec, force: bool, gates: &mut Gates) -> JobDone {
        if let Some(reader) = gates.reader.take() {
            gates.old.push(reader);
            let detached = self
                .own_place(spec, gates)
                .and_then(|()| self.root.detach(&spec.name).map_err(|e| failed(spec, "it cannot be unmounted", &e)));
            if let Err(failure) = detached {
                gates.reader = gates.old.pop();
                return JobDone::Failed(failure);
            }
        }
        self.retire_old(spec, gates);
        if gates.old.is_empty() {
            return JobDone::ReaderUnmounted { closed: true, busy: Vec::new() };
        }
        let busy = holders(&gates.old);
        if !force {
            return JobDone::ReaderUnmounted { closed: false, busy };
        }
        if spec.readers == ReadersPolicy::Live {
            // Open files of `live` readers are never broken: the gates go when the last of them closes.
            gates.old.clear();
            return JobDone::ReaderUnmounted { closed: true, busy: Vec::new() };
        }
        let guardian = self.guardian.as_ref();
        gates.old.retain(|old| guardian.is_none_or(|g| g.close_now(old.node).is_err()));
        JobDone::ReaderUnmounted { closed: gates.old.is_empty(), busy }
    }

    pub(super) fn probe(&self, spec: &Spec, files: bool, gates: &mut Gates) -> Result<JobDone, Failure> {
        let inflight_ms = self.measure_inflight(spec, gates);
        self.own_place(spec, gates)?;
        let directory = self.root.open(&spec.name).map_err(|e| failed(spec, "it cannot be looked at", &e))?;
        let space = space(&directory).map_err(|e| failed(spec, "its free space is not known", &e))?;
        let open = files.then(|| open_for_writing(&directory).map(|found| !found.is_empty()));
        let written = gates.writer.as_mut().is_some_and(|w| {
            let now = super::writer::sectors_written(w.node);
            let before = std::mem::replace(&mut w.written, now);
            before.is_some() && before != now
        });
        Ok(JobDone::Probed(Probe {
            free: space.free_bytes,
            capacity: space.total_bytes,
            // Who cannot be seen counts as writing.
            open_for_writing: open.map(|found| found.unwrap_or(true)),
            written,
            inflight_ms,
        }))
    }
}
