//! Every unsafe line and ioctl of the project, wrapped and documented.
#![allow(unsafe_code, reason = "the one room for system calls that nix does not wrap")]

pub mod aligned;
pub mod blockdev;
pub mod btrfs;
pub mod clock;
pub mod dm;
pub mod fdpass;
pub mod freeze;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod ofd;
pub mod peer;
pub mod pidfd;
pub mod pr;
pub mod process;
pub mod sg;
pub mod statfs;
pub mod stop;
