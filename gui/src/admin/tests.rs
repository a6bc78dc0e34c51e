use super::*;

#[test]
fn every_act_is_the_command_that_one_would_type() {
    let privilege = Privilege {
        client: "bob".into(),
        volume: "foot age".into(),
        access: Access::Write,
        check_ms: 2000,
        ..Privilege::default()
    };
    let form = VolumeForm {
        name: "footage".into(),
        device: "/dev/vdb".into(),
        mkfs: "btrfs".into(),
        confirm: "vdb".into(),
        ..VolumeForm::default()
    };
    let acts = [
        AdminCommand::Init {
            control: "/c.img".into(),
            label: "st".into(),
            lock: String::new(),
            size: "16M".into(),
            force: true,
        },
        AdminCommand::AddClient("bob".into()),
        AdminCommand::SetClient { name: "bob".into(), key: "auto-response", value: "idle" },
        AdminCommand::AddVolume(form),
        AdminCommand::Allow(privilege),
        AdminCommand::WriteEnabled { volume: "footage".into(), on: false },
        AdminCommand::Check(true),
    ];
    let lines: Vec<String> = acts.iter().filter_map(|a| a.line("/c.img")).collect();
    let expected = [
        "sudo volctl init /c.img --label st --size 16M --force",
        "sudo volctl client add bob --control /c.img",
        "sudo volctl set-client bob auto-response idle --control /c.img",
        "sudo volctl volume add footage --device /dev/vdb --mkfs btrfs --force --control /c.img",
        "sudo volctl allow bob 'foot age' write --lockout off --auto-update off --check 2000ms --control /c.img",
        "sudo volctl set footage write-enabled off --control /c.img",
        "sudo volctl check /c.img --repair",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_destroys_is_done_only_when_the_devices_own_name_was_typed() {
    assert!(confirmed("/dev/vdb", "vdb") && confirmed("/x/c.img ", " c.img"));
    assert!(!confirmed("/dev/vdb", "vda") && !confirmed("/dev/vdb", "") && !confirmed("/", ""));
    let mut form = VolumeForm { device: "/dev/vdb".into(), mkfs: "ext4".into(), ..VolumeForm::default() };
    assert!(!form.argv().contains(&"--force".to_owned()));
    form.confirm = "vdb".into();
    assert!(form.argv().contains(&"--force".to_owned()));
    form.mkfs.clear();
    assert!(!form.argv().contains(&"--force".to_owned()), "an adopted volume is never forced");
}

#[test]
fn the_daemon_reads_the_configuration_that_the_window_writes() {
    let form = DaemonForm { client: "al'ice".into(), ..DaemonForm::new("/run/volctl/volctl.sock") };
    let text = form.text("/dev/c").expect("TOML");
    let config = volctl::daemon::config::Config::parse(&text, std::path::Path::new("x")).expect("a configuration");
    assert_eq!((config.client.as_str(), config.control.len()), ("al'ice", 1));
}

#[test]
fn a_client_that_the_table_does_not_name_may_nothing() {
    let tables = Tables { volumes: vec![VolumeRow { name: "v".into(), ..VolumeRow::default() }], ..Tables::default() };
    let none = tables.privilege("bob", "v");
    assert_eq!((none.access, none.auto_update, none.volume.as_str()), (Access::None, true, "v"));
}
