//! How everything looks: the one place for colours, sizes and distances.

use eframe::egui::{self, Color32, CornerRadius, FontId, Margin, Stroke, TextStyle, Visuals, vec2};

use crate::view::Tone;

/// The colours of one theme.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Behind everything.
    pub ground: Color32,
    /// Cards.
    pub card: Color32,
    /// Lines around cards.
    pub line: Color32,
    /// Letters.
    pub text: Color32,
    /// Less important letters.
    pub weak: Color32,
    /// Calm, and the main buttons.
    pub blue: Color32,
    /// Writing.
    pub green: Color32,
    /// Under way.
    pub amber: Color32,
    /// Not in order.
    pub red: Color32,
    /// Letters on a main button.
    pub on_blue: Color32,
    /// The ground of what can be typed into.
    pub field: Color32,
}

const LIGHT: Palette = Palette {
    ground: Color32::from_rgb(0xf3, 0xf5, 0xf8),
    card: Color32::from_rgb(0xff, 0xff, 0xff),
    line: Color32::from_rgb(0xd9, 0xdf, 0xe7),
    text: Color32::from_rgb(0x1b, 0x23, 0x2e),
    weak: Color32::from_rgb(0x54, 0x60, 0x70),
    blue: Color32::from_rgb(0x1f, 0x5f, 0xbf),
    green: Color32::from_rgb(0x17, 0x73, 0x45),
    amber: Color32::from_rgb(0x8f, 0x55, 0x00),
    red: Color32::from_rgb(0xb3, 0x26, 0x1e),
    on_blue: Color32::WHITE,
    field: Color32::from_rgb(0xf8, 0xfa, 0xfc),
};

const DARK: Palette = Palette {
    ground: Color32::from_rgb(0x14, 0x17, 0x1c),
    card: Color32::from_rgb(0x1d, 0x22, 0x29),
    line: Color32::from_rgb(0x32, 0x3a, 0x45),
    text: Color32::from_rgb(0xe4, 0xe9, 0xf0),
    weak: Color32::from_rgb(0x9c, 0xa8, 0xb8),
    blue: Color32::from_rgb(0x7f, 0xb4, 0xff),
    green: Color32::from_rgb(0x63, 0xd2, 0x92),
    amber: Color32::from_rgb(0xf2, 0xb9, 0x55),
    red: Color32::from_rgb(0xff, 0x8b, 0x82),
    on_blue: Color32::from_rgb(0x0c, 0x1a, 0x2e),
    field: Color32::from_rgb(0x16, 0x1a, 0x20),
};

/// The colours in use.
#[must_use]
pub fn palette(ui: &egui::Ui) -> Palette {
    if ui.visuals().dark_mode { DARK } else { LIGHT }
}

impl Palette {
    /// The colour of a meaning.
    #[must_use]
    pub const fn of(&self, tone: Tone) -> Color32 {
        match tone {
            Tone::Quiet => self.weak,
            Tone::Calm => self.blue,
            Tone::Writing => self.green,
            Tone::Waiting => self.amber,
            Tone::Bad => self.red,
        }
    }

    /// The ground of a badge or banner of a meaning.
    #[must_use]
    pub fn tint(&self, tone: Tone) -> Color32 {
        self.card.lerp_to_gamma(self.of(tone), 0.14)
    }

    /// A colour for a name, the same for the same name; distinct enough in a row of a few.
    #[must_use]
    pub fn of_name(&self, name: &str) -> Color32 {
        let hash = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        let hues = [self.blue, self.green, self.amber, self.red, self.weak];
        let hue = hues[usize::try_from(hash % 5).unwrap_or(0)];
        let other = hues[usize::try_from(hash / 5 % 5).unwrap_or(0)];
        self.card.lerp_to_gamma(hue.lerp_to_gamma(other, 0.35), 0.45)
    }
}

/// The space between cards.
pub const GAP: f32 = 10.0;
/// The corners of cards.
pub const ROUND: CornerRadius = CornerRadius::same(8);
/// The width of the rail with the views.
pub const RAIL: f32 = 148.0;
/// No page is wider: the eye would lose the way from a name to its button.
pub const PAGE: f32 = 1100.0;
/// Below this width there is no rail; the menu has the views.
pub const NARROW: f32 = 600.0;
/// Below this height a page scrolls as a whole, and what explains is folded away.
pub const LOW: f32 = 420.0;

/// Sets both themes up.
pub fn install(ctx: &egui::Context) {
    ctx.set_visuals_of(egui::Theme::Light, visuals(Visuals::light(), &LIGHT));
    ctx.set_visuals_of(egui::Theme::Dark, visuals(Visuals::dark(), &DARK));
    ctx.all_styles_mut(|style| {
        for (name, size) in [(TextStyle::Small, 11.5), (TextStyle::Body, 13.5), (TextStyle::Button, 13.5)] {
            style.text_styles.insert(name, FontId::proportional(size));
        }
        style.text_styles.insert(TextStyle::Heading, FontId::proportional(18.0));
        style.text_styles.insert(TextStyle::Monospace, FontId::monospace(12.5));
        style.spacing.item_spacing = vec2(8.0, 6.0);
        style.spacing.button_padding = vec2(10.0, 5.0);
        style.spacing.interact_size.y = 26.0;
        style.spacing.scroll = egui::style::ScrollStyle::solid();
        // Nothing moves of itself: an idle window costs nothing.
        style.animation_time = 0.0;
        style.interaction.selectable_labels = false;
    });
}

fn visuals(mut v: Visuals, p: &Palette) -> Visuals {
    v.panel_fill = p.ground;
    v.window_fill = p.card;
    v.extreme_bg_color = p.field;
    v.text_edit_bg_color = Some(p.field);
    v.faint_bg_color = p.card.lerp_to_gamma(p.line, 0.35);
    v.code_bg_color = p.field;
    v.hyperlink_color = p.blue;
    v.warn_fg_color = p.amber;
    v.error_fg_color = p.red;
    v.weak_text_color = Some(p.weak);
    v.window_stroke = Stroke::new(1.0, p.line);
    v.window_corner_radius = CornerRadius::same(10);
    v.menu_corner_radius = CornerRadius::same(8);
    v.selection.bg_fill = p.card.lerp_to_gamma(p.blue, 0.28);
    v.selection.stroke = Stroke::new(1.0, p.text);
    v.text_cursor.blink = false;
    v.disabled_alpha = 0.55;
    let round = CornerRadius::same(6);
    let w = &mut v.widgets;
    for state in [&mut w.noninteractive, &mut w.inactive, &mut w.hovered, &mut w.active, &mut w.open] {
        state.corner_radius = round;
        state.fg_stroke = Stroke::new(1.0, p.text);
        state.expansion = 0.0;
    }
    w.noninteractive.bg_stroke = Stroke::new(1.0, p.line);
    w.inactive.bg_stroke = Stroke::new(1.0, p.line);
    w.inactive.weak_bg_fill = p.card.lerp_to_gamma(p.line, 0.55);
    w.inactive.bg_fill = p.card.lerp_to_gamma(p.line, 0.8);
    w.hovered.weak_bg_fill = p.card.lerp_to_gamma(p.blue, 0.16);
    w.hovered.bg_stroke = Stroke::new(1.0, p.blue);
    w.active.weak_bg_fill = p.card.lerp_to_gamma(p.blue, 0.3);
    // What has the keyboard looks so too; the ring must be seen on a blue button.
    w.active.bg_stroke = Stroke::new(2.0, p.text);
    w.open.weak_bg_fill = p.card.lerp_to_gamma(p.blue, 0.16);
    v
}

/// The frame of a card.
pub fn card(p: &Palette) -> egui::Frame {
    egui::Frame::new().fill(p.card).stroke(Stroke::new(1.0, p.line)).corner_radius(ROUND).inner_margin(Margin::same(12))
}

/// The frame of a banner of a meaning.
pub fn banner(p: &Palette, tone: Tone) -> egui::Frame {
    let line = p.card.lerp_to_gamma(p.of(tone), 0.5);
    egui::Frame::new()
        .fill(p.tint(tone))
        .stroke(Stroke::new(1.0, line))
        .corner_radius(ROUND)
        .inner_margin(Margin::symmetric(12, 8))
}

/// A point of the window's icon, in a square of 64: a disk with a pencil, as in dist/volctl-gui.svg.
#[must_use]
pub fn icon_pixel(x: f32, y: f32) -> [u8; 4] {
    const CLEAR: [u8; 4] = [0; 4];
    const BLUE: [u8; 4] = [0x1f, 0x5f, 0xbf, 0xff];
    const WHITE: [u8; 4] = [0xff, 0xff, 0xff, 0xff];
    const GREEN: [u8; 4] = [0x63, 0xd2, 0x92, 0xff];
    let ellipse = |cy: f32| ((x - 28.0) / 22.0).powi(2) + ((y - cy) / 8.0).powi(2);
    // Along the pencil, and across it.
    let (along, across) = ((x - y + 8.0) * 0.707, (x + y - 88.0) * 0.707);
    if across.abs() < 6.0 && (-14.0..22.0).contains(&along) {
        return if along < -6.0 && across.abs() > (along + 14.0) * 0.75 { CLEAR } else { GREEN };
    }
    let body = (x - 28.0).abs() <= 22.0 && (14.0..=50.0).contains(&y);
    if ellipse(14.0) <= 1.0 {
        return WHITE;
    }
    if (body && ellipse(14.0) > 1.0) || ellipse(50.0) <= 1.0 {
        let ring = [26.0, 38.0].iter().any(|cy| (ellipse(*cy) - 1.0).abs() < 0.12 && y > *cy);
        return if ring { WHITE } else { BLUE };
    }
    CLEAR
}
