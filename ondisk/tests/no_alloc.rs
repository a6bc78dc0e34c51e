//! The beat path allocates nothing, and decoding takes no more memory than a block's own size explains.
//!
//! One test in this program: the counter belongs to the whole process. It is the one `unsafe` in the crate's tests,
//! as a global allocator cannot be written without; the library itself forbids it.
#![expect(unsafe_code, reason = "a counting global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ondisk::*;

#[path = "../examples/golden/samples.rs"]
mod samples;

thread_local! {
    static COUNT: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

struct Counting;

// SAFETY: every call goes on to the system allocator unchanged; the counter is a const-initialised thread local
// without a destructor, so that counting neither allocates nor touches a dead value.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set((c.get().0 + 1, c.get().1 + layout.size())));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and bytes that `f` asks for on this thread.
fn counted<T>(f: impl FnOnce() -> T) -> (usize, usize, T) {
    let before = COUNT.with(Cell::get);
    let out = f();
    let after = COUNT.with(Cell::get);
    (after.0 - before.0, after.1 - before.1, out)
}

#[test]
fn slots_are_encoded_and_decoded_without_allocating() {
    assert!(counted(|| vec![0u8; 10]).0 > 0, "the counter counts");
    for stride in [512, 4096, 65536] {
        let g = Geometry::plan(samples::TABLE, 4, 3, stride, 64 << 20).unwrap();
        let place = g.slot_sector(SlotIndex(1), 0);
        let (slot, mut block) = (samples::slot(), vec![0; g.stride()]);
        let (count, _, ()) = counted(|| slot.encode(place, &mut block));
        assert_eq!(count, 0, "encoding a slot of {stride} bytes");
        let (count, _, back) = counted(|| SlotSector::decode(&block, place));
        assert_eq!((count, back.valid()), (0, Some(slot)), "decoding a slot of {stride} bytes");
    }
    // The largest page: memory in proportion to the block, whatever the block says.
    let g = Geometry::plan(samples::TABLE, 1024, 1024, 512, 1 << 30).unwrap();
    let place = g.page_copy(SlotIndex(9), 0);
    let mut block = vec![0; g.page_bytes()];
    samples::page().encode(place, &mut block);
    let (_, bytes, back) = counted(|| ClientPage::decode(&block, place, &g));
    assert!(matches!(back, Verdict::Valid(_)));
    assert!(bytes < 8 * g.page_bytes(), "{bytes} bytes for a page of {}", g.page_bytes());
}
