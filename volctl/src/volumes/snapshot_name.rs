//! How the snapshot of a generation is called on the volume (section 8): `.volctl/gen-EPOCH-COUNT`.

use ondisk::Generation;

/// Name of the snapshot inside `.volctl`.
#[must_use]
pub fn of(generation: Generation) -> String {
    format!("gen-{}-{}", generation.epoch, generation.count)
}

/// Reads a snapshot name; `None` for any other name, and for numbers written otherwise than we do.
#[must_use]
pub fn parse(name: &str) -> Option<Generation> {
    let (epoch, count) = name.strip_prefix("gen-")?.split_once('-')?;
    let found = Generation { epoch: epoch.parse().ok()?, count: count.parse().ok()? };
    (of(found) == name).then_some(found)
}

/// Path of the snapshot below the root of the volume, for [`crate::volumes::mounting::mount_reader`].
#[must_use]
pub fn path(generation: Generation) -> String {
    format!(".volctl/{}", of(generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_spelling_of_a_snapshot_name_counts() {
        let generation = Generation { epoch: 41, count: 3 };
        assert_eq!(parse("gen-41-3"), Some(generation));
        for other in ["gen-041-3", "gen-41-3x", "gen-41", "gen-+41-3", "41-3", "gen-41-3-1"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
