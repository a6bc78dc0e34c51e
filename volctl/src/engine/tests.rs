//! The engine in a studio: several clients over one world in memory, with virtual time, faults and an oracle.

mod driving;
mod kernel;
mod people;
mod rng;
mod studio;
