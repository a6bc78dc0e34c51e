//! The ioctls of device-mapper (`linux/dm-ioctl.h`), as far as a gate needs them.
//!
//! Each takes one packet: a head of 312 bytes, then what belongs to the command. The packet is written and read by offsets, and no
//! structure is laid over it, so that what the kernel answers is checked like any other bytes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Where device-mapper takes orders.
pub const CONTROL: &str = "/dev/mapper/control";
/// Longest name and longest UUID of a device in bytes; the kernel keeps one more for the NUL.
pub const NAME_BYTES: usize = 127;
/// As [`NAME_BYTES`].
pub const UUID_BYTES: usize = 128;

/// Size of `struct dm_ioctl`, and where its fields lie.
const HEAD: usize = 312;
const DATA_SIZE_AT: usize = 12;
const DATA_START_AT: usize = 16;
const TARGET_COUNT_AT: usize = 20;
const FLAGS_AT: usize = 28;
const EVENT_AT: usize = 32;
const DEVICE_AT: usize = 40;
const NAME_AT: usize = 48;
const UUID_AT: usize = 176;
/// Size of `struct dm_target_spec`, and where its fields lie.
const SPEC: usize = 40;
const SPEC_LENGTH_AT: usize = 8;
const SPEC_NEXT_AT: usize = 20;
const SPEC_KIND_AT: usize = 24;
const KIND_BYTES: usize = 16;
/// Where the name begins in `struct dm_name_list`.
const LIST_NAME_AT: usize = 12;

/// The interface that this file speaks: 4.0.0; a kernel of a later minor number takes it.
const VERSION_MAJOR: u32 = 4;

const READ_ONLY: u32 = 1 << 0;
const SUSPEND: u32 = 1 << 1;
const STATUS_TABLE: u32 = 1 << 4;
const ACTIVE_PRESENT: u32 = 1 << 5;
const BUFFER_FULL: u32 = 1 << 8;
const SKIP_LOCKFS: u32 = 1 << 10;
const NOFLUSH: u32 = 1 << 11;
const DEFERRED_REMOVE: u32 = 1 << 17;

/// Flags for udev's rules, in the upper half of the cookie: no rules of subsystems (LVM), disks (blkid, links by UUID) and others
/// (desktops, systemd), and this event is the one that later ones take these flags from. The lower half is zero: nobody waits.
const UDEV_KEEP_OFF: u32 = (0x02 | 0x04 | 0x08 | 0x40) << 16;

const fn command(nr: u64) -> u64 {
    // _IOWR(0xfd, nr, struct dm_ioctl)
    3 << 30 | (HEAD as u64) << 16 | 0xfd << 8 | nr
}

const DM_VERSION: u64 = command(0);
const DM_LIST_DEVICES: u64 = command(2);
const DM_DEV_CREATE: u64 = command(3);
const DM_DEV_REMOVE: u64 = command(4);
const DM_DEV_SUSPEND: u64 = command(6);
const DM_DEV_STATUS: u64 = command(7);
const DM_TABLE_LOAD: u64 = command(9);
const DM_TABLE_STATUS: u64 = command(12);

/// Room for an answer, and the most that is ever offered.
const ROOM: usize = 16 << 10;
const ROOM_MAX: usize = 16 << 20;

/// One row of a table, which is the whole table of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Length in sectors of 512 bytes; it begins at sector 0.
    pub sectors: u64,
    /// `linear`, `error`.
    pub kind: String,
    /// As the kind wants them.
    pub parameters: String,
}

/// What a device says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Of the device, as made.
    pub uuid: String,
    /// Minor number: N of /dev/dm-N.
    pub minor: u32,
    /// Device number, as the file system shows it.
    pub device: u64,
    /// New I/O is held, and none is in flight.
    pub suspended: bool,
    /// It has a table in force.
    pub active: bool,
}

/// A device as the list of all names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Name.
    pub name: String,
    /// Minor number.
    pub minor: u32,
}

/// How a device is addressed.
#[derive(Debug, Clone, Copy)]
pub enum Whom<'a> {
    /// By its UUID, which never comes to mean another.
    Uuid(&'a str),
    /// By its name.
    Name(&'a str),
}

/// The open control node.
#[derive(Debug)]
pub struct Control(File);

impl Control {
    /// Opens it and asks for the version of the interface: device-mapper is there and answers.
    ///
    /// # Errors
    /// When there is no such node, or the kernel speaks another interface.
    pub fn open() -> io::Result<Self> {
        let control = Self(File::options().read(true).write(true).open(CONTROL)?);
        control.call(DM_VERSION, &mut Packet::new(HEAD, 0))?;
        Ok(control)
    }

    /// Makes a device without a table; I/O to it fails until it has one. Returns its device number and its minor number.
    ///
    /// # Errors
    /// EBUSY when name or UUID are taken, else what the kernel said.
    pub fn create(&self, name: &str, uuid: &str) -> io::Result<(u64, u32)> {
        let mut packet = Packet::new(HEAD, 0);
        packet.put_text(NAME_AT, NAME_BYTES, name)?;
        packet.put_text(UUID_AT, UUID_BYTES, uuid)?;
        self.call(DM_DEV_CREATE, &mut packet)?;
        let device = packet.u64_at(DEVICE_AT)?;
        Ok((device, minor_of(device)?))
    }

    /// Prepares a table, which [`resume`](Self::resume) puts in force; waits for no I/O.
    ///
    /// # Errors
    /// What the kernel said: EBUSY when something else claims the device under it.
    pub fn load(&self, uuid: &str, target: &Target, read_only: bool) -> io::Result<()> {
        let mut packet = table_packet(target, if read_only { READ_ONLY } else { 0 })?;
        packet.put_text(UUID_AT, UUID_BYTES, uuid)?;
        self.call(DM_TABLE_LOAD, &mut packet)
    }

    /// Holds all new I/O and waits until what is in flight has returned, without writing anything out. Has no bound of its own.
    ///
    /// # Errors
    /// EINTR when a signal broke the waiting off (nothing is held then), EINVAL when another caller was first.
    pub fn suspend(&self, uuid: &str) -> io::Result<()> {
        self.tell(DM_DEV_SUSPEND, uuid, SUSPEND | SKIP_LOCKFS | NOFLUSH, 0)
    }

    /// Puts a prepared table in force and lets I/O go on, first what was held. udev's rules are told to keep off.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn resume(&self, uuid: &str) -> io::Result<()> {
        self.tell(DM_DEV_SUSPEND, uuid, SKIP_LOCKFS | NOFLUSH, UDEV_KEEP_OFF)
    }

    /// Removes a device that nobody has open; with `deferred`, else when the last one closes it.
    ///
    /// # Errors
    /// EBUSY while it is open, ENXIO when it is gone, else what the kernel said.
    pub fn remove(&self, uuid: &str, deferred: bool) -> io::Result<()> {
        self.tell(DM_DEV_REMOVE, uuid, if deferred { DEFERRED_REMOVE } else { 0 }, 0)
    }

    /// What a device says about itself; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel said, or an answer that makes no sense.
    pub fn status(&self, whom: Whom<'_>) -> io::Result<Option<Status>> {
        let mut packet = Packet::new(HEAD, 0);
        match whom {
            Whom::Uuid(uuid) => packet.put_text(UUID_AT, UUID_BYTES, uuid)?,
            Whom::Name(name) => packet.put_text(NAME_AT, NAME_BYTES, name)?,
        }
        match self.call(DM_DEV_STATUS, &mut packet) {
            Ok(()) => packet.status().map(Some),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The table in force.
    ///
    /// # Errors
    /// What the kernel said, or an answer that makes no sense.
    pub fn table(&self, uuid: &str) -> io::Result<Vec<Target>> {
        let answer = self.ask(DM_TABLE_STATUS, |packet| {
            packet.put_u32(FLAGS_AT, STATUS_TABLE | NOFLUSH);
            packet.put_text(UUID_AT, UUID_BYTES, uuid)
        })?;
        answer.targets()
    }

    /// Every device of device-mapper in this kernel, those without a table too.
    ///
    /// # Errors
    /// What the kernel said, or an answer that makes no sense.
    pub fn list(&self) -> io::Result<Vec<Named>> {
        self.ask(DM_LIST_DEVICES, |_| Ok(()))?.names()
    }

    fn tell(&self, command: u64, uuid: &str, flags: u32, event: u32) -> io::Result<()> {
        let mut packet = Packet::new(HEAD, flags);
        packet.put_u32(EVENT_AT, event);
        packet.put_text(UUID_AT, UUID_BYTES, uuid)?;
        self.call(command, &mut packet)
    }

    /// Asks with more and more room, until the answer fits.
    fn ask(&self, command: u64, fill: impl Fn(&mut Packet) -> io::Result<()>) -> io::Result<Packet> {
        let mut room = ROOM;
        loop {
            let mut packet = Packet::new(room, 0);
            fill(&mut packet)?;
            self.call(command, &mut packet)?;
            if packet.u32_at(FLAGS_AT)? & BUFFER_FULL == 0 {
                return Ok(packet);
            }
            if room >= ROOM_MAX {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            room *= 4;
        }
    }

    fn call(&self, command: u64, packet: &mut Packet) -> io::Result<()> {
        // SAFETY: the packet begins with one whole `struct dm_ioctl` that says how many bytes follow each other in all, which is the
        // buffer's length (`Packet::new`); the kernel reads and writes no more. The descriptor is open.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), command, packet.0.as_mut_ptr()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The bytes of one call.
struct Packet(Vec<u8>);

#[expect(
    clippy::host_endian_bytes,
    reason = "what the kernel and its programs exchange is in the order of the machine"
)]
impl Packet {
    fn new(bytes: usize, flags: u32) -> Self {
        let mut packet = Self(vec![0; bytes.max(HEAD)]);
        packet.put_u32(0, VERSION_MAJOR);
        packet.put_u32(DATA_SIZE_AT, u32::try_from(packet.0.len()).unwrap_or(u32::MAX));
        packet.put_u32(DATA_START_AT, u32::try_from(HEAD).unwrap_or(0));
        packet.put_u32(FLAGS_AT, flags);
        packet
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn put_u64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    /// A text of at most `longest` bytes; the byte after them stays NUL.
    fn put_text(&mut self, at: usize, longest: usize, text: &str) -> io::Result<()> {
        if text.is_empty() || text.len() > longest || text.bytes().any(|byte| byte == 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "name of a mapped device"));
        }
        self.0[at..at + text.len()].copy_from_slice(text.as_bytes());
        Ok(())
    }

    fn bytes<const N: usize>(&self, at: usize) -> io::Result<[u8; N]> {
        let end = at.checked_add(N).ok_or_else(nonsense)?;
        self.0.get(at..end).and_then(|bytes| bytes.try_into().ok()).ok_or_else(nonsense)
    }

    fn u32_at(&self, at: usize) -> io::Result<u32> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    fn u64_at(&self, at: usize) -> io::Result<u64> {
        self.bytes(at).map(u64::from_ne_bytes)
    }

    fn offset_at(&self, at: usize) -> io::Result<usize> {
        usize::try_from(self.u32_at(at)?).map_err(|_| nonsense())
    }

    /// Up to the NUL, or to the end of `longest` bytes.
    fn text_at(&self, at: usize, longest: usize) -> io::Result<String> {
        let rest = self.0.get(at..).ok_or_else(nonsense)?;
        let text = &rest[..longest.min(rest.len())];
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        String::from_utf8(text[..end].to_vec()).map_err(|_| nonsense())
    }

    fn status(&self) -> io::Result<Status> {
        let (flags, device) = (self.u32_at(FLAGS_AT)?, self.u64_at(DEVICE_AT)?);
        Ok(Status {
            uuid: self.text_at(UUID_AT, UUID_BYTES + 1)?,
            minor: minor_of(device)?,
            device,
            suspended: flags & SUSPEND != 0,
            active: flags & ACTIVE_PRESENT != 0,
        })
    }

    fn targets(&self) -> io::Result<Vec<Target>> {
        let start = self.offset_at(DATA_START_AT)?;
        let mut at = start;
        let mut found = Vec::new();
        for _ in 0..self.u32_at(TARGET_COUNT_AT)? {
            let parameters = at.checked_add(SPEC).ok_or_else(nonsense)?;
            found.push(Target {
                sectors: self.u64_at(at + SPEC_LENGTH_AT)?,
                kind: self.text_at(at + SPEC_KIND_AT, KIND_BYTES)?,
                parameters: self.text_at(parameters, usize::MAX)?,
            });
            // In an answer the next one's place is counted from the first, and it never lies before this one's end.
            let next = start.checked_add(self.offset_at(at + SPEC_NEXT_AT)?).ok_or_else(nonsense)?;
            if next < parameters {
                return Err(nonsense());
            }
            at = next;
        }
        Ok(found)
    }

    fn names(&self) -> io::Result<Vec<Named>> {
        let mut at = self.offset_at(DATA_START_AT)?;
        let mut found = Vec::new();
        loop {
            let device = self.u64_at(at)?;
            if device == 0 {
                return Ok(found);
            }
            let name = self.text_at(at + LIST_NAME_AT, NAME_BYTES + 1)?;
            found.push(Named { name, minor: minor_of(device)? });
            let next = self.offset_at(at + 8)?;
            if next == 0 {
                return Ok(found);
            }
            if next < LIST_NAME_AT {
                return Err(nonsense());
            }
            at = at.checked_add(next).ok_or_else(nonsense)?;
        }
    }
}

/// A table of one row, for [`Control::load`].
fn table_packet(target: &Target, flags: u32) -> io::Result<Packet> {
    // The parameters end in a NUL, and the row in a multiple of eight bytes.
    let row = (SPEC + target.parameters.len() + 1).next_multiple_of(8);
    let mut packet = Packet::new(HEAD + row, flags);
    packet.put_u32(TARGET_COUNT_AT, 1);
    packet.put_u64(HEAD + SPEC_LENGTH_AT, target.sectors);
    packet.put_u32(HEAD + SPEC_NEXT_AT, u32::try_from(row).map_err(|_| nonsense())?);
    packet.put_text(HEAD + SPEC_KIND_AT, KIND_BYTES - 1, &target.kind)?;
    if !target.parameters.is_empty() {
        packet.put_text(HEAD + SPEC, target.parameters.len(), &target.parameters)?;
    }
    Ok(packet)
}

fn minor_of(device: u64) -> io::Result<u32> {
    u32::try_from(nix::sys::stat::minor(device)).map_err(|_| nonsense())
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "device-mapper's answer makes no sense")
}

#[cfg(test)]
mod tests;
