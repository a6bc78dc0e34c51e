//! Claims about the decoder.
