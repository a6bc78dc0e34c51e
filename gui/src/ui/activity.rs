//! The time lines, and the event log.

use eframe::egui::{self, Align2, FontId, Rect, RichText, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2};

use super::parts;
use crate::command::Command;
use crate::model::Model;
use crate::theme::{self, Palette};
use crate::view::activity::{self, Lane, Row};
use crate::words;

const LANE: f32 = 34.0;
const ROW: f32 = 22.0;
/// The height of the log in a low window.
const LOG_LOW: f32 = 8.0 * ROW;

/// Draws the view. `wall` is the time of day, in milliseconds since 1970.
pub fn show(ui: &mut Ui, model: &mut Model, wall: i64, out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    let lanes = activity::lanes(model);
    let low = ui.available_height() < theme::LOW;
    // The time lines have about half of the room, the log the rest. Where that is nothing, all of it scrolls together.
    let room = if low { f32::INFINITY } else { (ui.available_height() * 0.45).max(96.0) };
    let mut body = |ui: &mut Ui| {
        parts::heading(ui, &p, "Activity", "Who held the write privilege when, as this computer saw it.");
        egui::ScrollArea::vertical().id_salt("lanes").max_height(room).auto_shrink([false, true]).show(ui, |ui| {
            let (from, to) = activity::window(&lanes, wall);
            for lane in &lanes {
                draw_lane(ui, &p, lane, from, to);
            }
            scale(ui, &p, from, to);
        });
        legend(ui, &p);
        ui.add_space(4.0);
        log(ui, &p, model, if low { LOG_LOW } else { f32::INFINITY }, out);
    };
    if low { parts::scrolled(ui, "activity", body) } else { body(ui) }
}

fn name_width(ui: &Ui) -> f32 {
    (ui.available_width() * 0.2).clamp(70.0, 140.0)
}

#[expect(clippy::cast_precision_loss, reason = "a picture of some hundred pixels")]
fn place(rect: Rect, from: i64, to: i64, at: i64) -> f32 {
    let whole = (to - from).max(1) as f32;
    rect.left() + rect.width() * ((at - from) as f32 / whole).clamp(0.0, 1.0)
}

fn draw_lane(ui: &mut Ui, p: &Palette, lane: &Lane, from: i64, to: i64) {
    let name_width = name_width(ui);
    let (whole, _) = ui.allocate_exact_size(vec2(ui.available_width(), LANE), Sense::hover());
    let (name, bar) = whole.split_left_right_at_x(whole.left() + name_width);
    let bar = bar.shrink2(vec2(2.0, 3.0));
    parts::cell_text(
        ui,
        name.shrink(3.0),
        Align2::LEFT_CENTER,
        &words::line(&lane.volume),
        FontId::proportional(13.0),
        p.text,
    );
    ui.painter().rect(bar, 4.0, p.card, Stroke::new(1.0, p.line), StrokeKind::Inside);
    for (at, span) in lane.spans.iter().enumerate() {
        let end = span.to.unwrap_or(to);
        if end < from {
            continue;
        }
        let (left, right) = (place(bar, from, to, span.from), place(bar, from, to, end));
        let rect = Rect::from_min_max(pos2(left, bar.top() + 1.0), pos2(right.max(left + 3.0), bar.bottom() - 8.0));
        ui.painter().rect_filled(rect, 3.0, p.of_name(&span.who));
        let who = words::line(&span.who);
        parts::cell_text(
            ui,
            rect.shrink2(vec2(4.0, 0.0)),
            Align2::LEFT_CENTER,
            &who,
            FontId::proportional(12.0),
            p.text,
        );
        let till = span.to.map_or_else(
            || "still".to_owned(),
            |_| format!("for {}", words::elapsed(u64::try_from(end - span.from).unwrap_or(0))),
        );
        let text = format!("{who} wrote {}, {till}", words::line(&lane.volume));
        let response = ui.interact(rect, ui.scope_id().with((&lane.volume, "span", at)), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &text));
        response.on_hover_text(text);
    }
    // Many of one kind in one place are one mark; others stand beside it.
    let mut last: Option<(f32, char)> = None;
    for (at, point) in lane.points.iter().enumerate().filter(|(_, point)| point.at >= from) {
        let mut x = place(bar, from, to, point.at).clamp(bar.left() + 5.0, bar.right() - 5.0);
        if let Some((before, letter)) = last.filter(|(before, _)| x - before < 9.0) {
            if letter == point.letter || before + 9.0 > bar.right() - 4.0 {
                continue;
            }
            x = before + 9.0;
        }
        last = Some((x, point.letter));
        let centre = pos2(x, bar.bottom() - 5.0);
        ui.painter().text(centre, Align2::CENTER_CENTER, point.letter, FontId::monospace(10.0), p.of(point.tone));
        let rect = Rect::from_center_size(centre, vec2(9.0, 10.0));
        ui.interact(rect, ui.scope_id().with((&lane.volume, "point", at)), Sense::hover()).on_hover_text(&point.text);
    }
}

fn scale(ui: &mut Ui, p: &Palette, from: i64, to: i64) {
    let name_width = name_width(ui);
    let (whole, _) = ui.allocate_exact_size(vec2(ui.available_width(), 18.0), Sense::hover());
    let bar = Rect::from_min_max(pos2(whole.left() + name_width, whole.top()), whole.max);
    let font = FontId::proportional(10.5);
    let ago = |at: i64| format!("{} ago", words::elapsed(u64::try_from(to - at).unwrap_or(0)));
    for (align, x, text) in [
        (Align2::LEFT_TOP, bar.left(), ago(from)),
        (Align2::CENTER_TOP, bar.center().x, ago(from + (to - from) / 2)),
        (Align2::RIGHT_TOP, bar.right() - 2.0, "now".to_owned()),
    ] {
        ui.painter().text(pos2(x, bar.top()), align, text, font.clone(), p.weak);
    }
}

/// It stays in sight while the lines scroll.
fn legend(ui: &mut Ui, p: &Palette) {
    parts::sentence(
        ui,
        RichText::new(
            "R refreshed · P published · A an answer came · N it was a no · ? somebody asked · T taken over · C file system checked",
        )
        .small()
        .color(p.weak),
    );
}

fn log(ui: &mut Ui, p: &Palette, model: &mut Model, height: f32, out: &mut Vec<Command>) {
    let mut filter = std::mem::take(&mut model.drafts.events);
    let rows = activity::rows(model, &filter);
    ui.horizontal_wrapped(|ui| {
        let width = (ui.available_width() - 240.0).clamp(120.0, 200.0);
        parts::field(ui, &mut filter, "Filter events", "filter events", width);
        let copy = ui.add_enabled(!rows.is_empty(), egui::Button::new("Copy what is shown"));
        if copy.clicked() {
            out.push(Command::Copy(activity::copy(&rows)));
        }
        let count = RichText::new(words::count(rows.len(), "event", "events")).color(p.weak);
        ui.add(egui::Label::new(count).extend());
    });
    model.drafts.events = filter;
    if rows.is_empty() {
        ui.label(RichText::new("No events.").color(p.weak));
        return;
    }
    ui.spacing_mut().item_spacing.y = 0.0;
    egui::ScrollArea::vertical().id_salt("log").max_height(height).auto_shrink([false, false]).show_rows(
        ui,
        ROW,
        rows.len(),
        |ui, range| {
            for at in range {
                event(ui, p, &rows[at], at, out);
            }
        },
    );
}

fn event(ui: &mut Ui, p: &Palette, row: &Row, at: usize, out: &mut Vec<Command>) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::click());
    if response.hovered() || response.has_focus() {
        ui.painter().rect_filled(rect, 3.0, p.card);
    } else if at % 2 == 1 {
        ui.painter().rect_filled(rect, 3.0, ui.visuals().faint_bg_color.gamma_multiply(0.5));
    }
    let wide = rect.width() > 560.0;
    let widths = if wide { [104.0, 128.0, 84.0] } else { [104.0, 0.0, 0.0] };
    let mut x = rect.left() + 4.0;
    let ink = [p.weak, p.of(row.tone), p.text];
    for ((text, width), ink) in [&row.time, &row.event, &row.volume].into_iter().zip(widths).zip(ink) {
        if width > 0.0 {
            let cell = Rect::from_min_size(pos2(x, rect.top()), vec2(width - 6.0, ROW));
            parts::cell_text(ui, cell, Align2::LEFT_CENTER, text, FontId::proportional(12.0), ink);
            x += width;
        }
    }
    let cell = Rect::from_min_max(pos2(x, rect.top()), rect.max);
    parts::cell_text(ui, cell, Align2::LEFT_CENTER, &row.text, FontId::proportional(13.0), p.text);
    let whole = format!("{} {} {} {}", row.time, row.event, row.volume, row.text);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &whole));
    if response.clicked() {
        out.push(Command::Copy(whole.clone()));
    }
    response.on_hover_text(format!("{whole}\nClick to copy"));
}
