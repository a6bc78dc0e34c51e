//! The views of client records, volume control tables and envelopes.

use serde::Serialize;
use uuid::Uuid;

use super::bound;
use crate::client_record::{AutoResponse, ClientRecord};
use crate::envelope::Envelope;
use crate::ids::{Generation, Incarnation, SlotIndex, VolumeIndex};
use crate::text::{Label, Message, Name};
use crate::volume_table::{Access, FsKind, Grant, GrantState, NextWriter, Permission, ReadersPolicy, VolumeTable};

/// A client record.
#[derive(Debug, Clone, Serialize)]
pub struct ClientView {
    /// Its slot.
    pub slot: SlotIndex,
    /// Its name.
    pub name: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// Its host's name at the last log-on.
    pub host: Label,
    /// May log on.
    pub enabled: bool,
    /// May administer.
    pub admin: bool,
    /// May ask for no write privilege.
    pub locked_out: bool,
    /// Its user is told of changes.
    pub notify: bool,
    /// Who answers.
    pub auto_response: AutoResponse,
    /// Highest incarnation that committed a log-on.
    pub logged_on: Incarnation,
}

impl ClientView {
    /// The view of a record.
    pub fn of(slot: SlotIndex, r: &ClientRecord) -> Self {
        Self {
            slot,
            name: r.name.clone(),
            uuid: r.uuid,
            host: r.host.clone(),
            enabled: r.enabled,
            admin: r.admin,
            locked_out: r.locked_out,
            notify: r.notify,
            auto_response: r.auto_response,
            logged_on: r.logged_on,
        }
    }
}

/// The write privilege.
#[derive(Debug, Clone, Serialize)]
pub struct GrantView {
    /// Who.
    pub slot: SlotIndex,
    /// Which login.
    pub incarnation: Incarnation,
    /// The fencing token.
    pub epoch: u64,
    /// Milliseconds; null: no bound.
    pub inflight_ms: Option<u64>,
    /// pending, held or revoked.
    pub state: GrantState,
}

impl From<Grant> for GrantView {
    fn from(g: Grant) -> Self {
        Self {
            slot: g.slot,
            incarnation: g.incarnation,
            epoch: g.epoch,
            inflight_ms: bound(g.inflight),
            state: g.state,
        }
    }
}

/// Who was promised the privilege.
#[derive(Debug, Clone, Serialize)]
pub struct NextView {
    /// Who.
    pub slot: SlotIndex,
    /// Which login.
    pub incarnation: Incarnation,
    /// For which request, hexadecimal.
    pub request: String,
}

impl From<NextWriter> for NextView {
    fn from(n: NextWriter) -> Self {
        Self { slot: n.slot, incarnation: n.incarnation, request: format!("{:016x}", n.request.0) }
    }
}

/// What a client may do.
#[derive(Debug, Clone, Serialize)]
pub struct PermissionView {
    /// Which client.
    pub slot: SlotIndex,
    /// none, read or write.
    pub access: Access,
    /// May not ask.
    pub lockout: bool,
    /// Refreshes by itself.
    pub auto_update: bool,
    /// Milliseconds.
    pub check_ms: u32,
}

/// A volume control table.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeView {
    /// Its number.
    pub index: VolumeIndex,
    /// Its name.
    pub name: Name,
    /// Its identity in the tables.
    pub uuid: Uuid,
    /// Its file system's UUID.
    pub fs_uuid: Uuid,
    /// Its partition's UUID, null if none.
    pub partition: Option<Uuid>,
    /// Its device's world-wide id, empty if none.
    pub wwid: Label,
    /// Bytes of the device.
    pub size: u64,
    /// native or enveloped.
    pub mode: &'static str,
    /// ext4, xfs or btrfs.
    pub fs: FsKind,
    /// snapshot, exclusive or live.
    pub readers: ReadersPolicy,
    /// Whether anyone may write.
    pub write_enabled: bool,
    /// Path of the device as it was added.
    pub device: Message,
    /// The writer, null if none.
    pub writer: Option<GrantView>,
    /// Grant epoch since which it is dirty, 0: clean.
    pub dirty_since: u64,
    /// Who was promised it, null if nobody.
    pub next: Option<NextView>,
    /// The last generation written at a release.
    pub generation: Generation,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
    /// To be checked at the next release.
    pub check_due: bool,
    /// By slot; those that say only the default are left out.
    pub permissions: Vec<PermissionView>,
}

impl VolumeView {
    /// The view of a table.
    pub fn of(index: VolumeIndex, t: &VolumeTable) -> Self {
        let permissions = t.permissions.iter().zip(0u16..).filter(|(p, _)| **p != Permission::default());
        Self {
            index,
            name: t.name.clone(),
            uuid: t.uuid,
            fs_uuid: t.identity.fs_uuid,
            partition: Some(t.identity.partition).filter(|p| !p.is_nil()),
            wwid: t.identity.wwid.clone(),
            size: t.identity.size,
            mode: if t.identity.enveloped { "enveloped" } else { "native" },
            fs: t.fs,
            readers: t.readers,
            write_enabled: t.write_enabled,
            device: t.device.clone(),
            writer: t.writer.map(GrantView::from),
            dirty_since: t.dirty_since,
            next: t.next.map(NextView::from),
            generation: t.last,
            modified_ms: t.modified_ms,
            check_due: t.check_due,
            permissions: permissions
                .map(|(p, slot)| PermissionView {
                    slot: SlotIndex(slot),
                    access: p.access,
                    lockout: p.lockout,
                    auto_update: p.auto_update,
                    check_ms: p.check_ms,
                })
                .collect(),
        }
    }
}

/// What a block of a cell says.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum CellView {
    /// A client record.
    Client(ClientView),
    /// A volume control table.
    Volume(Box<VolumeView>),
}

impl From<ClientView> for CellView {
    fn from(v: ClientView) -> Self {
        Self::Client(v)
    }
}

impl From<VolumeView> for CellView {
    fn from(v: VolumeView) -> Self {
        Self::Volume(Box::new(v))
    }
}

/// An envelope.
#[derive(Debug, Clone, Serialize)]
pub struct EnvelopeView {
    /// The volume's UUID in the tables.
    pub volume: Uuid,
    /// Its name when it was made.
    pub name: Name,
    /// Seconds since 1970.
    pub created: i64,
    /// What lies inside.
    pub fs: FsKind,
    /// First byte of the file system.
    pub data_first: u64,
    /// Bytes of the file system.
    pub data_length: u64,
}

impl EnvelopeView {
    /// The view of an envelope.
    pub fn of(e: &Envelope) -> Self {
        Self {
            volume: e.volume,
            name: e.name.clone(),
            created: e.created,
            fs: e.fs,
            data_first: e.data_first,
            data_length: e.data_length,
        }
    }
}
