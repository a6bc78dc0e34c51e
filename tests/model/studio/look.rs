//! Reading the disk: what a poll shows.

use std::sync::Arc;

use ondisk::Incarnation;
use volctl::engine::{PageView, Peer};

use super::client::{HalfPoll, View, index};
use super::{CLIENTS, State, Studio};

impl Studio {
    pub(super) fn poll(&self, state: &mut State, c: usize) {
        let half = state.half_poll(c);
        Arc::make_mut(&mut state.clients[c]).half = Some(half);
        if !self.case.fine {
            self.poll_pages(state, c);
        }
    }

    pub(super) fn poll_pages(&self, state: &mut State, c: usize) {
        let Some(half) = Arc::make_mut(&mut state.clients[c]).half.take() else { return };
        state.read_pages(c, half);
        self.tell(state, c, |engine, client| engine.step(&client.view.world()));
    }
}

impl State {
    /// Everything at once, as under the semaphore.
    pub(super) fn see(&mut self, c: usize) {
        let page_on_disk = self.clients[c].view.page_on_disk;
        let mut half = self.half_poll(c);
        half.view.page_on_disk = page_on_disk;
        self.read_pages(c, half);
    }

    fn half_poll(&self, c: usize) -> HalfPoll {
        let peer = |i: usize| {
            let slot = self.slots[i];
            Peer {
                slot: index(i),
                incarnation: slot.incarnation,
                known: true,
                logged_on: slot.logged_on,
                reaped: slot.incarnation.0 > 0 && self.tables.is_reaped(index(i), slot.incarnation),
                silent: i != c && slot.beat < self.now,
                beat_age: self.now - slot.beat,
                page: PageView::Unknown,
            }
        };
        let view = View {
            now: self.now,
            tables: Arc::clone(&self.tables),
            peers: (0..CLIENTS).map(peer).collect(),
            page_on_disk: self.clients[c].on_disk,
        };
        HalfPoll { view, pages: self.slots.map(|s| s.page) }
    }

    /// The pages that the slots point at; what is known already is not read again.
    fn read_pages(&mut self, c: usize, half: HalfPoll) {
        let client = Arc::make_mut(&mut self.clients[c]);
        client.view = half.view;
        for (i, peer) in client.view.peers.iter_mut().enumerate() {
            if i == c || peer.incarnation == Incarnation(0) {
                continue;
            }
            let (number, of, page) = &mut client.cache[i];
            let stale = *number < half.pages[i] || *of != peer.incarnation || matches!(page, PageView::Unknown);
            if stale {
                let fits = self.pages[i]
                    .as_ref()
                    .filter(|(n, page)| page.incarnation == peer.incarnation && *n >= half.pages[i]);
                *page = fits.map_or(PageView::Unknown, |(_, page)| PageView::Current(Arc::clone(page)));
                *number = fits.map_or(half.pages[i], |(n, _)| *n);
                *of = peer.incarnation;
            }
            peer.page = page.clone();
        }
    }

    /// Numbers that grow for ever are counted anew from the lowest that is still compared with.
    pub(super) fn forget_numbers(&mut self) {
        for c in 0..CLIENTS {
            let client = &self.clients[c];
            let seen = client.view.page_on_disk;
            if seen > 1 || client.engine.as_ref().is_some_and(|e| e.page().polls > 0) {
                let client = Arc::make_mut(&mut self.clients[c]);
                let lower =
                    |n: &mut u64| *n = if *n == 0 { 0 } else { n.saturating_sub(seen.saturating_sub(1)).max(1) };
                if let Some(engine) = &mut client.engine {
                    engine.forget_numbers(seen);
                }
                lower(&mut client.on_disk);
                lower(&mut client.view.page_on_disk);
                if let Some(half) = &mut client.half {
                    lower(&mut half.view.page_on_disk);
                }
                if let Some(flight) = &mut client.flight {
                    lower(&mut flight.version);
                }
            }
            self.forget_page_numbers(c);
        }
    }

    /// Of the numbers of one client's pages only the order counts.
    fn forget_page_numbers(&mut self, c: usize) {
        let mut used: Vec<u64> = vec![0, self.slots[c].page];
        used.extend(self.pages[c].as_ref().map(|p| p.0));
        for other in &self.clients {
            used.push(other.cache[c].0);
            used.extend(other.half.as_ref().map(|h| h.pages[c]));
        }
        used.sort_unstable();
        used.dedup();
        if used.last().is_some_and(|last| usize::try_from(*last).is_ok_and(|last| last < used.len())) {
            return;
        }
        let rank = |n: &mut u64| *n = used.iter().take_while(|u| **u < *n).count() as u64;
        rank(&mut self.slots[c].page);
        if let Some((number, _)) = &mut self.pages[c] {
            rank(number);
        }
        for other in &mut self.clients {
            let other = Arc::make_mut(other);
            rank(&mut other.cache[c].0);
            if let Some(half) = &mut other.half {
                rank(&mut half.pages[c]);
            }
        }
    }
}
