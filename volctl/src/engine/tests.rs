//! The engine in a studio: several clients over one world in memory, with virtual time, faults and an oracle.

mod asking;
mod desk;
mod driving;
mod faults;
mod kernel;
mod people;
mod reading;
mod rng;
mod rules;
mod status;
mod studio;
mod telling;
mod together;
mod traces;
