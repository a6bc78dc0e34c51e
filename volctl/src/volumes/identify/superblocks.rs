//! The superblocks of ext4, XFS and btrfs, as far as volctl looks into them: bytes in, facts out.

use uuid::Uuid;

use super::{Ext4Features, FoundFs, IdentityError};
use ondisk::FsKind;

/// Where the first superblock of btrfs lies behind the beginning of the file system.
pub(super) const BTRFS_AT: u64 = 64 * 1024;

const EXT4_SB: usize = 1024;

type Block = [u8; 4096];

fn array<const N: usize>(block: &Block, at: usize) -> [u8; N] {
    let mut out = [0_u8; N];
    out.copy_from_slice(&block[at..at + N]);
    out
}

fn le32(block: &Block, at: usize) -> u32 {
    u32::from_le_bytes(array(block, at))
}

fn le64(block: &Block, at: usize) -> u64 {
    u64::from_le_bytes(array(block, at))
}

fn be32(block: &Block, at: usize) -> u32 {
    u32::from_be_bytes(array(block, at))
}

fn be64(block: &Block, at: usize) -> u64 {
    u64::from_be_bytes(array(block, at))
}

fn label<const N: usize>(block: &Block, at: usize) -> String {
    let bytes: [u8; N] = array(block, at);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(N);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Which file system it is. `head` is its first block, `deep` the one at [`BTRFS_AT`].
///
/// mkfs of one kind may leave the magic of another behind, and nobody can say then which is the volume: refused.
pub(in crate::volumes) fn find(head: &Block, deep: &Block) -> Result<Option<FoundFs>, IdentityError> {
    let mut found = [xfs(head), ext4(head), btrfs(deep)].into_iter().flatten();
    let first = found.next().transpose()?;
    match (first, found.next()) {
        (Some(first), Some(_)) => Err(IdentityError::Unsupported {
            kind: first.kind,
            why: "there are superblocks of two file systems; wipe the old one (wipefs shows both)",
        }),
        (first, _) => Ok(first),
    }
}

fn ext4(head: &Block) -> Option<Result<FoundFs, IdentityError>> {
    if array::<2>(head, EXT4_SB + 0x38) != [0x53, 0xEF] {
        return None;
    }
    let kind = FsKind::Ext4;
    let features = Ext4Features {
        compatible: le32(head, EXT4_SB + 0x5C),
        incompatible: le32(head, EXT4_SB + 0x60),
        read_only_compatible: le32(head, EXT4_SB + 0x64),
    };
    if features.incompatible & 0x8 != 0 {
        return Some(Err(IdentityError::Unsupported { kind, why: "it is the journal of another file system" }));
    }
    if features.has_journal() && le32(head, EXT4_SB + 0xE4) != 0 {
        return Some(Err(IdentityError::Unsupported { kind, why: "its journal lies on another device" }));
    }
    let log_size = le32(head, EXT4_SB + 0x18);
    if log_size > 6 {
        return None; // no ext4 has blocks beyond 64 KiB: the two magic bytes were a chance
    }
    let high = if features.incompatible & 0x80 != 0 { le32(head, EXT4_SB + 0x150) } else { 0 };
    let blocks = (u64::from(high) << 32) | u64::from(le32(head, EXT4_SB + 0x04));
    Some(Ok(FoundFs {
        kind,
        uuid: Uuid::from_bytes(array(head, EXT4_SB + 0x68)),
        label: label::<16>(head, EXT4_SB + 0x78),
        fs_bytes: blocks.saturating_mul(1024 << log_size),
        ext4: Some(features),
    }))
}

fn xfs(head: &Block) -> Option<Result<FoundFs, IdentityError>> {
    if &array::<4>(head, 0) != b"XFSB" {
        return None;
    }
    let kind = FsKind::Xfs;
    if be64(head, 16) != 0 {
        return Some(Err(IdentityError::Unsupported { kind, why: "it has a real-time device beside this one" }));
    }
    if be64(head, 48) == 0 {
        return Some(Err(IdentityError::Unsupported { kind, why: "its log lies on another device" }));
    }
    Some(Ok(FoundFs {
        kind,
        uuid: Uuid::from_bytes(array(head, 32)),
        label: label::<12>(head, 108),
        fs_bytes: be64(head, 8).saturating_mul(u64::from(be32(head, 4))),
        ext4: None,
    }))
}

fn btrfs(deep: &Block) -> Option<Result<FoundFs, IdentityError>> {
    if &array::<8>(deep, 0x40) != b"_BHRfS_M" {
        return None;
    }
    let kind = FsKind::Btrfs;
    if le64(deep, 0x88) != 1 {
        return Some(Err(IdentityError::Unsupported { kind, why: "it lies on several devices" }));
    }
    if le64(deep, 0x38) & (1 << 32) != 0 {
        return Some(Err(IdentityError::Unsupported { kind, why: "it is a seed for other file systems" }));
    }
    Some(Ok(FoundFs {
        kind,
        uuid: Uuid::from_bytes(array(deep, 0x20)),
        label: label::<256>(deep, 0x12B),
        fs_bytes: le64(deep, 0x70),
        ext4: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank() -> Block {
        [0; 4096]
    }

    fn btrfs_block(devices: u64) -> Block {
        let mut block = blank();
        block[0x40..0x48].copy_from_slice(b"_BHRfS_M");
        block[0x88..0x90].copy_from_slice(&devices.to_le_bytes());
        block
    }

    #[test]
    fn btrfs_on_two_devices_is_refused() {
        assert!(find(&blank(), &btrfs_block(1)).unwrap().is_some());
        assert!(matches!(find(&blank(), &btrfs_block(2)), Err(IdentityError::Unsupported { kind: FsKind::Btrfs, .. })));
    }

    #[test]
    fn superblocks_of_two_file_systems_are_refused() {
        let mut head = blank();
        head[0..4].copy_from_slice(b"XFSB");
        head[55] = 1;
        assert!(matches!(find(&head, &blank()), Ok(Some(FoundFs { kind: FsKind::Xfs, .. }))));
        assert!(matches!(find(&head, &btrfs_block(1)), Err(IdentityError::Unsupported { .. })));
    }

    #[test]
    fn zeros_are_no_file_system() {
        assert!(matches!(find(&blank(), &blank()), Ok(None)));
    }
}
