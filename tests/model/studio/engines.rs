//! Making engines, and the tables that they find.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use ondisk::{
    Access, AutoResponse, ClientRecord, CommitNo, FsKind, Generation, Identity, Incarnation, Label, Message, Name,
    Permission, ReadersPolicy, TableHeader, Uuid, VolumeTable,
};
use volctl::engine::{Engine, Periods, Setup};

use super::act::NAMES;
use super::client::{Life, index};
use super::{CLIENTS, DEAD, State, Studio};

/// The volume.
pub(super) const VOLUME: Uuid = Uuid::from_u128(1);
/// The state that is published when the model begins.
pub(super) const FIRST: Generation = Generation { epoch: 1, count: 1 };

fn periods() -> Periods {
    Periods {
        poll: Duration::from_millis(250),
        dead: DEAD,
        publish: Duration::from_secs(5),
        grace: Duration::from_secs(10),
        idle: Duration::from_secs(5),
        request_timeout: Duration::from_secs(600),
        next_kept: Duration::from_secs(30),
        dead_hold: Duration::from_secs(600),
    }
}

fn record(name: &str, willing: bool) -> ClientRecord {
    ClientRecord {
        name: Name::new(name).expect("a name"),
        host: Label::default(),
        uuid: Uuid::from_u128(u128::from(name.as_bytes()[0])),
        enabled: true,
        admin: true,
        locked_out: false,
        notify: false,
        auto_response: if willing { AutoResponse::Always } else { AutoResponse::Off },
        logged_on: Incarnation(1),
    }
}

pub(super) fn tables(readers: ReadersPolicy, willing: bool, dirty: bool) -> Tables {
    let identity =
        Identity { fs_uuid: VOLUME, partition: Uuid::nil(), wwid: Label::default(), size: 1 << 30, enveloped: false };
    let volume = VolumeTable {
        name: Name::new("footage").expect("a name"),
        uuid: VOLUME,
        identity,
        fs: if readers == ReadersPolicy::Snapshot { FsKind::Btrfs } else { FsKind::Ext4 },
        readers,
        write_enabled: true,
        device: Message::default(),
        writer: None,
        dirty_since: if dirty { FIRST.epoch } else { 0 },
        next: None,
        last: FIRST,
        modified_ms: 0,
        check_due: false,
        permissions: vec![Permission::new(Access::Write, false, true, 500); CLIENTS],
    };
    let header = TableHeader {
        commit: CommitNo { epoch: 1, count: 1 },
        opened: 1,
        clients: 3,
        volumes: 1,
        reaped: vec![Incarnation(0); CLIENTS + 4],
        cells: Vec::new(),
    };
    Tables { header, clients: NAMES.iter().map(|n| Some(record(n, willing))).collect(), volumes: vec![Some(volume)] }
}

impl Studio {
    /// The engine of a login that was just committed. What stands in the page on the disk is carried over.
    pub(super) fn start_engine(&self, state: &mut State, c: usize) {
        let old = state.pages[c].as_ref().map(|p| &p.1);
        let setup = Setup {
            slot: index(c),
            incarnation: state.slots[c].incarnation,
            periods: periods(),
            gateless: false,
            ask_hook: false,
            unmounted: Vec::new(),
            requests: old.map(|p| p.requests.clone()).unwrap_or_default(),
            answers: old.map(|p| p.answers.clone()).unwrap_or_default(),
            page_sequence: 0,
            seed: (c as u64 + 1) * 1000 + state.slots[c].incarnation.0,
            switches: self.switches,
        };
        let client = Arc::make_mut(&mut state.clients[c]);
        client.life = Life::Up;
        client.engine = Some(Engine::new(setup, 1));
        client.view.page_on_disk = 0;
    }
}
