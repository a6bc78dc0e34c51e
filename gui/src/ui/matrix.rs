//! The status matrix: drawn by hand, only what is in sight, with heads that stay.

use eframe::egui::{self, Align2, FontId, Rect, RichText, Role, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};

use super::parts;
use crate::command::Command;
use crate::model::Model;
use crate::theme::{self, Palette};
use crate::view::Tone;
use crate::view::matrix::{Cell, Column, Matrix};
use crate::words;

const CELL: egui::Vec2 = vec2(66.0, 30.0);
const HEAD: f32 = 40.0;

/// Draws the view.
pub fn show(ui: &mut Ui, model: &mut Model, matrix: &Matrix, _out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    parts::heading(ui, &p, "Status matrix", "");
    let (volumes, clients, trouble) = &mut model.drafts.matrix;
    let low = ui.available_height() < theme::LOW;
    ui.horizontal_wrapped(|ui| {
        let width = ((ui.available_width() - 200.0) / 2.0).clamp(84.0, 130.0);
        parts::field(ui, volumes, "Filter volumes", "volumes …", width);
        parts::field(ui, clients, "Filter clients", "clients …", width);
        ui.checkbox(trouble, "Only what wants a look");
    });
    let shown = matrix.filtered(volumes, clients, *trouble);
    parts::sentence(ui, RichText::new(shown.summary()).color(p.weak));
    if low {
        egui::CollapsingHeader::new("What the letters mean").show(ui, |ui| legend(ui, &p));
    } else {
        legend(ui, &p);
    }
    if shown.rows.is_empty() || shown.columns.is_empty() {
        let next = if matrix.rows.is_empty() {
            "It fills as soon as the daemon answers."
        } else {
            "The filters leave nothing."
        };
        parts::empty(ui, &p, "Nothing to show", next);
        return;
    }
    table(ui, &p, &shown);
}

fn legend(ui: &mut Ui, p: &Palette) {
    ui.horizontal_wrapped(|ui| {
        for (tone, text) in [
            (Tone::Writing, "RW read-write"),
            (Tone::Calm, "RO read-only"),
            (Tone::Waiting, "RO stale"),
            (Tone::Bad, "? unknown or dead"),
        ] {
            parts::badge(ui, p, tone, text);
        }
        ui.label(
            RichText::new("– locked · empty: no access · W waits for write access · L locked out of asking")
                .small()
                .color(p.weak),
        );
    });
}

fn table(ui: &mut Ui, p: &Palette, matrix: &Matrix) {
    let room = ui.available_rect_before_wrap();
    let name_width = (room.width() * 0.28).clamp(84.0, 170.0);
    let size = vec2(name_width + CELL.x * count(matrix.columns.len()), HEAD + CELL.y * count(matrix.rows.len()));
    egui::ScrollArea::both().id_salt("matrix").auto_shrink([false, false]).show_viewport(ui, |ui, view| {
        ui.set_min_size(size);
        let origin = ui.min_rect().min;
        let clip = ui.clip_rect();
        let rows = visible(view.min.y, view.height() - HEAD, CELL.y, matrix.rows.len());
        let columns = visible(view.min.x, view.width() - name_width, CELL.x, matrix.columns.len());
        let x = |i: usize| origin.x + name_width + CELL.x * count(i);
        let y = |i: usize| origin.y + HEAD + CELL.y * count(i);
        let body = Rect::from_min_max(clip.min + vec2(name_width, HEAD), clip.max);
        let mut inner = ui.new_child(egui::UiBuilder::new().max_rect(clip));
        inner.set_clip_rect(body.intersect(clip));
        for row in rows.clone() {
            let (name, cells) = &matrix.rows[row];
            for column in columns.clone() {
                let rect = Rect::from_min_size(pos2(x(column), y(row)), CELL).shrink(1.5);
                cell(&inner, p, rect, name, &matrix.columns[column], cells[column]);
            }
        }
        // The heads stand still: they are drawn at the edge of what is in sight.
        let top = Rect::from_min_max(pos2(clip.left() + name_width, clip.top()), pos2(clip.right(), clip.top() + HEAD));
        inner.set_clip_rect(top.intersect(clip));
        inner.painter().rect_filled(top, 0.0, p.ground);
        for column in columns {
            head(
                &inner,
                p,
                Rect::from_min_size(pos2(x(column), clip.top()), vec2(CELL.x, HEAD)),
                &matrix.columns[column],
            );
        }
        let left =
            Rect::from_min_max(pos2(clip.left(), clip.top() + HEAD), pos2(clip.left() + name_width, clip.bottom()));
        inner.set_clip_rect(left.intersect(clip));
        inner.painter().rect_filled(left, 0.0, p.ground);
        for row in rows {
            let rect = Rect::from_min_size(pos2(clip.left(), y(row)), vec2(name_width - 6.0, CELL.y));
            let name = words::line(&matrix.rows[row].0);
            parts::cell_text(&inner, rect, Align2::LEFT_CENTER, &name, FontId::proportional(13.0), p.text);
            let response = inner.interact(rect, inner.scope_id().with(("row", row)), Sense::hover());
            response.widget_info(|| WidgetInfo::labeled(Role::RowHeader, true, &name));
            response.on_hover_text(name.clone());
        }
        let corner = Rect::from_min_size(clip.min, vec2(name_width, HEAD));
        inner.set_clip_rect(clip);
        inner.painter().rect_filled(corner, 0.0, p.ground);
        inner.painter().hline(clip.x_range(), clip.top() + HEAD, Stroke::new(1.0, p.line));
        inner.painter().vline(clip.left() + name_width - 2.0, clip.y_range(), Stroke::new(1.0, p.line));
    });
}

/// Which of `n` things of a size are in sight.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut to the number of things")]
fn visible(from: f32, length: f32, size: f32, n: usize) -> std::ops::Range<usize> {
    let first = (from / size).floor().max(0.0) as usize;
    let last = ((from + length.max(0.0)) / size).ceil().max(0.0) as usize + 1;
    first.min(n)..last.min(n)
}

#[expect(clippy::cast_precision_loss, reason = "at most some thousands")]
fn count(n: usize) -> f32 {
    n as f32
}

fn cell(ui: &Ui, p: &Palette, rect: Rect, volume: &str, column: &Column, cell: Cell) {
    let tone = cell.tone();
    let colour = p.of(tone);
    let ground = if tone == Tone::Quiet { p.card } else { p.tint(tone) };
    let painter = ui.painter();
    painter.rect(rect, 4.0, ground, Stroke::new(1.0, p.line), egui::StrokeKind::Inside);
    let font = FontId::proportional(if tone == Tone::Quiet { 12.0 } else { 13.0 });
    painter.text(rect.center(), Align2::CENTER_CENTER, cell.letters(), font, colour);
    if tone == Tone::Writing {
        painter.rect_filled(Rect::from_min_size(rect.min, vec2(4.0, rect.height())), 2.0, colour);
    }
    let small = FontId::proportional(10.0);
    if cell.stale {
        let c = rect.right_top() + vec2(-8.0, 8.0);
        let points = vec![c + vec2(0.0, -4.0), c + vec2(4.0, 0.0), c + vec2(0.0, 4.0), c + vec2(-4.0, 0.0)];
        painter.add(egui::Shape::convex_polygon(points, colour, Stroke::NONE));
    }
    if cell.waits {
        painter.text(rect.right_bottom() + vec2(-2.0, -1.0), Align2::RIGHT_BOTTOM, "W", small.clone(), p.amber);
    }
    if cell.locked_out {
        painter.text(rect.left_bottom() + vec2(4.0, -1.0), Align2::LEFT_BOTTOM, "L", small, p.weak);
    }
    if !ui.clip_rect().intersects(rect) {
        return;
    }
    let text = format!("{}, {}: {}", words::line(volume), words::line(&column.name), cell.words());
    let response = ui.interact(rect, ui.scope_id().with((volume, &column.name)), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Cell, true, &text));
    response.on_hover_text(text);
}

fn head(ui: &Ui, p: &Palette, rect: Rect, column: &Column) {
    let inner = rect.shrink2(vec2(3.0, 2.0));
    let (upper, lower) = inner.split_top_bottom_at_fraction(0.55);
    let name = words::line(&column.name);
    let colour = if column.own { p.blue } else { p.text };
    parts::cell_text(ui, upper, Align2::CENTER_CENTER, &name, FontId::proportional(13.0), colour);
    parts::cell_text(ui, lower, Align2::CENTER_CENTER, &column.word(), FontId::proportional(10.5), p.of(column.tone()));
    let response = ui.interact(rect, ui.scope_id().with(("column", &column.name)), Sense::hover());
    let text = format!("{name}: {}; last beat {}", column.word(), column.beat);
    response.widget_info(|| WidgetInfo::labeled(Role::ColumnHeader, true, &text));
    response.on_hover_text(text);
}
