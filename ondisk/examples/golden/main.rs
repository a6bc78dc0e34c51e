//! Writes the golden blocks, only when asked: `cargo run -p ondisk --example golden -- --write DIRECTORY`.
//!
//! They are the proof that a later program reads what this one wrote, so they are made once for a format version
//! and never again; `fixtures/README.md` says more. Without `--write` it only lists them.

mod samples;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let target = match (args.next().as_deref(), args.next()) {
        (Some("--write"), Some(directory)) => Some(PathBuf::from(directory)),
        (None, _) => None,
        _ => {
            eprintln!("usage: golden [--write DIRECTORY]");
            return ExitCode::from(2);
        }
    };
    for (name, place, bytes, text) in samples::all() {
        println!("{name}: {place}, {} bytes", bytes.len());
        let Some(directory) = &target else { continue };
        let annotated = annotate(name, &place, &bytes, &text);
        for (ending, content) in [("bin", bytes), ("txt", annotated.into_bytes())] {
            let path = directory.join(format!("{name}.{ending}"));
            if let Err(e) = std::fs::write(&path, content) {
                eprintln!("{}: {e}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// What the block says, then its bytes without the lines that are all zero.
fn annotate(name: &str, place: &str, bytes: &[u8], text: &str) -> String {
    let (kind, stamp, sector) = ondisk::block::peek(bytes).expect("sealed just now");
    let mut out = format!(
        "{name}: {place} (4 clients, 3 volumes), {} bytes\n\nhead\n  kind: {kind}\n  sector: {sector}\n  stamp: {}.{}\n  content checksum: {:08x}\n\n{text}\n",
        bytes.len(),
        stamp.major,
        stamp.minor,
        ondisk::block::content_crc(bytes)
    );
    for (row, line) in bytes.chunks(16).enumerate() {
        if line.iter().all(|b| *b == 0) {
            continue;
        }
        let hex: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
        let ascii: String = line.iter().map(|b| if (32..127).contains(b) { char::from(*b) } else { '.' }).collect();
        let _ = writeln!(out, "{:6}  {}  {ascii}", row * 16, hex.join(" "));
    }
    out
}
