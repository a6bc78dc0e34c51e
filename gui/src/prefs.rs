//! What the person chose for the window: a small file of his own, and nothing that the daemon should know.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// As the system says.
    #[default]
    System,
    /// Dark letters on light ground.
    Light,
    /// Light letters on dark ground.
    Dark,
    /// The other one of the two than now; never kept.
    #[serde(skip)]
    Other,
}

/// How large everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextSize {
    /// 90 %.
    Small,
    /// 100 %.
    #[default]
    Normal,
    /// 125 %.
    Large,
    /// 150 %.
    Larger,
    /// 200 %.
    Largest,
}

impl TextSize {
    /// All, from small to large.
    pub const ALL: [Self; 5] = [Self::Small, Self::Normal, Self::Large, Self::Larger, Self::Largest];

    /// The factor.
    #[must_use]
    pub const fn zoom(self) -> f32 {
        match self {
            Self::Small => 0.9,
            Self::Normal => 1.0,
            Self::Large => 1.25,
            Self::Larger => 1.5,
            Self::Largest => 2.0,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Small => "90 %",
            Self::Normal => "100 %",
            Self::Large => "125 %",
            Self::Larger => "150 %",
            Self::Largest => "200 %",
        }
    }

    /// One step larger or smaller, as far as it goes.
    #[must_use]
    pub fn step(self, larger: bool) -> Self {
        let at = Self::ALL.iter().position(|size| *size == self).unwrap_or(1);
        let to = if larger { at + 1 } else { at.saturating_sub(1) };
        Self::ALL.get(to).copied().unwrap_or(self)
    }
}

/// The preferences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prefs {
    /// Light or dark.
    pub theme: Theme,
    /// How large everything is.
    pub text_size: TextSize,
    /// Desktop notifications when somebody asks or answers.
    pub notify: bool,
    /// The control volume that was administered last.
    pub control: String,
}

impl Default for Prefs {
    fn default() -> Self {
        Self { theme: Theme::System, text_size: TextSize::Normal, notify: true, control: String::new() }
    }
}

/// Where the file lies: `$XDG_CONFIG_HOME/volctl/window.toml`, else below `~/.config`.
#[must_use]
pub fn path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(base.join("volctl/window.toml"))
}

impl Prefs {
    /// Reads the file; what is missing or not understood is as it is at first.
    #[must_use]
    pub fn load(path: Option<&Path>) -> Self {
        let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let fresh = path.with_extension("new");
        std::fs::File::create(&fresh)?.write_all(text.as_bytes())?;
        std::fs::rename(&fresh, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_come_back_and_rubbish_is_as_at_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/window.toml");
        let prefs = Prefs { theme: Theme::Dark, text_size: TextSize::Largest, notify: false, control: "/dev/c".into() };
        prefs.save(&path).expect("saved");
        assert_eq!(Prefs::load(Some(&path)), prefs);
        std::fs::write(&path, "theme = 7").expect("written");
        assert_eq!(Prefs::load(Some(&path)), Prefs::default());
        assert_eq!(Prefs::load(None), Prefs::default());
    }

    #[test]
    fn text_grows_and_shrinks_as_far_as_it_goes() {
        assert_eq!(TextSize::Normal.step(true), TextSize::Large);
        assert_eq!(TextSize::Largest.step(true), TextSize::Largest);
        assert_eq!(TextSize::Small.step(false), TextSize::Small);
    }
}
