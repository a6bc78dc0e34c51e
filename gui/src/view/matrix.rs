//! The status matrix: all volumes by all clients.

use std::collections::BTreeMap;
use std::fmt;

use volctl::wire::status::{Access, ClientMount, ClientState, Status, VolumeClient, VolumeState};

use super::Tone;
use crate::words;

/// A client: the head of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Whether it is the own one.
    pub own: bool,
    /// Whether it is there.
    pub state: ClientState,
    /// The age of its beat.
    pub beat: String,
}

impl Column {
    /// State and beat in a word or two.
    #[must_use]
    pub fn word(&self) -> String {
        match self.state {
            ClientState::On if self.own => "this one".into(),
            ClientState::On if self.beat == "now" => "on".into(),
            ClientState::On => format!("on, {}", self.beat),
            ClientState::Off => "off".into(),
            ClientState::Dead => "dead".into(),
        }
    }

    /// Its meaning.
    #[must_use]
    pub const fn tone(&self) -> Tone {
        match self.state {
            ClientState::On => Tone::Calm,
            ClientState::Off => Tone::Quiet,
            ClientState::Dead => Tone::Bad,
        }
    }
}

/// What a client has of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What it may do.
    pub access: Access,
    /// May not ask.
    pub locked_out: bool,
    /// What it has.
    pub state: ClientMount,
    /// A newer generation exists.
    pub stale: bool,
    /// It waits for write access.
    pub waits: bool,
    /// The client is dead: what it had is not to be believed.
    pub dead: bool,
}

impl Cell {
    /// The letters in the cell.
    #[must_use]
    pub const fn letters(&self) -> &'static str {
        match (self.state, self.access) {
            (ClientMount::Rw, _) => "RW",
            (ClientMount::Ro, _) => "RO",
            (ClientMount::Mounting, _) => "…",
            (ClientMount::Unknown, _) => "?",
            (ClientMount::None | ClientMount::Closed, Access::None) => "",
            (ClientMount::None | ClientMount::Closed, _) => "–",
        }
    }

    /// Its meaning.
    #[must_use]
    pub const fn tone(&self) -> Tone {
        if self.dead && !matches!(self.state, ClientMount::None | ClientMount::Closed) {
            return Tone::Bad;
        }
        match self.state {
            ClientMount::Rw => Tone::Writing,
            ClientMount::Ro if self.stale => Tone::Waiting,
            ClientMount::Ro => Tone::Calm,
            ClientMount::Mounting => Tone::Waiting,
            ClientMount::Unknown => Tone::Bad,
            ClientMount::None | ClientMount::Closed => Tone::Quiet,
        }
    }

    /// All of it in words.
    #[must_use]
    pub fn words(&self) -> String {
        let mut parts = vec![match self.state {
            ClientMount::Rw => "mounted read-write, unlocked",
            ClientMount::Ro => "mounted read-only, unlocked",
            ClientMount::Mounting => "being mounted",
            ClientMount::Unknown => "unknown, counts as mounted",
            ClientMount::None => "not mounted, locked",
            ClientMount::Closed => "not mounted, gate closed",
        }];
        parts.extend(self.stale.then_some("newer exists"));
        parts.extend(self.waits.then_some("waits for write access"));
        parts.extend(self.dead.then_some("the client is dead"));
        parts.push(match self.access {
            Access::None => "no access",
            Access::Read => "may read",
            Access::Write => "may write",
        });
        parts.extend(self.locked_out.then_some("locked out of asking"));
        parts.join("; ")
    }

    /// Whether somebody should look.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        self.stale || matches!(self.tone(), Tone::Bad) || self.waits
    }
}

/// The whole matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// The clients.
    pub columns: Vec<Column>,
    /// The volumes, each with a cell for each client.
    pub rows: Vec<(String, Vec<Cell>)>,
}

impl Matrix {
    /// What a status says.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let own = Column { name: status.client.clone(), own: true, state: ClientState::On, beat: "now".into() };
        let others = status.clients.iter().map(|c| Column {
            name: c.name.clone(),
            own: false,
            state: c.state,
            beat: c.beat_age_ms.map_or_else(|| "never".into(), words::beat),
        });
        let mut columns: Vec<(u32, Column)> = status.clients.iter().map(|c| c.slot).zip(others).collect();
        columns.push((status.slot, own));
        columns.sort_by_key(|(slot, _)| *slot);
        let columns: Vec<Column> = columns.into_iter().map(|(_, column)| column).collect();
        let rows = status.volumes.iter().map(|volume| {
            let known: BTreeMap<&str, &VolumeClient> = volume.clients.iter().map(|c| (c.client.as_str(), c)).collect();
            let cells = columns.iter().map(|column| {
                let mut cell = known.get(column.name.as_str()).map_or_else(Cell::default, |c| Cell {
                    access: c.access,
                    locked_out: c.locked_out,
                    state: c.state,
                    stale: c.stale,
                    ..Cell::default()
                });
                if column.own && known.is_empty() {
                    // A daemon that does not know of the others' mounts still knows its own.
                    cell = own_cell(volume);
                }
                cell.waits = volume.waiting.iter().any(|w| w.client == column.name);
                cell.dead = column.state == ClientState::Dead;
                cell
            });
            (volume.name.clone(), cells.collect())
        });
        Self { rows: rows.collect(), columns }
    }

    /// What the filters leave: parts of names of volumes and of clients, and only rows and columns with trouble.
    #[must_use]
    pub fn filtered(&self, volumes: &str, clients: &str, trouble: bool) -> Self {
        let has = |name: &str, part: &str| name.to_lowercase().contains(&part.trim().to_lowercase());
        let any = |index: usize| self.rows.iter().any(|(_, cells)| cells.get(index).is_some_and(Cell::is_trouble));
        let kept: Vec<usize> = (0..self.columns.len())
            .filter(|&i| has(&self.columns[i].name, clients))
            .filter(|&i| !trouble || any(i) || self.columns[i].state == ClientState::Dead)
            .collect();
        let rows = self.rows.iter().filter(|(name, _)| has(name, volumes));
        let rows = rows.filter(|(_, cells)| !trouble || cells.iter().any(Cell::is_trouble));
        Self {
            columns: kept.iter().map(|&i| self.columns[i].clone()).collect(),
            rows: rows.map(|(name, cells)| (name.clone(), kept.iter().map(|&i| cells[i]).collect())).collect(),
        }
    }

    /// How many cells say what, for the line above the matrix.
    #[must_use]
    pub fn summary(&self) -> String {
        let cells = || self.rows.iter().flat_map(|(_, cells)| cells);
        let count = |state: ClientMount| cells().filter(|c| c.state == state && !c.dead).count();
        let stale = cells().filter(|c| c.stale).count();
        format!(
            "{}, {}: {} read-write, {} read-only, {stale} stale",
            words::count(self.rows.len(), "volume", "volumes"),
            words::count(self.columns.len(), "client", "clients"),
            count(ClientMount::Rw),
            count(ClientMount::Ro),
        )
    }
}

fn own_cell(volume: &volctl::wire::status::VolumeStatus) -> Cell {
    let state = match volume.state {
        VolumeState::Rw | VolumeState::Releasing => ClientMount::Rw,
        VolumeState::Granted => ClientMount::Mounting,
        VolumeState::Ro => ClientMount::Ro,
        VolumeState::Requesting if volume.mountpoint.is_some() => ClientMount::Ro,
        VolumeState::Requesting | VolumeState::Locked => ClientMount::None,
    };
    Cell { access: volume.access, locked_out: volume.locked_out, state, stale: volume.stale, ..Cell::default() }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for column in &self.columns {
            writeln!(f, "{}: {}", words::line(&column.name), column.word())?;
        }
        for (name, cells) in &self.rows {
            for (column, cell) in self.columns.iter().zip(cells) {
                writeln!(
                    f,
                    "{} {}: {:>2} {} {}",
                    words::line(name),
                    words::line(&column.name),
                    cell.letters(),
                    cell.tone(),
                    cell.words()
                )?;
            }
        }
        writeln!(f, "{}", self.summary())
    }
}
