//! Every fuzz target for a moment, with every input that ever told something, and the commands of the tables on ruined images.
//! `make fuzz` runs the targets for long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lockdriver::check::{BlockId, blocks, check};
use volctl::wire::outcome::ExitCode;
use volctl_tests::fuzz::feed::Like;
use volctl_tests::fuzz::{TARGETS, Target};
use volctl_tests::tree;

use crate::crash::disk::Image;
use crate::crash::verbs::{Office, PATIENT, has_place_for_locks, run};

/// All corpora together, in bytes.
const CORPUS_MAX: u64 = 64 << 10;
/// Inputs of each target, besides the corpus.
const RUNS: u64 = 1500;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = tree::root().join("fixtures/fuzz").join(target.name);
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(list) => list.map(|entry| entry.unwrap().path()).collect(),
        Err(e) => panic!("{}: {e}", folder.display()),
    };
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs one input; what fails is shown as it must be put into the corpus.
fn one(target: &Target, input: &[u8], whence: &str) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        panic!("target {} fails with {whence}: {input:02x?}", target.name);
    }
}

#[test]
fn no_target_fails_with_any_input_that_is_known() {
    let mut bytes = 0;
    for target in TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "fixtures/fuzz/{} is empty", target.name);
        for (path, input) in corpus {
            bytes += input.len() as u64;
            one(target, &input, &path.display().to_string());
        }
    }
    assert!(bytes <= CORPUS_MAX, "the corpora have {bytes} bytes");
}

#[test]
fn every_folder_of_inputs_belongs_to_a_target() {
    for entry in std::fs::read_dir(tree::root().join("fixtures/fuzz")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|t| *t.name == *name), "fixtures/fuzz/{} has no target", name.display());
    }
}

#[test]
fn no_target_fails_with_inputs_like_those_that_are_known() {
    let runs = number("VOLCTL_FUZZ_RUNS", RUNS);
    for (n, target) in (0..).zip(TARGETS) {
        let mut seeds: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
        seeds.push(Vec::new());
        let mut like = Like::of(target.name.as_bytes(), n);
        for round in 0..runs {
            let at = usize::try_from(round).unwrap() % seeds.len();
            let input = if round % 8 == 7 { like.noise(target.bytes_max) } else { like.change(&seeds[at]).to_vec() };
            one(target, &input, "a changed input");
            // Changes add up.
            if round % 3 == 0 && input.len() <= target.bytes_max {
                seeds[at] = input;
            }
        }
    }
}

/// A control volume with some bytes of it changed, in blocks that `may` names; most blocks are sealed again.
fn ruined(whole: &Image, like: &mut Like, may: impl Fn(BlockId) -> bool) -> Image {
    let geometry = check(whole).geometry().unwrap().clone();
    let all: Vec<_> = blocks(&geometry).filter(|(id, ..)| may(*id)).collect();
    let mut image = whole.clone();
    for _ in 0..3 {
        let choice = like.noise(64);
        let pick = |i: usize| usize::from(choice.get(i).copied().unwrap_or(0));
        let (_, offset, len) = all[(pick(0) << 8 | pick(1)) % all.len()];
        let start = usize::try_from(offset).unwrap();
        let block = &mut image.0[start..start + len];
        let at = (pick(2) << 8 | pick(3)) % len.min(1 + (pick(4) << 4));
        let end = len.min(at + choice.len());
        block[at..end].copy_from_slice(&choice[..end - at]);
        if pick(5) % 4 != 0 {
            block[56..60].fill(0);
            let crc = crc32c::crc32c(block);
            block[56..60].copy_from_slice(&crc.to_le_bytes());
        }
    }
    image
}

fn furnished(times: &[&str]) -> Office {
    let mut office = Office::with(times);
    let one = office.ext4("one.img", 1);
    office.verb(&["client", "add", "alice"]);
    office.verb(&["volume", "add", "footage", "--device", &one]);
    office.verb(&["allow", "alice", "footage", "write"]);
    office
}

/// A verb ended as one that may say no, and soon.
fn ends(path: &Path, args: &[&str]) -> ExitCode {
    let begun = Instant::now();
    let (code, said) = run(args);
    let may = [ExitCode::Done, ExitCode::Failed, ExitCode::Refused, ExitCode::Busy, ExitCode::Damaged];
    assert!(may.contains(&code), "{args:?} on {}: {said}", path.display());
    let told = said.contains("\"next\"") || said.contains("\n  next: ");
    assert!(code == ExitCode::Done || told, "{args:?} says what, why and what next: {said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{args:?} took {:?}", begun.elapsed());
    code
}

#[test]
fn the_commands_that_look_take_any_image() {
    if !has_place_for_locks("fuzz::the_commands_that_look_take_any_image") {
        return;
    }
    // A finding that may be a living client's is looked at again a beat later.
    let office = furnished(&["--beat", "20ms", "--lease", "4s", "--dead", "6s"]);
    let (whole, path) = (office.image(), office.control());
    let control = path.to_str().unwrap();
    let mut like = Like::of(b"looks", 0);
    for round in 0..number("VOLCTL_FUZZ_IMAGES", 40) {
        let image = if round % 8 == 7 { Image(like.noise(64 << 10)) } else { ruined(&whole, &mut like, |_| true) };
        office.put(&image);
        let checked = ends(&path, &["check", control]);
        ends(&path, &["dump", control, "--json"]);
        ends(&path, &["dump", control]);
        let clients = ends(&path, &["client", "list", "--control", control]);
        let volumes = ends(&path, &["volume", "list", "--control", control]);
        if checked == ExitCode::Done {
            assert_eq!((clients, volumes), (ExitCode::Done, ExitCode::Done), "what is clean can be listed");
        }
        assert!(office.image() == image, "who looks writes nothing");
    }
}

#[test]
fn the_commands_that_change_take_any_tables() {
    if !has_place_for_locks("fuzz::the_commands_that_change_take_any_tables") {
        return;
    }
    let office = furnished(PATIENT);
    let (whole, path) = (office.image(), office.control());
    let control = path.to_str().unwrap();
    let mut like = Like::of(b"changes", 0);
    for _ in 0..number("VOLCTL_FUZZ_IMAGES", 40) {
        // With slots as they are nobody is waited for.
        let tables = |id| matches!(id, BlockId::Header(_) | BlockId::Cell(..) | BlockId::Superblock(1));
        office.put(&ruined(&whole, &mut like, tables));
        let before = check(&office.image());
        let added = ends(&path, &["client", "add", "bob", "--control", control]);
        let after = check(&office.image());
        if added == ExitCode::Done {
            let tables = after.tables.as_ref().expect("tables after a change");
            assert!(tables.find_client("bob").is_some());
            let old = before.tables.as_ref().expect("only what can be read is changed");
            for (slot, client) in old.clients() {
                assert_eq!(tables.client(slot), Some(client), "nobody else is touched");
            }
        }
        let repaired = ends(&path, &["check", control, "--repair"]);
        let mended = check(&office.image());
        assert!(mended.worst() <= after.worst(), "{:?}, was {:?}", mended.findings, after.findings);
        if let (Some(old), Some(new)) = (&after.tables, &mended.tables) {
            assert_eq!((&old.clients, &old.volumes), (&new.clients, &new.volumes), "repair forgets nothing");
        }
        assert_eq!(ends(&path, &["check", control]), repaired, "a second look says the same");
    }
}
