//! Made-up trees of sysfs, one for each kind of path.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

/// A sysfs of our own making.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn put(&self, file: &str, text: &str) -> &Self {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, at: &str, to: &str) -> &Self {
        let path = self.path(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    fn explain(&self, disk: &str, table: &str) -> (Inflight, Vec<Setting>) {
        let sysfs = SysFs::at(self.0.path());
        let tables = |_: &str| if table.is_empty() { Err("dmsetup is not installed".into()) } else { Ok(table.into()) };
        let mut look = Look::new(&sysfs, &tables);
        let found = look.disk(&self.path(disk), 0);
        (found, look.settings)
    }

    fn measure(&self, disk: &str) -> Inflight {
        self.explain(disk, "").0
    }

    /// A SCSI disk below `host2/PART`.
    fn scsi(&self, name: &str, address: &str, part: &str) -> String {
        let device = format!("devices/host2/{part}/target2:0:0/{address}");
        self.put(&format!("{device}/timeout"), "30\n").put(&format!("{device}/block/{name}/size"), "8\n");
        self.link(&format!("{device}/block/{name}/device"), "../..");
        format!("{device}/block/{name}")
    }
}

fn seconds_of(found: &Inflight) -> u64 {
    match found {
        Inflight::Bounded(time) => time.as_secs(),
        other => panic!("{other}"),
    }
}

/// It is without a bound, and the text names what to change, and to what.
fn names(found: &Inflight, words: &[&str]) {
    let Inflight::Unbounded(why) = found else { panic!("it has a bound: {found}") };
    for word in words {
        assert!(why.contains(word), "{why}: no {word}");
    }
}

#[test]
fn an_image_on_a_local_file_system_has_no_late_writes() {
    let image = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(measure(image.path()), Inflight::Bounded(Duration::ZERO));
    assert_eq!(is_on_local_storage(image.path()), Some(true));
}

#[test]
fn what_is_under_a_loop_device_decides() {
    let tree = Tree::new();
    fs::write(tree.path("image"), b"").unwrap();
    tree.put("block/loop7/loop/backing_file", &format!("{}\n", tree.path("image").display()));
    assert_eq!(tree.measure("block/loop7"), Inflight::Bounded(Duration::ZERO));
    tree.put("block/loop8/loop/backing_file", "/nowhere/image (deleted)\n");
    assert!(matches!(tree.measure("block/loop8"), Inflight::Unknown(_)));
}

#[test]
fn scsi_counts_every_try_with_its_error_handling_and_the_transport() {
    let tree = Tree::new();
    let disk = tree.scsi("sda", "2:0:0:1", "session1");
    tree.put("class/scsi_disk/2:0:0:1/max_retries", "2\n").put("class/iscsi_session/session1/recovery_tmo", "120\n");
    assert_eq!(seconds_of(&tree.measure(&disk)), 3 * (30 + 60) + 120);
    tree.put("devices/host2/session1/target2:0:0/2:0:0:1/eh_timeout", "5\n");
    assert_eq!(seconds_of(&tree.measure(&disk)), 3 * (30 + 30) + 120);
    for (file, text) in [("abort_tmo", "15"), ("lu_reset_tmo", "30"), ("tgt_reset_tmo", "30")] {
        tree.put(&format!("class/iscsi_session/session1/{file}"), text);
    }
    tree.put("class/iscsi_connection/connection1:0/recv_tmo", "5")
        .put("class/iscsi_connection/connection1:0/ping_tmo", "5");
    let (found, settings) = tree.explain(&disk, "");
    assert_eq!(seconds_of(&found), 3 * (30 + 30) + 120 + 75 + 10);
    assert!(
        settings.iter().any(|s| s.of == "session1" && s.name == "recovery_tmo" && s.value == "120"),
        "{settings:?}"
    );
}

#[test]
fn what_scsi_waits_for_without_end_is_named_with_the_setting() {
    let tree = Tree::new();
    let disk = tree.scsi("sda", "2:0:0:1", "session1");
    for never in ["-1\n", "off\n", "2147483647\n"] {
        tree.put("class/iscsi_session/session1/recovery_tmo", never);
        names(&tree.measure(&disk), &["session1", "replacement_timeout = 15"]);
    }
    tree.put("class/iscsi_session/session1/recovery_tmo", "15\n").put("class/scsi_disk/2:0:0:1/max_retries", "-1\n");
    names(&tree.measure(&disk), &["echo 1 > /sys/class/scsi_disk/2:0:0:1/max_retries"]);
}

/// They start the time of a command anew whenever it is over, so their time-outs bound nothing.
#[test]
fn a_time_out_that_the_driver_ignores_is_no_bound() {
    for driver in ["virtio_scsi", "storvsc_host"] {
        let tree = Tree::new();
        let disk = tree.scsi("sda", "2:0:0:1", "virtio3");
        assert!(matches!(tree.measure(&disk), Inflight::Bounded(_)));
        tree.put("class/scsi_host/host2/proc_name", &format!("{driver}\n"));
        names(&tree.measure(&disk), &[driver, "inside the guest"]);
    }
}

#[test]
fn fibre_channel_fails_fast_if_it_is_told_to() {
    let tree = Tree::new();
    let disk = tree.scsi("sdc", "2:0:0:1", "rport-2:0-1");
    let port = "class/fc_remote_ports/rport-2:0-1";
    assert!(matches!(tree.measure(&disk), Inflight::Unknown(_)));
    tree.put(&format!("{port}/dev_loss_tmo"), "60\n").put(&format!("{port}/fast_io_fail_tmo"), "off\n");
    assert_eq!(seconds_of(&tree.measure(&disk)), 6 * 90 + 60);
    tree.put(&format!("{port}/fast_io_fail_tmo"), "5\n");
    assert_eq!(seconds_of(&tree.measure(&disk)), 6 * 90 + 5);
    // multipath's `dev_loss_tmo infinity`: 68 years are no bound.
    tree.put(&format!("{port}/dev_loss_tmo"), "2147483647\n");
    assert_eq!(seconds_of(&tree.measure(&disk)), 6 * 90 + 5);
    tree.put(&format!("{port}/fast_io_fail_tmo"), "off\n");
    names(&tree.measure(&disk), &["fast_io_fail_tmo 5", "rport-2:0-1"]);
}

#[test]
fn srp_ports_are_told_from_sas_ports() {
    let tree = Tree::new();
    let disk = tree.scsi("sdd", "2:0:0:1", "port-2:1");
    assert_eq!(seconds_of(&tree.measure(&disk)), 6 * 90);
    tree.put("class/srp_remote_ports/port-2:1/dev_loss_tmo", "600\n");
    assert_eq!(seconds_of(&tree.measure(&disk)), 6 * 90 + 600);
}

fn multipath(tree: &Tree) -> String {
    for (name, address) in [("sda", "2:0:0:1"), ("sdb", "2:0:0:2")] {
        let disk = tree.scsi(name, address, "port-2:9");
        tree.link(&format!("block/dm-0/slaves/{name}"), &tree.path(&disk).display().to_string());
    }
    tree.put("block/dm-0/dm/uuid", "mpath-3600\n").put("block/dm-0/dm/name", "data\n");
    "block/dm-0".into()
}

/// A write that one path has failed is sent on the next, with all of its time again.
#[test]
fn multipath_is_the_sum_of_its_paths() {
    let tree = Tree::new();
    let disk = multipath(&tree);
    let (found, settings) = tree.explain(&disk, "0 65536 multipath 0 1 alua 1 1 service-time 0 2 2 8:0 1 1 8:16 1 1");
    assert_eq!(seconds_of(&found), 2 * 6 * 90);
    assert!(settings.iter().any(|s| s.of == "data" && s.name == "queue_if_no_path" && s.value == "no"), "{settings:?}");
    assert!(matches!(tree.measure(&disk), Inflight::Unknown(_)), "without dmsetup nothing is known");
    assert!(matches!(tree.explain(&disk, "gibberish").0, Inflight::Unknown(_)));
}

#[test]
fn a_map_that_queues_without_a_path_is_unbounded_unless_the_kernel_ends_it() {
    let tree = Tree::new();
    let disk = multipath(&tree);
    let table = "0 65536 multipath 1 queue_if_no_path 1 alua 1 1 service-time 0 2 2 8:0 1 1 8:16 1 1";
    names(&tree.explain(&disk, table).0, &["no_path_retry fail", "data"]);
    tree.put("module/dm_multipath/parameters/queue_if_no_path_timeout_secs", "0\n");
    names(&tree.explain(&disk, table).0, &["queue_if_no_path_timeout_secs=30"]);
    tree.put("module/dm_multipath/parameters/queue_if_no_path_timeout_secs", "30\n");
    assert_eq!(seconds_of(&tree.explain(&disk, table).0), 30 + 2 * 6 * 90);
}

#[test]
fn a_suspended_map_holds_everything_back() {
    let tree = Tree::new();
    let disk = tree.scsi("sda", "2:0:0:1", "port-2:9");
    tree.link("block/dm-3/slaves/sda", &tree.path(&disk).display().to_string());
    tree.put("block/dm-3/dm/name", "lv\n").put("block/dm-3/dm/uuid", "LVM-x\n").put("block/dm-3/dm/suspended", "0\n");
    assert_eq!(seconds_of(&tree.measure("block/dm-3")), 6 * 90);
    tree.put("block/dm-3/dm/suspended", "1\n");
    names(&tree.measure("block/dm-3"), &["dmsetup resume"]);
}

#[test]
fn nvme_without_a_loss_limit_is_unbounded() {
    let tree = Tree::new();
    tree.put("devices/nvme0/transport", "tcp\n").put("devices/nvme0/ctrl_loss_tmo", "off\n");
    tree.put("devices/nvme0/nvme0n1/queue/io_timeout", "30000\n").link("devices/nvme0/nvme0n1/device", "..");
    let disk = "devices/nvme0/nvme0n1";
    names(&tree.measure(disk), &["/sys/class/nvme/nvme0/ctrl_loss_tmo", "--ctrl-loss-tmo=30"]);
    tree.put("devices/nvme0/ctrl_loss_tmo", "600\n");
    assert_eq!(seconds_of(&tree.measure(disk)), 6 * 30 + 600 + 60 * 3);
    tree.put("devices/nvme0/reconnect_delay", "2\n");
    assert_eq!(seconds_of(&tree.measure(disk)), 6 * 30 + 600 + 300 * 3);
    tree.put("devices/nvme0/fast_io_fail_tmo", "15\n").put("module/nvme_core/parameters/max_retries", "1\n");
    assert_eq!(seconds_of(&tree.measure(disk)), 2 * 30 + 15);
    let settings = tree.explain(disk, "").1;
    assert!(settings.iter().any(|s| s.of == "nvme_core" && s.name == "max_retries" && s.value == "1"), "{settings:?}");
    tree.put("devices/nvme0/transport", "pcie\n");
    assert_eq!(seconds_of(&tree.measure(disk)), 2 * 30);
}

/// With the driver's own multipathing the namespace has no queue: it was "unknown", so always advisory.
#[test]
fn nvme_multipath_is_measured_on_its_paths() {
    let tree = Tree::new();
    for (controller, path) in [("nvme0", "nvme0c0n1"), ("nvme1", "nvme0c1n1")] {
        let at = format!("devices/fabrics/{controller}");
        tree.put(&format!("{at}/transport"), "tcp\n").put(&format!("{at}/fast_io_fail_tmo"), "15\n");
        tree.put(&format!("{at}/{path}/queue/io_timeout"), "5000\n");
        tree.link(&format!("devices/subsystem/{controller}"), &tree.path(&at).display().to_string());
    }
    tree.put("devices/subsystem/nvme0n1/size", "8\n").link("devices/subsystem/nvme0n1/device", "..");
    let disk = "devices/subsystem/nvme0n1";
    assert_eq!(seconds_of(&tree.measure(disk)), 2 * 6 * 5 + 15);
    tree.put("devices/subsystem/nvme0n1/delayed_removal_secs", "20\n");
    assert_eq!(seconds_of(&tree.measure(disk)), 2 * 6 * 5 + 15 + 20);
}

#[test]
fn hard_nfs_is_unbounded_and_soft_is_counted() {
    names(&nfs("rw,hard,timeo=600,retrans=2"), &["soft,timeo=50,retrans=2"]);
    assert_eq!(nfs("rw,soft,timeo=100,retrans=2"), Inflight::Bounded(Duration::from_mins(1)));
}

#[test]
fn disks_of_a_hypervisor_and_of_a_cluster_have_no_bound() {
    let tree = Tree::new();
    for (disk, words) in
        [("vda", "hypervisor"), ("xvda", "hypervisor"), ("rbd0", "osd_request_timeout=30"), ("nbd0", "-timeout 30")]
    {
        tree.put(&format!("block/{disk}/size"), "8\n");
        names(&tree.measure(&format!("block/{disk}")), &[words]);
    }
    tree.put("block/zram0/size", "8\n");
    assert!(matches!(tree.measure("block/zram0"), Inflight::Unknown(_)));
}

#[test]
fn the_weaker_of_two_promises_counts() {
    let bounded = |s| Inflight::Bounded(Duration::from_secs(s));
    assert_eq!(bounded(3).worse(bounded(5)), bounded(5));
    assert_eq!(bounded(3).then(bounded(5)), bounded(8));
    let never = Inflight::Unbounded("x".into());
    assert_eq!(bounded(3).worse(never.clone()), never);
    assert_eq!(never.clone().then(bounded(3)), never);
    assert_eq!(Inflight::Unknown("y".into()).worse(never.clone()), never);
}
