//! A login on a control volume: the one room in which the pure machines of `lockdriver` meet the real device.
//!
//! [`machine`] is the computer under it, real or simulated; [`open`] finds the superblock, [`beater`] is the one thread through which every write passes, [`view`] is what polls
//! show, [`membership`] is the host's registration where the storage asks for one, [`session`] ties them to a lease, and [`transact`] runs a change of the tables under the semaphore.

pub mod admin_login;
pub mod beater;
pub mod claim;
pub mod host;
pub mod host_key;
pub mod machine;
pub mod maintain;
pub mod membership;
pub mod open;
pub mod rules;
pub mod session;
pub mod source;
mod storage_lock;
pub mod transact;
pub mod view;
