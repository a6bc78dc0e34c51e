//! The check finds every changed byte and every overwritten block; the repair brings back the same tables.

mod damage;
mod repairs;
