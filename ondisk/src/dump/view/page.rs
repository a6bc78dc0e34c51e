//! The view of a client page.

use serde::Serialize;
use uuid::Uuid;

use super::bound;
use crate::client_page::{Answer, AnswerVerdict, ClientPage, MountState, Request, VolumeEntry};
use crate::ids::{Generation, InFlight, Incarnation, SlotIndex};
use crate::text::Message;

/// A request.
#[derive(Debug, Clone, Serialize)]
pub struct RequestView {
    /// Identity, hexadecimal (it has 64 bits, more than a number of JSON can be trusted with).
    pub id: String,
    /// Place in the queue.
    pub number: u64,
    /// Of which volume.
    pub volume: Uuid,
    /// To whom.
    pub to: SlotIndex,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Its message.
    pub message: Message,
}

impl From<&Request> for RequestView {
    fn from(r: &Request) -> Self {
        Self {
            id: format!("{:016x}", r.id.0),
            number: r.number,
            volume: r.volume,
            to: r.to,
            created_ms: r.created_ms,
            message: r.message.clone(),
        }
    }
}

/// An answer.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerView {
    /// Which request, hexadecimal.
    pub request: String,
    /// The asker.
    pub to: SlotIndex,
    /// Of which volume.
    pub volume: Uuid,
    /// The verdict.
    pub verdict: AnswerVerdict,
    /// Its message.
    pub message: Message,
}

impl From<&Answer> for AnswerView {
    fn from(a: &Answer) -> Self {
        Self {
            request: format!("{:016x}", a.request.0),
            to: a.to,
            volume: a.volume,
            verdict: a.verdict,
            message: a.message.clone(),
        }
    }
}

/// What a page says of a volume.
#[derive(Debug, Clone, Serialize)]
pub struct EntryOfPage {
    /// Number of the entry.
    pub index: usize,
    /// The volume.
    pub volume: Uuid,
    /// Mount state.
    pub state: MountState,
    /// Files are open.
    pub busy: bool,
    /// A newer generation exists.
    pub stale: bool,
    /// Nothing can stop this client's writes.
    pub advisory: bool,
    /// Grant epoch.
    pub epoch: u64,
    /// Generation mounted.
    pub seen: Generation,
    /// Newest published.
    pub published: Generation,
    /// Retired up to here.
    pub retired: Generation,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
    /// Bytes free.
    pub free: u64,
    /// Bytes in all.
    pub capacity: u64,
    /// Milliseconds; null: no bound.
    pub inflight_ms: Option<u64>,
    /// Generations held; unused rooms left out.
    pub held: Vec<Generation>,
    /// Grant epoch whose fence refused a write; 0: none.
    pub refused: u64,
}

impl EntryOfPage {
    fn of(index: usize, e: &VolumeEntry) -> Self {
        Self {
            index,
            volume: e.volume,
            state: e.state,
            busy: e.busy,
            stale: e.stale,
            advisory: e.advisory,
            epoch: e.epoch,
            seen: e.seen,
            published: e.published,
            retired: e.retired,
            modified_ms: e.modified_ms,
            free: e.free,
            capacity: e.capacity,
            inflight_ms: bound(e.inflight),
            held: e.held.iter().copied().filter(|g| !g.is_none()).collect(),
            refused: e.refused,
        }
    }
}

/// A client page.
#[derive(Debug, Clone, Serialize)]
pub struct PageView {
    /// The login that wrote it.
    pub incarnation: Incarnation,
    /// Grows at each change.
    pub sequence: u64,
    /// Counter.
    pub polls: u64,
    /// Counter.
    pub refreshes: u64,
    /// Outgoing requests.
    pub requests: Vec<RequestView>,
    /// Answers.
    pub answers: Vec<AnswerView>,
    /// Volumes of which it says something.
    pub volumes: Vec<EntryOfPage>,
}

impl PageView {
    /// The view of a page.
    pub fn of(p: &ClientPage) -> Self {
        // An entry that was never used is all zero or the default; every other one is printed, odd ones too.
        let room = VolumeEntry { inflight: InFlight::ZERO, ..VolumeEntry::default() };
        let used = |e: &VolumeEntry| *e != room && *e != VolumeEntry::default();
        let volumes = p.volumes.iter().enumerate().filter(|(_, e)| used(e));
        Self {
            incarnation: p.incarnation,
            sequence: p.sequence,
            polls: p.polls,
            refreshes: p.refreshes,
            requests: p.requests.iter().map(RequestView::from).collect(),
            answers: p.answers.iter().map(AnswerView::from).collect(),
            volumes: volumes.map(|(i, e)| EntryOfPage::of(i, e)).collect(),
        }
    }
}
