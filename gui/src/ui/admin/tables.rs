//! The tables: make them, check them, run the daemon on them.

use eframe::egui::{RichText, Ui};

use super::{act, devices, pick, probe, row, section};
use crate::admin::{AdminCommand, Means, confirmed, last_part};
use crate::command::Command;
use crate::model::Model;
use crate::theme::Palette;
use crate::ui::parts;
use crate::view::{Line, Tone};
use crate::words;

/// Draws the page.
pub fn show(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    if let Some(tables) = &model.admin.tables {
        let text = format!(
            "The tables have {} and {}.",
            words::count(tables.clients.len(), "client", "clients"),
            words::count(tables.volumes.len(), "volume", "volumes")
        );
        parts::line(ui, p, &Line::new(Tone::Calm, text));
    }
    daemon(ui, p, model, out);
    section(ui, p, "Check", "Every block of the tables is verified; clients may run.", |ui| {
        ui.horizontal_wrapped(|ui| {
            let ready = !model.admin.control.trim().is_empty();
            act(ui, model, "Check the tables", "Check the tables now", AdminCommand::Check(false), ready, out);
            act(ui, model, "Restore lost copies", "Restore lost copies", AdminCommand::Check(true), ready, out);
        });
    });
    takeovers(ui, p, model, out);
    section(
        ui,
        p,
        "New tables",
        "For a new installation: 16 MiB on a device that all computers reach, or an image for a trial on this one. Everything on it is destroyed.",
        |ui| new(ui, p, model, out),
    );
}

fn new(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    if let Some(path) = devices(ui, p, model, "tables", out) {
        model.admin.init.path = path.clone();
        out.push(Command::Admin(AdminCommand::Probe(path)));
    }
    let mut form = model.admin.init.clone();
    row(
        ui,
        "Device or image",
        "Device or image for the tables",
        &mut form.path,
        "/dev/disk/by-id/… or /path/control.img",
    );
    row(ui, "Label", "Label of the tables", &mut form.label, "a name for people, optional");
    row(ui, "Size", "Size of a new image", &mut form.size, "16M, only for a new image");
    pick(ui, "Lock", &mut form.lock, &[("", "automatic"), ("bakery", "bakery"), ("ofd", "file locks (one computer)")]);
    let path = form.path.trim().to_owned();
    ui.horizontal_wrapped(|ui| {
        let ready = !path.is_empty();
        act(ui, model, "What is on it now?", "Look at what is on it", AdminCommand::Probe(path.clone()), ready, out);
    });
    if let Some(found) = probe(ui, p, model, &path) {
        let name = last_part(&path).to_owned();
        parts::sentence(ui, RichText::new(format!("To make the tables there, type its name: {name}")).strong());
        parts::field(ui, &mut form.confirm, "Confirm by typing the name", &name, 220.0);
        let command = AdminCommand::Init {
            control: path.clone(),
            label: form.label.clone(),
            lock: form.lock.clone(),
            size: if found.absent { form.size.clone() } else { String::new() },
            force: found.full,
        };
        ui.horizontal_wrapped(|ui| {
            act(ui, model, "Make the tables", "Make the tables", command, confirmed(&path, &form.confirm), out);
        });
    }
    model.admin.init = form;
}

/// Runs the daemon: needed only where none answers.
fn daemon(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    if model.live().is_some() {
        return;
    }
    let about = "No daemon answers here. It is started with this configuration; with systemd as the service volctl.";
    section(ui, p, "Run the daemon", about, |ui| {
        let names: Vec<String> =
            model.admin.tables.iter().flat_map(|t| t.clients.iter().map(|c| c.name.clone())).collect();
        let form = &mut model.admin.daemon;
        row(ui, "This client is", "Name of this client", &mut form.client, "a client of the tables");
        if !names.is_empty() {
            ui.horizontal_wrapped(|ui| {
                for name in names {
                    let button = ui.button(words::line(&name));
                    parts::named(&button, true, &format!("This computer is {name}"), None);
                    if button.clicked() {
                        form.client = name;
                    }
                }
            });
        }
        eframe::egui::CollapsingHeader::new("Paths").show(ui, |ui| {
            row(ui, "Configuration", "Configuration file", &mut form.config, "/etc/volctl.toml");
            row(ui, "Mounts below", "Mount root", &mut form.mount_root, "/mnt/volctl");
            row(ui, "State", "State directory", &mut form.state_dir, "/var/lib/volctl");
            row(ui, "Socket", "Socket of the daemon", &mut form.socket, "/run/volctl/volctl.sock");
        });
        let ready = !model.admin.daemon.client.trim().is_empty() && !model.admin.control.trim().is_empty();
        ui.horizontal_wrapped(|ui| {
            act(ui, model, "Start the daemon", "Start the daemon", AdminCommand::StartDaemon, ready, out);
        });
        if model.rights.means == Means::None {
            parts::command_line(ui, p, "sudo systemctl start volctl", out);
        }
    });
}

fn takeovers(ui: &mut Ui, p: &Palette, model: &Model, out: &mut Vec<Command>) {
    let Some(status) = model.live() else { return };
    let others: Vec<_> = status
        .volumes
        .iter()
        .filter_map(|v| v.writer.as_ref().map(|w| (v, w)))
        .filter(|(_, w)| **w != status.client)
        .collect();
    let about = "Takes the write access from a client that does not answer. Asking is better: a living writer loses what it has not saved.";
    section(ui, p, "Takeover", about, |ui| {
        if others.is_empty() {
            ui.label(RichText::new("Nobody else writes a volume now.").color(p.weak));
        }
        let no = if status.settings.is_some_and(|s| s.admin) {
            model.rights.no_acting.clone()
        } else {
            Some("This client is no administrator in the tables (Clients: may take over).".to_owned())
        };
        for (volume, writer) in others {
            ui.horizontal_wrapped(|ui| {
                ui.label(format!("{} writes {}", words::line(writer), words::line(&volume.name)));
                let button = crate::view::Button {
                    label: "Take over…",
                    name: format!("Take {} over from {}", words::line(&volume.name), words::line(writer)),
                    command: Command::ComposeTakeover(volume.name.clone()),
                    refused: no.clone(),
                    main: false,
                };
                parts::button(ui, p, &button, out);
            });
        }
        if let Some(no) = &no {
            parts::sentence(ui, RichText::new(no).small().color(p.weak));
        }
    });
}
