//! The daemon: what runs beside the engine.
