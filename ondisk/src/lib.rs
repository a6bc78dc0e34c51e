//! The on-disk format of the control volume: bytes in, bytes out.
#![forbid(unsafe_code)]
