//! Every unsafe line and ioctl of the project, wrapped and documented.
#![allow(
    unsafe_code,
    reason = "the one room for system calls that nix does not wrap"
)]
