//! Desks: each an X server without a screen, with one window of volctl on it, driven by mouse and keyboard.
//!
//! No window manager is needed: the window lies at the corner of the screen. Where things are in it is read from the map
//! that the window itself writes (`VOLCTL_WINDOW_MAP`).

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program;
use crate::studio::wait_until;
use crate::tree;

/// How long anything on a screen may take to appear.
const SOON: Duration = Duration::from_secs(20);
/// For how long a thing must stand still before it is clicked.
const STILL: Duration = Duration::from_millis(150);

/// How a window is started.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width and height.
    pub size: (u16, u16),
    /// `light` or `dark`.
    pub theme: &'static str,
    /// In percent.
    pub scale: u16,
    /// There is a session bus in the environment at which nobody answers.
    pub dead_bus: bool,
}

impl Look {
    /// The usual one.
    pub const USUAL: Self = Self { size: (1000, 680), theme: "dark", scale: 100, dead_bus: false };
}

/// A desk.
#[derive(Debug)]
pub struct Desk {
    server: Child,
    window: Child,
    display: String,
    dir: PathBuf,
    size: (u16, u16),
}

impl Desk {
    /// Starts an X server and a window for the daemon at `socket`; `dir` is the desk's own directory.
    ///
    /// # Panics
    /// When one of them does not start; what is missing is named.
    #[must_use]
    pub fn open(dir: &Path, socket: &Path, look: Look) -> Self {
        fs::create_dir_all(dir).expect("a directory");
        let (server, display) = serve(look.size);
        let log = fs::File::create(dir.join("window.log")).expect("a log");
        let mut command = Command::new(program::window());
        command.arg("--socket").arg(socket).args(["--theme", look.theme, "--size", &look.scale.to_string()]);
        command.args(["--geometry", &format!("{}x{}", look.size.0, look.size.1)]);
        command.env("DISPLAY", &display).env("LIBGL_ALWAYS_SOFTWARE", "1").env("XDG_CONFIG_HOME", dir);
        command.env("VOLCTL_WINDOW_MAP", dir.join("map"));
        for variable in ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"] {
            command.env_remove(variable);
        }
        if look.dead_bus {
            command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", dir.join("bus").display()));
        }
        let mut path = file_manager(dir).into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
        let window = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the window starts");
        let mut desk = Self { server, window, display, dir: dir.to_owned(), size: look.size };
        wait_until("the window draws", SOON * 2, &mut || {
            assert!(desk.is_open(), "the window ended:\n{}", desk.log());
            desk.map().lines().count() > 3
        });
        // No window manager gives it the keyboard.
        desk.xdotool(&["search", "--sync", "--name", "volctl", "windowfocus"]);
        desk
    }

    /// Whether the window is still there.
    pub fn is_open(&mut self) -> bool {
        self.window.try_wait().expect("a child can be asked").is_none()
    }

    /// The window's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.window.id()
    }

    /// The title of the window.
    #[must_use]
    pub fn title(&self) -> String {
        self.xdotool(&["search", "--name", "volctl", "getwindowname"]).trim().to_owned()
    }

    /// Whether the window asks the desktop for attention: the urgency hint, by which a taskbar makes its entry blink.
    #[must_use]
    pub fn urgent(&self) -> bool {
        let window = self.xdotool(&["search", "--name", "volctl"]);
        let mut command = Command::new("xprop");
        command.args(["-display", &self.display, "-id", window.trim(), "WM_HINTS"]);
        let output = command.output().expect("xprop is installed (make packages)");
        String::from_utf8_lossy(&output.stdout).contains("urgency hint bit is set")
    }

    /// Takes the window from the screen, as a taskbar does.
    pub fn hide(&self) {
        self.xdotool(&["search", "--name", "volctl", "windowunmap", "--sync"]);
    }

    /// Moves the pointer to the edge, where nothing lies under it.
    pub fn step_back(&self) {
        self.xdotool(&["mousemove", "--sync", "0", "9999"]);
    }

    /// The directory that was opened last in the file manager.
    #[must_use]
    pub fn opened(&self) -> String {
        fs::read_to_string(self.dir.join("opened")).unwrap_or_default().trim().to_owned()
    }

    /// What the window said on stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("window.log")).unwrap_or_default()
    }

    fn map(&self) -> String {
        fs::read_to_string(self.dir.join("map")).unwrap_or_default()
    }

    /// Everything that has a name now.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.map().lines().filter_map(|line| line.split('\t').nth(1)).map(str::to_owned).collect()
    }

    /// Place and content of what has this name.
    fn find(&self, name: &str) -> Option<((i32, i32), String)> {
        let map = self.map();
        let line = map.lines().find(|line| line.split('\t').nth(1) == Some(name))?;
        let mut parts = line.split('\t');
        let sides: Vec<i32> = parts.next()?.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [left, top, right, bottom] = sides.as_slice() else { return None };
        Some((((left + right) / 2, (top + bottom) / 2), parts.nth(1).unwrap_or_default().to_owned()))
    }

    /// The middle of what has this name, once it stands still: a person does not click at what is on the move.
    #[track_caller]
    fn aim(&self, name: &str) -> (i32, i32) {
        self.see(name);
        self.scroll_to(name);
        let mut since = Instant::now();
        let mut last = self.find(name).map(|(place, _)| place);
        let begun = since;
        loop {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.find(name).map(|(place, _)| place);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            match last {
                Some(place) if since.elapsed() > STILL => return place,
                _ => assert!(begun.elapsed() < SOON, "{name} does not stand still: {:#?}", self.names()),
            }
        }
    }

    /// Turns the wheel in the middle of the window until what has this name is in sight.
    fn scroll_to(&self, name: &str) {
        let (width, height) = (i32::from(self.size.0), i32::from(self.size.1));
        let begun = Instant::now();
        while let Some((_, y)) = self.find(name).map(|(place, _)| place)
            && (y < 0 || y > height - 14)
        {
            assert!(begun.elapsed() < SOON, "no wheel brings {name} into sight: {:#?}", self.names());
            let (x, middle) = ((width / 2).to_string(), (height * 2 / 3).to_string());
            self.xdotool(&["mousemove", "--sync", &x, &middle, "click", if y < 0 { "4" } else { "5" }]);
            let turned = Instant::now();
            while self.find(name).is_some_and(|(place, _)| place.1 == y) && turned.elapsed() < STILL {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Waits until something begins with these words.
    ///
    /// # Panics
    /// When it does not appear.
    #[track_caller]
    pub fn see(&self, words: &str) {
        self.see_within(words, SOON);
    }

    /// As [`Desk::see`], within a time.
    ///
    /// # Panics
    /// When it does not appear.
    #[track_caller]
    pub fn see_within(&self, words: &str, limit: Duration) {
        let seen = || self.names().iter().any(|name| name.starts_with(words));
        let begun = Instant::now();
        while !seen() {
            let shown = || format!("{:#?}\n{}", self.names(), self.log());
            assert!(begun.elapsed() < limit, "not seen within {limit:?}: {words}\n{}", shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Moves the mouse to what has this name, and presses its button; when that was.
    ///
    /// # Panics
    /// When nothing of this name appears.
    #[track_caller]
    pub fn click(&self, name: &str) -> Instant {
        let (x, y) = self.aim(name);
        self.xdotool(&["mousemove", "--sync", &x.to_string(), &y.to_string()]);
        let pressed = Instant::now();
        self.xdotool(&["click", "1"]);
        pressed
    }

    /// Clicks into a field and types.
    ///
    /// # Panics
    /// As [`Desk::click`].
    #[track_caller]
    pub fn type_into(&self, field: &str, text: &str) {
        let has = || self.find(field).is_some_and(|(_, now)| now == text);
        // Something may have moved under the mouse after all: then a person tries again, too.
        for _ in 0..3 {
            self.click(field);
            self.xdotool(&["key", "ctrl+a"]);
            self.xdotool(&["type", "--delay", "5", text]);
            // What is typed and what is clicked next must not fall into one frame.
            let begun = Instant::now();
            while !has() && begun.elapsed() < SOON {
                std::thread::sleep(Duration::from_millis(10));
            }
            if has() {
                return;
            }
        }
        panic!("{field} does not take {text}: {:#?}", self.names());
    }

    /// Presses keys, such as `ctrl+k`.
    pub fn keys(&self, keys: &str) {
        self.xdotool(&["key", keys]);
    }

    fn xdotool(&self, args: &[&str]) -> String {
        let output = Command::new("xdotool").args(args).env("DISPLAY", &self.display).output();
        let output = output.expect("xdotool is installed (make packages)");
        assert!(output.status.success(), "xdotool {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A picture of the screen, kept in `target/window/`.
    ///
    /// # Panics
    /// When none can be made.
    pub fn picture(&self, name: &str) -> PathBuf {
        let folder = target().join("window");
        fs::create_dir_all(&folder).expect("a folder for pictures");
        let path = folder.join(format!("{name}.png"));
        let mut command = Command::new("import");
        command.args(["-display", &self.display, "-window", "root", "+dither", "-colors", "128"]);
        command.arg(format!("PNG8:{}", path.display()));
        let output = command.output().expect("import (imagemagick) is installed (make packages)");
        assert!(output.status.success(), "import: {}", String::from_utf8_lossy(&output.stderr));
        path
    }

    /// The display goes away, as when an X server ends or an ssh connection breaks.
    pub fn lose_display(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// How the window ended: its exit code, None for a signal.
    ///
    /// # Panics
    /// When it does not end.
    pub fn exit_code(&mut self) -> Option<i32> {
        let mut ended = None;
        let window = &mut self.window;
        wait_until("the window ends", SOON, &mut || {
            ended = window.try_wait().expect("a child can be asked");
            ended.is_some()
        });
        ended.and_then(|status| status.code())
    }

    /// How much of a core the window takes while nothing happens, over a time.
    ///
    /// # Panics
    /// When the window is gone.
    #[must_use]
    pub fn idle_share(&self, time: Duration) -> f64 {
        let used = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the window is there");
            let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
            // utime and stime, the 14th and 15th field, in ticks of 10 ms.
            fields[11].parse::<f64>().expect("ticks") + fields[12].parse::<f64>().expect("ticks")
        };
        let before = used();
        std::thread::sleep(time);
        (used() - before) / 100.0 / time.as_secs_f64()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- on the desk {}:\n{:#?}\n{}", self.dir.display(), self.names(), self.log());
            if self.server.try_wait().is_ok_and(|s| s.is_none()) {
                let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let _ = fs::create_dir_all(target().join("window"));
                let _ = Command::new("import")
                    .args(["-display", &self.display, "-window", "root"])
                    .arg(target().join(format!("window/failed-{name}.png")))
                    .status();
            }
        }
        for child in [&mut self.window, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A desktop's `xdg-open` that only notes what it is to open; the directory that it lies in.
fn file_manager(dir: &Path) -> PathBuf {
    let (bin, opened) = (dir.join("bin"), dir.join("opened"));
    fs::create_dir_all(&bin).expect("a directory");
    let program = bin.join("xdg-open");
    fs::write(&program, format!("#!/bin/sh\necho \"$1\" > '{}'\n", opened.display())).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may be run");
    bin
}

/// Starts an X server that chooses its own number.
fn serve((width, height): (u16, u16)) -> (Child, String) {
    let mut command = Command::new("Xvfb");
    command.args(["-displayfd", "1", "-screen", "0", &format!("{width}x{height}x24"), "-nolisten", "tcp", "-noreset"]);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut server = spawned.expect("Xvfb is installed (make packages)");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut line).expect("Xvfb tells its number");
    assert!(!line.trim().is_empty(), "Xvfb does not start");
    (server, format!(":{}", line.trim()))
}

/// Where built things lie.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree::root().join("target"), PathBuf::from)
}
