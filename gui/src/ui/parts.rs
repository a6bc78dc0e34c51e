//! Small parts that several views have in common.

use eframe::egui::{
    self, Align2, Button, Color32, FontId, Label, Rect, Response, RichText, Role, Sense, Shape as Drawn, Stroke, Ui,
    WidgetInfo, pos2, vec2,
};

use crate::command::Command;
use crate::theme::{self, Palette};
use crate::view::{self, Line, Mark, Shape, Tone};

/// A text that may be too long: cut at the edge, whole under the pointer.
pub fn short(ui: &mut Ui, text: RichText) -> Response {
    ui.add(Label::new(text).truncate())
}

/// A sentence that takes as many lines as it needs.
pub fn sentence(ui: &mut Ui, text: impl Into<RichText>) -> Response {
    ui.add(Label::new(text.into()).wrap())
}

/// A sentence in the colour of its meaning, with a small sign before it, so that colour alone says nothing.
pub fn line(ui: &mut Ui, p: &Palette, line: &Line) -> Response {
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let (rect, _) = ui.allocate_exact_size(vec2(10.0, 18.0), Sense::hover());
        sign(ui, rect, p.of(line.tone), line.tone);
        let colour = if line.tone == Tone::Quiet { p.weak } else { p.text };
        sentence(ui, RichText::new(&line.text).color(colour))
    })
    .inner
}

/// The same in one line, cut where the room ends; without words only its height is taken.
pub fn short_line(ui: &mut Ui, p: &Palette, line: &Line) {
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let (rect, _) = ui.allocate_exact_size(vec2(10.0, 18.0), Sense::hover());
        if !line.text.is_empty() {
            sign(ui, rect, p.of(line.tone), line.tone);
            short(ui, RichText::new(&line.text).color(p.text));
        }
    });
}

/// A banner with a sentence, and a button at its right; whether it was pressed.
pub fn banner(ui: &mut Ui, p: &Palette, text: &Line, widget: Button<'_>, name: &str) -> bool {
    theme::banner(p, text.tone)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Min), |ui| {
                let response = ui.add(widget);
                named(&response, true, name, None);
                ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| {
                    ui.add_space(3.0);
                    line(ui, p, text);
                });
                response.clicked()
            })
            .inner
        })
        .inner
}

/// The small sign of a meaning.
fn sign(ui: &Ui, rect: Rect, colour: Color32, tone: Tone) {
    let painter = ui.painter();
    let c = rect.center();
    match tone {
        Tone::Quiet => {
            painter.circle_filled(c, 2.0, colour);
        }
        Tone::Calm => {
            painter.circle_stroke(c, 3.5, Stroke::new(1.8, colour));
        }
        Tone::Writing => {
            painter.rect_filled(Rect::from_center_size(c, vec2(8.0, 8.0)), 1.5, colour);
        }
        Tone::Waiting => {
            let points = vec![c + vec2(0.0, -4.5), c + vec2(4.5, 0.0), c + vec2(0.0, 4.5), c + vec2(-4.5, 0.0)];
            painter.add(Drawn::convex_polygon(points, colour, Stroke::NONE));
        }
        Tone::Bad => {
            let points = vec![c + vec2(0.0, -5.0), c + vec2(5.0, 4.0), c + vec2(-5.0, 4.0)];
            painter.add(Drawn::convex_polygon(points, colour, Stroke::NONE));
        }
    }
}

/// The shape of a state.
pub fn shape(ui: &Ui, rect: Rect, p: &Palette, mark: &Mark) {
    let colour = p.of(mark.tone);
    let painter = ui.painter();
    painter.rect_filled(rect, 8.0, p.tint(mark.tone));
    let (c, thin) = (rect.center(), Stroke::new(1.8, colour));
    match mark.shape {
        Shape::Padlock => {
            let body = Rect::from_center_size(c + vec2(0.0, 3.0), vec2(14.0, 10.0));
            painter.rect_filled(body, 2.0, colour);
            let arc: Vec<_> = (0..=8_u8)
                .map(|i| {
                    let angle = std::f32::consts::PI * (1.0 + f32::from(i) / 8.0);
                    pos2(c.x + 4.5 * angle.cos(), c.y - 2.0 + 5.0 * angle.sin())
                })
                .collect();
            painter.line(arc, thin);
        }
        Shape::Eye => {
            let lid = |sign: f32| -> Vec<_> {
                (0..=10_u8)
                    .map(|i| {
                        let x = f32::from(i) / 10.0;
                        pos2(c.x - 9.0 + 18.0 * x, c.y + sign * 6.0 * (std::f32::consts::PI * x).sin())
                    })
                    .collect()
            };
            painter.line(lid(1.0), thin);
            painter.line(lid(-1.0), thin);
            painter.circle_filled(c, 3.0, colour);
        }
        Shape::Pencil => {
            let points = |pairs: &[(f32, f32)]| pairs.iter().map(|(x, y)| c + vec2(*x, *y)).collect::<Vec<_>>();
            let shaft = points(&[(-4.0, 3.0), (4.5, -5.5), (7.5, -2.5), (-1.0, 6.0)]);
            painter.add(Drawn::convex_polygon(shaft, colour, Stroke::NONE));
            let tip = points(&[(-8.0, 8.0), (-5.5, 4.5), (-2.5, 7.0)]);
            painter.add(Drawn::convex_polygon(tip, colour, Stroke::NONE));
        }
        Shape::Clock => {
            painter.circle_stroke(c, 8.0, thin);
            painter.line(vec![c + vec2(0.0, -5.0), c, c + vec2(4.0, 2.5)], thin);
        }
        Shape::Warning => {
            let points = vec![c + vec2(0.0, -8.0), c + vec2(9.0, 7.0), c + vec2(-9.0, 7.0)];
            painter.add(Drawn::closed_line(points, thin));
            painter.line_segment([c + vec2(0.0, -2.0), c + vec2(0.0, 3.0)], thin);
        }
    }
}

/// A word on a tinted ground.
pub fn badge(ui: &mut Ui, p: &Palette, tone: Tone, word: &str) -> Response {
    let galley = ui.painter().layout_no_wrap(word.to_owned(), FontId::proportional(12.0), p.of(tone));
    let size = galley.size() + vec2(18.0, 8.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    ui.painter().rect_filled(rect, 10.0, p.tint(tone));
    ui.painter().galley(rect.min + vec2(9.0, 4.0), galley, p.of(tone));
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, word));
    response
}

/// A button that stands out.
pub fn main_button(p: &Palette, label: &str) -> Button<'static> {
    let text = RichText::new(label.to_owned()).color(p.on_blue).strong();
    Button::new(text).fill(p.blue)
}

/// A button of the view-model; a refused one says why under the pointer and to screen readers.
pub fn button(ui: &mut Ui, p: &Palette, button: &view::Button, out: &mut Vec<Command>) -> Response {
    let enabled = button.refused.is_none();
    let widget = if button.main && enabled { main_button(p, button.label) } else { Button::new(button.label) };
    let mut response = ui.add_enabled(enabled, widget);
    named(&response, enabled, &button.name, button.refused.as_deref());
    if let Some(why) = &button.refused {
        response = response.on_disabled_hover_text(why);
    }
    if response.clicked() {
        out.push(button.command.clone());
    }
    response
}

/// Gives a button a name that says what it is about, and why it cannot be pressed.
pub fn named(response: &Response, enabled: bool, name: &str, refused: Option<&str>) {
    let name = refused.map_or_else(|| name.to_owned(), |why| format!("{name} (not now: {why})"));
    response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, name.clone()));
}

/// A bar; its text stands beside it.
pub fn bar(ui: &mut Ui, p: &Palette, used: f32, text: &str) {
    let width = ui.available_width().min(260.0);
    let (rect, response) = ui.allocate_exact_size(vec2(width, 8.0), Sense::hover());
    ui.painter().rect_filled(rect, 4.0, p.line);
    let mut filled = rect;
    filled.set_width(rect.width() * used.clamp(0.0, 1.0));
    let colour = if used > 0.95 {
        p.red
    } else if used > 0.85 {
        p.amber
    } else {
        p.blue
    };
    ui.painter().rect_filled(filled, 4.0, colour);
    response.widget_info(|| WidgetInfo::labeled(Role::ProgressIndicator, true, text));
}

/// A command line with a button that copies it.
pub fn command_line(ui: &mut Ui, p: &Palette, line: &str, out: &mut Vec<Command>) {
    ui.horizontal_wrapped(|ui| {
        egui::Frame::new().fill(p.field).corner_radius(4).inner_margin(egui::Margin::symmetric(6, 3)).show(ui, |ui| {
            ui.set_max_width((ui.available_width() - 80.0).max(120.0));
            sentence(ui, RichText::new(line).monospace());
        });
        let copy = ui.button("Copy");
        named(&copy, true, &format!("Copy the command {line}"), None);
        if copy.clicked() {
            out.push(Command::Copy(line.to_owned()));
        }
    });
}

/// A heading of a view with a sentence below it.
pub fn heading(ui: &mut Ui, p: &Palette, title: &str, about: &str) {
    let response = ui.label(RichText::new(title).heading().strong());
    response.widget_info(|| WidgetInfo::labeled(Role::Heading, true, title));
    if !about.is_empty() {
        sentence(ui, RichText::new(about).color(p.weak));
    }
    ui.add_space(4.0);
}

/// A text field with a name, and a hint while it is empty.
pub fn field(ui: &mut Ui, text: &mut String, name: &str, hint: &str, width: f32) -> Response {
    // A person does not type more; a program that pastes a book is cut.
    const MOST: usize = 12_000;
    let response =
        ui.add(egui::TextEdit::singleline(text).hint_text(hint.to_owned()).desired_width(width).char_limit(MOST));
    label_field(&response, name, text);
    response
}

/// Names a text field.
pub fn label_field(response: &Response, name: &str, text: &str) {
    response.widget_info(|| {
        let mut info = WidgetInfo::text_edit(true, text, text, "");
        info.label = Some(name.to_owned());
        info
    });
}

/// A centred text for a view that has nothing to show.
pub fn empty(ui: &mut Ui, p: &Palette, what: &str, next: &str) {
    ui.add_space(40.0);
    ui.vertical_centered(|ui| {
        ui.label(RichText::new(what).size(16.0));
        sentence(ui, RichText::new(next).color(p.weak));
    });
}

/// Draws a text in a cell of a hand-made table, cut at its edge.
pub fn cell_text(ui: &Ui, rect: Rect, align: Align2, text: &str, font: FontId, colour: Color32) {
    // Not even the sign for "more" would fit.
    if rect.width() < 14.0 {
        return;
    }
    let mut job = egui::text::LayoutJob::simple_singleline(text.to_owned(), font, colour);
    job.wrap = egui::text::TextWrapping::truncate_at_width(rect.width());
    let galley = ui.painter().layout_job(job);
    let place = align.anchor_size(align.pos_in_rect(&rect), galley.size());
    ui.painter().galley(place.min, galley, colour);
}

/// A scrolled part of a dialogue that is as high as what is in it, up to a limit. Without the second limit it would never
/// grow again: a dialogue gives what is in it no more room than it took in the frame before.
pub fn fitting(limit: f32) -> egui::ScrollArea {
    egui::ScrollArea::vertical().max_height(limit).min_scrolled_height(limit)
}

/// A dialogue in the middle is placed by the size that it had in the frame before: when that was another one, one more frame
/// is wanted.
pub fn settle(ui: &Ui, id: egui::Id, rect: Rect) {
    let before = ui.ctx().data_mut(|d| d.get_temp::<Rect>(id));
    if before != Some(rect) {
        ui.ctx().data_mut(|d| d.insert_temp(id, rect));
        ui.ctx().request_repaint();
    }
}

/// The scrolled body of a view.
pub fn scrolled(ui: &mut Ui, name: &str, body: impl FnOnce(&mut Ui)) {
    egui::ScrollArea::vertical().id_salt(name).auto_shrink([false, false]).show(ui, |ui| {
        ui.set_width((ui.available_width() - 4.0).min(theme::PAGE));
        body(ui);
        ui.add_space(theme::GAP);
        follow_keyboard(ui);
    });
}

/// Scrolls to what has got the keyboard: whoever goes on with Tab sees where. To be called last in what scrolls.
pub fn follow_keyboard(ui: &Ui) {
    let Some(id) = ui.memory(|m| m.focused()) else { return };
    let place = ui.scope_id().with("keyboard");
    let before = ui.data_mut(|d| std::mem::replace(d.get_temp_mut_or(place, egui::Id::NULL), id));
    let Some(widget) = ui.ctx().read_response(id).filter(|w| before != id && w.layer_id == ui.layer_id()) else {
        return;
    };
    // What is in sight may lie outside of what scrolls.
    if !widget.interact_rect.contains_rect(widget.rect) {
        ui.scroll_to_rect(widget.rect.expand(theme::GAP), None);
    }
}
