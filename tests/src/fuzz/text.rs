//! What the kernel, a device, a configuration file or a command line says.

use std::path::Path;
use std::time::Duration;

use lockdriver::gate::mark::Mark;
use lockdriver::gate::mounts::find_mounts;
use ondisk::{Generation, Label, Message, Name};
use volctl::daemon::config::Config;
use volctl::units;
use volctl::volumes::{inflight::Inflight, parsers, snapshot_name};
use volctl::wire::names;

use super::blocks::patch;
use super::feed::Feed;

pub(super) fn file_system(data: &[u8]) {
    let mut feed = Feed::new(data);
    let (mut head, mut deep) = ([0; 4096], [0; 4096]);
    let which = feed.byte();
    // The magics are given, so that the bytes behind them are looked at.
    if which & 1 != 0 {
        head[..4].copy_from_slice(b"XFSB");
    }
    if which & 2 != 0 {
        head[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    }
    if which & 4 != 0 {
        deep[0x40..0x48].copy_from_slice(b"_BHRfS_M");
    }
    let first = Feed::new(&feed.some(256));
    patch(&mut first.clone(), &mut head);
    patch(&mut feed, &mut deep);
    if let Ok(Some(found)) = parsers::file_system(&head, &deep) {
        assert!(found.label.len() <= 3 * 256);
    }
}

pub(super) fn kernel(data: &[u8]) {
    let (lines, writable) = parsers::mounts(data);
    assert!(writable <= lines);
    assert!(find_mounts(data, &["/dev/loop7".to_owned()], "7:7").len() <= data.split(|b| *b == b'\n').count());
    let text = String::from_utf8_lossy(data);
    parsers::mount_of_fdinfo(&text);
    if let Inflight::Bounded(time) = parsers::nfs(&text) {
        assert!(text.contains("soft"), "{time:?}");
    }
}

pub(super) fn gate_mark(data: &[u8]) {
    let prefixed = [b"vc1:", data].concat();
    for name in [data, &prefixed] {
        if let Some(mark) = Mark::decode(name) {
            assert_eq!(mark.encode().as_bytes(), name);
        }
    }
    if let Ok(raw) = <[u8; 43]>::try_from(data) {
        let id = |bytes: &[u8]| ondisk::Uuid::from_slice(bytes).expect("16 bytes");
        let mark = Mark {
            control: id(&raw[..16]),
            volume: id(&raw[16..32]),
            slot: u16::from_le_bytes([raw[32], raw[33]]),
            incarnation: u64::from_le_bytes(raw[34..42].try_into().expect("8 bytes")),
            mode: if raw[42] & 1 == 0 {
                lockdriver::gate::mark::Mode::ReadOnly
            } else {
                lockdriver::gate::mark::Mode::ReadWrite
            },
            keep_after_lease: raw[42] & 2 != 0,
        };
        assert_eq!(Mark::decode(mark.encode().as_bytes()), Some(mark));
    }
}

pub(super) fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let name = Name::new(text.as_ref());
    assert_eq!(name.is_ok(), names::check_name(&text).is_ok(), "disk and socket have the same names: {text:?}");
    if let Ok(name) = &name {
        assert_eq!(name.as_str(), text);
        assert!(!name.as_str().contains(['/', '\0', '\n']) && !name.as_str().is_empty());
    }
    let fits = Message::new(text.as_ref()).is_ok();
    let spoken = !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    assert_eq!(names::check_message(&text).is_ok(), fits && spoken);
    let (label, message) = (Label::cut(&text), Message::cut(&text));
    assert!(text.starts_with(label.as_str()) && label.as_str().len() <= 63);
    assert!(text.starts_with(message.as_str()) && message.as_str().len() <= 255);
    if let Some(generation) = snapshot_name::parse(&text) {
        assert_eq!(snapshot_name::of(generation), text);
    }
    if let Ok(generation) = text.parse::<Generation>() {
        assert_eq!(generation.to_string().parse(), Ok(generation));
    }
}

pub(super) fn units(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(time) = units::parse_duration(&text) {
        assert_eq!(units::parse_duration(&units::format_duration(time)), Ok(time));
    }
    if let Ok(size) = units::parse_size(&text) {
        assert_eq!(units::parse_size(&units::format_size(size)), Ok(size));
    }
    if let Some(Ok(bytes)) = data.get(..8).map(<[u8; 8]>::try_from) {
        let number = u64::from_le_bytes(bytes);
        assert_eq!(units::parse_size(&units::format_size(number)), Ok(number));
        assert!(units::round_size(number).len() < 24 && units::round_duration_ms(number).len() < 32);
        assert!(!units::format_duration(Duration::from_millis(number)).is_empty());
    }
}

pub(super) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let origin = Path::new("/etc/volctl.toml");
    // With what every configuration must have, and without.
    let whole = format!("client = \"alice\"\ncontrol = \"/dev/x\"\n{text}");
    for text in [text.as_ref(), whole.as_str()] {
        match Config::parse(text, origin) {
            Ok(config) => {
                assert!(names::check_name(&config.client).is_ok());
                assert!(!config.control.is_empty());
            }
            Err(failure) => assert!(!failure.why.is_empty()),
        }
    }
}
