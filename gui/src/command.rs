//! Everything a person can want of the window, as values: menu, shortcuts, palette, buttons and tests all make these.

use volctl::wire::call::Answer3;

use crate::admin::AdminCommand;
use crate::prefs::{TextSize, Theme};

/// The views of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// What there is, who writes, and the button to ask.
    #[default]
    Volumes,
    /// All volumes by all clients.
    Matrix,
    /// Who held what when, and the event log.
    Activity,
    /// Tables, clients, volumes, privileges.
    Administration,
    /// How the window looks and when it calls.
    Preferences,
}

impl View {
    /// All, in the order of the rail.
    pub const ALL: [Self; 5] = [Self::Volumes, Self::Matrix, Self::Activity, Self::Administration, Self::Preferences];

    /// Its name.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Volumes => "Volumes",
            Self::Matrix => "Status matrix",
            Self::Activity => "Activity",
            Self::Administration => "Administration",
            Self::Preferences => "Preferences",
        }
    }
}

/// The pages of the administration view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminPage {
    /// The tables themselves: make, check, take over, run the daemon.
    #[default]
    Tables,
    /// The clients.
    Clients,
    /// The volumes.
    Volumes,
    /// Who may do what.
    Privileges,
}

impl AdminPage {
    /// All, in the order of the tabs.
    pub const ALL: [Self; 4] = [Self::Tables, Self::Clients, Self::Volumes, Self::Privileges];

    /// Its name.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Tables => "Tables",
            Self::Clients => "Clients",
            Self::Volumes => "Volumes of the tables",
            Self::Privileges => "Privileges",
        }
    }
}

/// One wish of the person.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Show a view.
    Show(View),
    /// Show a page of the administration.
    ShowAdmin(AdminPage),
    /// Show the command palette, or hide it.
    Palette,
    /// Close what lies on top: palette, composer, menu.
    Close,
    /// Open the composer of a request.
    Compose(String),
    /// Ask for write access, with a message.
    Ask {
        /// The volume.
        volume: String,
        /// What to say.
        message: String,
    },
    /// Take the own request back.
    Withdraw(String),
    /// Give the write access back.
    Release(String),
    /// Switch to the newest generation.
    Refresh(String),
    /// Mount for reading.
    Mount(String),
    /// Take the reader's mount away.
    Unmount(String),
    /// Open the dialogue of a takeover.
    ComposeTakeover(String),
    /// Take the write access from its holder.
    Takeover {
        /// The volume.
        volume: String,
        /// The silent writer whose last writes are not waited for.
        yes_i_know: Option<String>,
    },
    /// Answer another client's request.
    Answer {
        /// The request's id.
        id: String,
        /// The volume.
        volume: String,
        /// Who asks.
        client: String,
        /// The answer.
        answer: Answer3,
        /// What to say.
        message: String,
    },
    /// Hide a prompt; its request stands, and a banner says so.
    PutOff(String),
    /// Show a prompt again.
    Reopen(String),
    /// Open a directory in the file manager.
    OpenFolder(String),
    /// Put a text on the clipboard.
    Copy(String),
    /// Close a notice.
    Dismiss(u64),
    /// Close the sentence about how a request ended.
    Forget(String),
    /// Light, dark, or as the system.
    Theme(Theme),
    /// How large everything is.
    TextSize(TextSize),
    /// One step larger (true) or smaller.
    Step(bool),
    /// Whether desktop notifications are shown.
    Notify(bool),
    /// Connect to the daemon now.
    Reconnect,
    /// Something of the administration.
    Admin(AdminCommand),
    /// End the window.
    Quit,
}

/// A key with what is held down with it; `ctrl` is the platform's command key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortcut {
    /// With Control.
    pub ctrl: bool,
    /// With Shift.
    pub shift: bool,
    /// With Alt.
    pub alt: bool,
    /// The key.
    pub key: eframe::egui::Key,
}

impl Shortcut {
    const fn ctrl(key: eframe::egui::Key) -> Self {
        Self { ctrl: true, shift: false, alt: false, key }
    }

    const fn ctrl_shift(key: eframe::egui::Key) -> Self {
        Self { ctrl: true, shift: true, alt: false, key }
    }

    const fn plain(key: eframe::egui::Key) -> Self {
        Self { ctrl: false, shift: false, alt: false, key }
    }

    /// As it is written in a menu.
    #[must_use]
    pub fn text(self) -> String {
        let mut text = String::new();
        for (held, name) in [(self.ctrl, "Ctrl+"), (self.shift, "Shift+"), (self.alt, "Alt+")] {
            if held {
                text.push_str(name);
            }
        }
        text + self.key.symbol_or_name()
    }

    /// For the toolkit.
    #[must_use]
    pub fn keyboard(self) -> eframe::egui::KeyboardShortcut {
        let mut modifiers = eframe::egui::Modifiers::NONE;
        if self.ctrl {
            modifiers |= eframe::egui::Modifiers::COMMAND;
        }
        if self.shift {
            modifiers |= eframe::egui::Modifiers::SHIFT;
        }
        if self.alt {
            modifiers |= eframe::egui::Modifiers::ALT;
        }
        eframe::egui::KeyboardShortcut::new(modifiers, self.key)
    }
}

/// The menus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// The window itself.
    Window,
    /// What is shown.
    View,
    /// Acts on volumes.
    Volume,
}

impl Menu {
    /// All, in their order.
    pub const ALL: [Self; 3] = [Self::Window, Self::View, Self::Volume];

    /// Its name.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Window => "Window",
            Self::View => "View",
            Self::Volume => "Volume",
        }
    }
}

/// A command as menu and palette list it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it does, in words.
    pub label: String,
    /// What it is.
    pub command: Command,
    /// Where it stands.
    pub menu: Menu,
    /// Its key.
    pub shortcut: Option<Shortcut>,
    /// Why it cannot be done now.
    pub refused: Option<String>,
}

impl Entry {
    fn new(menu: Menu, label: impl Into<String>, command: Command, shortcut: Option<Shortcut>) -> Self {
        Self { label: label.into(), command, menu, shortcut, refused: None }
    }
}

/// The one list of commands: the fixed ones, then those of the volumes as `buttons` has them.
#[must_use]
pub fn catalogue(buttons: impl IntoIterator<Item = (String, Command, Option<String>)>) -> Vec<Entry> {
    use eframe::egui::Key;
    let views = [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5];
    let mut all: Vec<Entry> = View::ALL
        .into_iter()
        .zip(views)
        .map(|(view, key)| {
            Entry::new(Menu::View, format!("Show {}", view.title()), Command::Show(view), Some(Shortcut::ctrl(key)))
        })
        .collect();
    let window = [
        ("Command palette", Command::Palette, Some(Shortcut::ctrl(Key::K))),
        ("Connect to the daemon now", Command::Reconnect, Some(Shortcut::plain(Key::F5))),
        ("Quit", Command::Quit, Some(Shortcut::ctrl(Key::Q))),
    ];
    all.extend(window.map(|(label, command, key)| Entry::new(Menu::Window, label, command, key)));
    let look = [
        ("Light", Command::Theme(Theme::Light), None),
        ("Dark", Command::Theme(Theme::Dark), None),
        ("Light or dark as the system", Command::Theme(Theme::System), None),
        ("Switch between light and dark", Command::Theme(Theme::Other), Some(Shortcut::ctrl_shift(Key::L))),
        ("Larger text", Command::Step(true), Some(Shortcut::ctrl(Key::Plus))),
        ("Smaller text", Command::Step(false), Some(Shortcut::ctrl(Key::Minus))),
        ("Normal text", Command::TextSize(TextSize::Normal), Some(Shortcut::ctrl(Key::Num0))),
    ];
    all.extend(look.map(|(label, command, key)| Entry::new(Menu::View, label, command, key)));
    all.extend(AdminPage::ALL.map(|page| {
        Entry::new(Menu::View, format!("Administration: {}", page.title()), Command::ShowAdmin(page), None)
    }));
    for (label, command, refused) in buttons {
        all.push(Entry { label, command, menu: Menu::Volume, shortcut: None, refused });
    }
    all
}

/// How well an entry fits what was typed: every word must be in it; earlier is better.
#[must_use]
pub fn fits(label: &str, typed: &str) -> Option<usize> {
    let label = label.to_lowercase();
    let mut rank = 0;
    for word in typed.to_lowercase().split_whitespace() {
        rank += label.find(word)?;
    }
    Some(rank)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_commands_have_the_same_key_or_the_same_words() {
        let all = catalogue([]);
        let keys: Vec<String> = all.iter().filter_map(|e| e.shortcut).map(Shortcut::text).collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:?}");
        assert_eq!(all.iter().map(|e| &e.label).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_palette_finds_by_parts_of_words_in_any_order() {
        assert!(fits("Request write access to footage", "foot req").is_some());
        assert_eq!(fits("Request write access to footage", "release"), None);
        assert!(fits("Show Volumes", "vol") > fits("Volumes", "vol"));
    }
}
