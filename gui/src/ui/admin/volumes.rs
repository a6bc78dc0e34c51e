//! The volumes of the tables.

use eframe::egui::{self, RichText, Ui};
use volctl::wire::names::check_name;

use super::{act, devices, pick, probe, remove, row, section};
use crate::admin::{AdminCommand, VolumeRow, last_part};
use crate::command::Command;
use crate::model::Model;
use crate::theme::{self, Palette};
use crate::ui::parts;
use crate::view::{Line, Tone};
use crate::words;

/// Draws the page.
pub fn show(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    let about = "A device or image that is there is taken as it is, byte for byte. Only where a file system is chosen it is made anew.";
    section(ui, p, "New volume", about, |ui| new(ui, p, model, out));
    let Some(tables) = model.admin.tables.clone() else { return };
    if tables.volumes.is_empty() {
        ui.label(RichText::new("The tables have no volumes yet.").color(p.weak));
    }
    for volume in &tables.volumes {
        theme::card(p).show(ui, |ui| {
            ui.set_width(ui.available_width());
            one(ui, p, model, volume, out);
        });
    }
}

fn new(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    if let Some(path) = devices(ui, p, model, "volumes", out) {
        model.admin.volume.device = path.clone();
        out.push(Command::Admin(AdminCommand::Probe(path)));
    }
    let mut form = model.admin.volume.clone();
    row(
        ui,
        "Device or image",
        "Device or image of the volume",
        &mut form.device,
        "/dev/disk/by-id/… or /path/volume.img",
    );
    row(ui, "Name", "Name of the new volume", &mut form.name, "such as footage");
    let fault = check_name(form.name.trim()).err().filter(|_| !form.name.trim().is_empty());
    if let Some(fault) = &fault {
        parts::line(ui, p, &Line::new(Tone::Bad, format!("The name: {fault}")));
    }
    pick(
        ui,
        "File system",
        &mut form.mkfs,
        &[("", "as it is there"), ("btrfs", "make btrfs"), ("ext4", "make ext4"), ("xfs", "make XFS")],
    );
    pick(
        ui,
        "Readers",
        &mut form.readers,
        &[
            ("", "automatic"),
            ("snapshot", "snapshots (btrfs)"),
            ("exclusive", "wait for the writer"),
            ("live", "live (mixed)"),
        ],
    );
    let making = !form.mkfs.is_empty();
    if making {
        row(ui, "Size", "Size of a new volume image", &mut form.size, "1G, only for a new image");
        ui.checkbox(&mut form.envelope, "Behind a header, invisible to computers without volctl");
    }
    let path = form.device.trim().to_owned();
    ui.horizontal_wrapped(|ui| {
        act(
            ui,
            model,
            "What is on it now?",
            "Look at what is on the volume",
            AdminCommand::Probe(path.clone()),
            !path.is_empty(),
            out,
        );
    });
    let found = probe(ui, p, model, &path);
    let mut ready =
        fault.is_none() && !form.name.trim().is_empty() && !path.is_empty() && !model.admin.control.trim().is_empty();
    if making {
        // What destroys wants a look first, and the device's own name.
        let name = last_part(&path).to_owned();
        match &found {
            None => {
                parts::sentence(ui, RichText::new("Look at what is on it first.").color(p.weak));
            }
            Some(_) => {
                parts::sentence(
                    ui,
                    RichText::new(format!("Everything on it is destroyed. Type its name: {name}")).strong(),
                );
                parts::field(ui, &mut form.confirm, "Confirm the volume by typing the name", &name, 220.0);
            }
        }
        ready &= found.is_some() && form.confirmed();
    }
    let mut wanted = form.clone();
    if found.is_none_or(|f| !f.absent) {
        wanted.size.clear();
    }
    ui.horizontal_wrapped(|ui| {
        act(ui, model, "Add the volume", "Add the volume", AdminCommand::AddVolume(wanted), ready, out);
    });
    model.admin.volume = form;
}

fn one(ui: &mut Ui, p: &Palette, model: &mut Model, volume: &VolumeRow, out: &mut Vec<Command>) {
    let name = words::line(&volume.name);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(&name).strong().size(15.0));
        parts::badge(ui, p, Tone::Quiet, &format!("{}, {}", volume.fs, volume.readers));
        remove(
            ui,
            model,
            &format!("remove volume {name}"),
            "What is on the disk stays.",
            AdminCommand::RemoveVolume(volume.name.clone()),
            out,
        );
    });
    parts::short(ui, RichText::new(words::line(&volume.device)).small().color(p.weak));
    let refused = model.rights.no_administration();
    let mut on = volume.write_enabled;
    let response = ui.add_enabled(refused.is_none(), egui::Checkbox::new(&mut on, "writing is allowed at all"));
    let label = format!("Writing on {name} is allowed");
    response.widget_info(|| {
        egui::WidgetInfo::selected(egui::Role::CheckBox, refused.is_none(), volume.write_enabled, &label)
    });
    if response.changed() {
        out.push(Command::Admin(AdminCommand::WriteEnabled { volume: volume.name.clone(), on }));
    }
    if let Some(why) = refused {
        response.on_disabled_hover_text(why);
    }
}
