//! The one integration binary: every file beside this one is a module of it, one line each.
//!
//! Names are claims. Those that need root and loop devices begin with `loop_`, or lie in a module that does.

mod cli_doc;
mod cli_init;
#[expect(clippy::unwrap_used, reason = "its helpers are tests, too")]
mod crash;
mod dist;
mod docs;
mod doctor;
#[expect(clippy::unwrap_used, reason = "its helpers are tests, too")]
mod fuzz;
mod loop_4k;
mod loop_admin_check;
mod loop_admin_daemons;
mod loop_admin_live;
mod loop_admin_tables;
mod loop_answers;
mod loop_bad_input;
mod loop_broken_path;
mod loop_busy;
mod loop_campaign;
mod loop_churn;
mod loop_control_damage;
mod loop_control_lost;
mod loop_crash;
mod loop_demo;
mod loop_doctor;
mod loop_ends;
mod loop_envelope;
mod loop_handover;
mod loop_hostile_tables;
mod loop_identity;
mod loop_last_moment;
mod loop_mute;
mod loop_ofd;
mod loop_queue;
mod loop_readers;
mod loop_restart;
mod loop_security;
mod loop_studio;
mod loop_takeover;
mod loop_two_hosts;
mod loop_watchdog;
mod tidy;
