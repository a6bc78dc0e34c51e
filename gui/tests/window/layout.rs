//! Nothing is cut off, nothing overlaps: in every view, at every size, in both themes, at 200 %.

use eframe::egui::{Rect, pos2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use volctl_gui::admin::{ClientRow, Tables, VolumeRow};
use volctl_gui::command::{AdminPage, Command, View};
use volctl_gui::model::{Event, Model};

use crate::rig::{Rig, root};
use crate::sample::{ask, event, status, volume, written};

/// A studio with something of everything.
fn busy() -> Model {
    let mut long = volume("a volume with a name that is as long as a name may be, 63 bytes");
    long.state = volctl::wire::status::VolumeState::Locked;
    long.mountpoint = None;
    long.reason = Some("not mounted: the kernel refuses to mount it: structure needs cleaning".into());
    let mut at = status(vec![written("footage", "bob"), written("audio", "alice"), long, volume("scans")]);
    ask(&mut at, "footage", "alice", "titles", 5000);
    let mut model = root(Some(at));
    model.apply(
        Event::Log(vec![event("11:00:00", "grant.taken", "audio", "", "audio: write access")]),
        std::time::Duration::ZERO,
    );
    model.admin.control = "/dev/disk/by-id/scsi-3600a098038304437415d4b6a59684a52".into();
    let clients = ["alice", "bob"].map(|n| ClientRow { name: n.into(), enabled: true, ..ClientRow::default() });
    let row = VolumeRow { name: "footage".into(), device: "/dev/disk/by-id/x".into(), ..VolumeRow::default() };
    model.admin.tables = Some(Tables { clients: clients.into(), volumes: vec![row] });
    model.admin.devices = Some(Vec::new());
    model
}

/// What a pointer can press, with its place.
fn pressable(rig: &Rig) -> Vec<(String, Rect)> {
    use eframe::egui::accesskit::Role;
    places(rig, &[Role::Button, Role::CheckBox, Role::RadioButton, Role::TextInput, Role::ComboBox, Role::Link])
}

fn places(rig: &Rig, roles: &[eframe::egui::accesskit::Role]) -> Vec<(String, Rect)> {
    let mut found = Vec::new();
    for node in rig.harness.root().children_recursive() {
        let node = node.accesskit_node();
        let Some(b) = node.raw_bounds().filter(|_| roles.contains(&node.role())) else { continue };
        #[expect(clippy::cast_possible_truncation, reason = "pixels of a screen")]
        let rect = Rect::from_min_max(pos2(b.x0 as f32, b.y0 as f32), pos2(b.x1 as f32, b.y1 as f32));
        found.push((node.label().or_else(|| node.value()).unwrap_or_default(), rect));
    }
    found
}

fn check(rig: &Rig, what: &str, width: f32, height: f32) {
    use eframe::egui::accesskit::Role;
    let mut all = pressable(rig);
    // Labels of a list that scrolls for itself have places where they are not drawn.
    if !what.starts_with("Activity") && !what.starts_with("Matrix") {
        all.extend(places(rig, &[Role::Label, Role::Heading]));
    }
    assert!(!all.is_empty());
    for (at, (name, rect)) in all.iter().enumerate() {
        // What is scrolled out of sight below is no fault; what sticks out at the side is never reached.
        assert!(rect.min.x >= -0.5 && rect.max.x <= width + 0.5, "{what}: {name} is cut off at the side: {rect:?}");
        let in_sight = rect.max.y <= height && rect.min.y >= 0.0;
        for (other, place) in all[at + 1..].iter().filter(|_| in_sight) {
            let both = rect.shrink(1.0).intersect(place.shrink(1.0));
            let inside = rect.contains_rect(*place) || place.contains_rect(*rect);
            assert!(inside || !both.is_positive(), "{what}: {name} {rect:?} and {other} {place:?} overlap");
        }
    }
}

#[test]
fn nothing_is_cut_off_and_nothing_overlaps_at_any_size() {
    for (width, height, scale) in
        [(800.0, 600.0, 1.0), (1600.0, 1000.0, 1.0), (1600.0, 1000.0, 2.0), (800.0, 600.0, 2.0)]
    {
        let mut rig = Rig::sized(busy(), width, height, scale);
        for view in View::ALL {
            for page in AdminPage::ALL {
                rig.harness.state_mut().wish(Command::ShowAdmin(page), std::time::Duration::ZERO);
                rig.harness.state_mut().wish(Command::Show(view), std::time::Duration::ZERO);
                rig.run();
                let what = format!("{view:?}, {page:?} at {width} x {height} x {scale}");
                check(&rig, &what, width / scale, height / scale);
                if view == View::Activity {
                    // It was broken in two, "33" here and "events" in the next line.
                    let count = rig.harness.get_by_label("1 event").rect();
                    assert!(count.height() < 24.0, "{what}: {count:?}");
                }
                if view != View::Administration {
                    break;
                }
            }
        }
        for (dialogue, last) in [
            (Command::Compose("scans".into()), "Ask for scans"),
            (Command::ComposeTakeover("footage".into()), "Take over footage now"),
            (Command::Palette, "Palette: Request write access to scans"),
        ] {
            rig.harness.state_mut().wish(Command::Show(View::Volumes), std::time::Duration::ZERO);
            rig.harness.state_mut().wish(dialogue.clone(), std::time::Duration::ZERO);
            rig.run();
            let what = format!("{dialogue:?} at {width} x {height} x {scale}");
            let low = height / scale < 400.0;
            above(&rig, &what, last, width / scale, if low { f32::INFINITY } else { height / scale });
            rig.harness.state_mut().wish(Command::Close, std::time::Duration::ZERO);
        }
        let mut at = status(vec![written("audio", "alice")]);
        ask(&mut at, "audio", "bob", &"need to fix the titles, ".repeat(9), 5000);
        ask(&mut at, "audio", "carol", "", 4000);
        rig.status(at);
        above(
            &rig,
            &format!("a prompt at {width} x {height} x {scale}"),
            "Later: answer bob",
            width / scale,
            height / scale,
        );
    }
}

/// What belongs to a dialogue is pressable from `last`'s first sibling on; it lies over the view, so only its own parts are
/// compared, and they are in sight; in a very low window only the answers of a prompt are, whatever its message.
fn above(rig: &Rig, what: &str, last: &str, width: f32, height: f32) {
    let all = pressable(rig);
    let at = all.iter().position(|(name, _)| name.starts_with(last)).unwrap_or_else(|| panic!("{what}: no {last}"));
    let rect = all[at].1;
    assert!(rect.min.x >= 0.0 && rect.max.x <= width, "{what}: {last} is cut off: {rect:?}");
    assert!(rect.min.y >= 0.0 && rect.max.y <= height, "{what}: {last} is out of sight: {rect:?}");
    for (name, place) in all.iter().filter(|(name, _)| siblings(last).iter().any(|s| name.starts_with(s))) {
        let both = rect.shrink(1.0).intersect(place.shrink(1.0));
        assert!(!both.is_positive() || *place == rect, "{what}: {last} {rect:?} and {name} {place:?} overlap");
    }
}

/// What stands beside it.
fn siblings(last: &str) -> &'static [&'static str] {
    match last {
        "Later: answer bob" => {
            &["Yes: answer bob", "No: answer bob", "Decide in a moment", "What to say with the answer"]
        }
        "Palette: Request write access to scans" => &["Command", "Palette: "],
        _ => &["Cancel", "Message to the writer", "Do not wait for its last writes"],
    }
}
