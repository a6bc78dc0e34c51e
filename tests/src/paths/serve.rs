//! The process behind the paths: one FUSE mount for each host, which shows the images as files.
//!
//! It is a process of its own, and nobody stops it: whoever stands still in it stands still in the kernel. It ends when its
//! standard input does, so it never outlives the test that started it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, Session, WriteFlags,
};
use lockdriver::device::Access;
use serde::{Deserialize, Serialize};
use volctl::control::open::ControlVolume;

use super::judge::{Judge, Seen};
use super::valve::{Mode, Op, Valve};

/// Attributes do not change.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);
/// As many requests at once as a disk's queue takes.
const QUEUE: u16 = 256;

/// What is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Where the images lie.
    pub(super) dir: PathBuf,
    /// The control volume's image; the others are volumes, NAME.img for the volume NAME.
    pub(super) control: String,
    /// Other images.
    pub(super) volumes: Vec<String>,
    /// Each with its slot, if it has one.
    pub(super) hosts: Vec<(String, Option<u16>)>,
}

impl Spec {
    /// Where a host's mount is made.
    pub(super) fn mount_point(&self, host: &str) -> PathBuf {
        self.dir.join(format!("path-{host}"))
    }

    /// An image below a host's mount: at the very path at which it lies in truth, so that the kernel, which shows paths
    /// from a detached mount's root, shows that one.
    pub(super) fn shown(&self, host: &str, image: &str) -> PathBuf {
        let inner = self.dir.join(image);
        self.mount_point(host).join(inner.strip_prefix("/").unwrap_or(&inner))
    }
}

/// What the process is told, a line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Order {
    Set { host: String, image: String, mode: Mode },
    Report,
}

/// One image as one host sees it.
struct Node {
    image: String,
    is_control: bool,
    backing: File,
    bytes: u64,
    valve: Valve,
}

struct Host {
    name: String,
    /// Directories from the root to the images; the n-th has the inode n + 2.
    above: Vec<String>,
    nodes: Vec<Arc<Node>>,
    judge: Arc<Mutex<Judge>>,
    control: Arc<File>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    fn first_file(&self) -> u64 {
        self.above.len() as u64 + 2
    }

    fn node(&self, inode: INodeNo) -> Option<&Arc<Node>> {
        let index = inode.0.checked_sub(self.first_file())?;
        self.nodes.get(usize::try_from(index).ok()?)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let node = self.node(inode);
        if node.is_none() && inode.0 >= self.first_file() {
            return None;
        }
        let size = node.map_or(0, |n| n.bytes);
        let (kind, perm) = if node.is_some() { (FileType::RegularFile, 0o600) } else { (FileType::Directory, 0o700) };
        let time = SystemTime::UNIX_EPOCH;
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// Does it here if nothing waits, in a thread of its own if something does: the session's thread must never wait.
    fn carry(&self, node: &Arc<Node>, op: Op, act: impl FnOnce(Result<(), Errno>, &Node) + Send + 'static) {
        if node.valve.is_open() {
            return act(Ok(()), node);
        }
        let node = Arc::clone(node);
        let run = move || {
            let passed = node.valve.pass(op);
            act(passed, &node);
        };
        let spawned = std::thread::Builder::new().name("waits".into()).stack_size(128 << 10).spawn(run);
        drop(spawned.expect("a thread for a request"));
    }
}

impl Filesystem for Host {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_background(QUEUE);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let depth = usize::try_from(parent.0 - 1).unwrap_or(usize::MAX);
        let inode = match self.above.get(depth) {
            Some(directory) => (OsStr::new(directory) == name).then_some(parent.0 + 1),
            None => {
                let index = self.nodes.iter().position(|node| OsStr::new(&node.image) == name);
                index.filter(|_| depth == self.above.len()).map(|index| self.first_file() + index as u64)
            }
        };
        match inode.and_then(|inode| self.attributes(INodeNo(inode))) {
            Some(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOR_EVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES | FopenFlags::FOPEN_NOFLUSH;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(node) = self.node(inode) else { return reply.error(Errno::ENOENT) };
        self.carry(node, Op::Read, move |passed, node| {
            let mut bytes = vec![0; size as usize];
            let read = passed.and_then(|()| node.backing.read_at(&mut bytes, offset).map_err(Errno::from));
            match read {
                Ok(count) => reply.data(&bytes[..count]),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(node) = self.node(inode) else { return reply.error(Errno::ENOENT) };
        let (bytes, host) = (data.to_vec(), self.name.clone());
        let (judge, control) = (Arc::clone(&self.judge), Arc::clone(&self.control));
        self.carry(node, Op::Write, move |passed, node| {
            let range = offset..offset + bytes.len() as u64;
            let written = passed.and_then(|()| {
                // Held over the write: the judge's order is the order in which bytes land.
                let mut judge = locked(&judge);
                if !node.is_control {
                    judge.volume_write(&host, &node.image, &range);
                }
                let written = node.backing.write_all_at(&bytes, offset).map_err(Errno::from);
                if node.is_control {
                    judge.tables_written(&control, &range);
                }
                written
            });
            match written {
                Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let Some(node) = self.node(inode) else { return reply.error(Errno::ENOENT) };
        // The machine under all this does not lose power: what was written is there.
        self.carry(node, Op::Flush, move |passed, _| match passed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }
}

fn host(spec: &Spec, name: &str, judge: &Arc<Mutex<Judge>>) -> std::io::Result<Host> {
    let open = |image: &str| File::options().read(true).write(true).open(spec.dir.join(image));
    let mut nodes = Vec::new();
    for image in std::iter::once(&spec.control).chain(&spec.volumes) {
        let backing = open(image)?;
        let bytes = backing.metadata()?.len();
        let is_control = *image == spec.control;
        nodes.push(Arc::new(Node { image: image.clone(), is_control, backing, bytes, valve: Valve::default() }));
    }
    let parts = spec.dir.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
    Ok(Host {
        name: name.to_owned(),
        above: parts.collect(),
        nodes,
        judge: Arc::clone(judge),
        control: Arc::new(open(&spec.control)?),
    })
}

/// Serves until its standard input ends. `spec` is what [`super::Paths`] wrote.
///
/// # Errors
/// When a mount cannot be made, or what it is told cannot be understood.
pub fn serve(spec: &str) -> std::io::Result<()> {
    let spec: Spec = serde_json::from_str(spec)?;
    let volume = ControlVolume::open(&spec.dir.join(&spec.control), Access::Read)
        .map_err(|failure| std::io::Error::other(failure.to_string()))?;
    let hosts = spec.hosts.iter().filter_map(|(name, slot)| Some(((*slot)?, name.clone())));
    let judge = Arc::new(Mutex::new(Judge::new(&volume.geometry, hosts.collect())));
    drop(volume);
    let mut valves: BTreeMap<(String, String), Arc<Node>> = BTreeMap::new();
    for (name, _) in &spec.hosts {
        let host = host(&spec, name, &judge)?;
        for node in &host.nodes {
            valves.insert((name.clone(), node.image.clone()), Arc::clone(node));
        }
        mount(host, &spec.mount_point(name))?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Order::Set { host, image, mode } => {
                let node = valves.get(&(host, image)).ok_or_else(|| std::io::Error::other("no such path"))?;
                node.valve.set(mode);
                Seen::default()
            }
            Order::Report => locked(&judge).report(),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    // Requests may wait in threads: the process ends under them, and the kernel gives their callers an error.
    std::process::exit(0)
}

fn mount(host: Host, point: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(point)?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName(format!("path-of-{}", host.name))];
    config.n_threads = Some(2);
    let session = Session::new(host, point, &config)?;
    drop(std::thread::Builder::new().name("path".into()).spawn(move || session.run())?);
    Ok(())
}
