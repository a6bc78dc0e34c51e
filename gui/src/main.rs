//! `volctl-gui`: the window.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory, Parser};
use eframe::egui;
use volctl::wire::client::socket_path;
use volctl::wire::outcome::Failure;
use volctl_gui::prefs::{self, Prefs, TextSize, Theme};
use volctl_gui::shell::Shell;

/// The window of volctl: volumes, who writes, and a button to ask
#[derive(Debug, Parser)]
#[command(name = "volctl-gui", version)]
struct Args {
    /// Find the daemon at this socket (else $VOLCTL_SOCKET, else /run/volctl/volctl.sock)
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Colours, this time
    #[arg(long, value_enum)]
    theme: Option<ThemeChoice>,

    /// Size of everything in percent, this time: 90, 100, 125, 150 or 200
    #[arg(long, value_name = "PERCENT", value_parser = size)]
    size: Option<TextSize>,

    /// Width and height of the window at its start
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = geometry)]
    geometry: Option<(u16, u16)>,

    /// Print the manual page and end
    #[arg(long)]
    man: bool,

    /// Print the completions of a shell and end
    #[arg(long, value_name = "SHELL", value_enum)]
    completions: Option<clap_complete::Shell>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ThemeChoice {
    /// As the system says
    System,
    /// Light
    Light,
    /// Dark
    Dark,
}

fn size(text: &str) -> Result<TextSize, String> {
    let word = format!("{} %", text.trim().trim_end_matches('%'));
    TextSize::ALL.into_iter().find(|size| size.word() == word).ok_or_else(|| "90, 100, 125, 150 or 200".to_owned())
}

fn geometry(text: &str) -> Result<(u16, u16), String> {
    let parts = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parts.ok_or_else(|| "such as 1000x680".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever closed stderr does not want to know.
            let _ = std::io::stderr().write_all(failure.to_lines().as_bytes());
            failure.exit.into()
        }
    }
}

/// What is printed instead of a window: the manual page, or the completions.
fn printed(args: &Args) -> std::io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    if let Some(shell) = args.completions {
        clap_complete::generate(shell, &mut Args::command(), "volctl-gui", &mut text);
    } else if args.man {
        clap_mangen::Man::new(Args::command()).render(&mut text)?;
    } else {
        return Ok(None);
    }
    Ok(Some(text))
}

fn run(args: &Args) -> Result<(), Failure> {
    let told = |error: std::io::Error| Failure::failed("nothing was printed", error.to_string(), "look at the output");
    if let Some(text) = printed(args).map_err(told)? {
        return std::io::stdout().write_all(&text).map_err(told);
    }
    let mut prefs = Prefs::load(prefs::path().as_deref());
    if let Some(theme) = args.theme {
        prefs.theme = match theme {
            ThemeChoice::System => Theme::System,
            ThemeChoice::Light => Theme::Light,
            ThemeChoice::Dark => Theme::Dark,
        };
    }
    prefs.text_size = args.size.unwrap_or(prefs.text_size);
    let socket = socket_path(args.socket.as_deref());
    let (width, height) = args.geometry.unwrap_or((1000, 680));
    let viewport = egui::ViewportBuilder::default()
        .with_title("volctl")
        .with_app_id("volctl-gui")
        .with_inner_size([f32::from(width), f32::from(height)])
        .with_min_inner_size([360.0, 280.0])
        .with_icon(icon());
    let options = eframe::NativeOptions { viewport, ..eframe::NativeOptions::default() };
    end_with_the_display();
    let opened = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&opened);
    let open = move |cc: &eframe::CreationContext<'_>| {
        let shell = Shell::new(cc, socket, prefs)?;
        mark.store(true, Ordering::Relaxed);
        Ok(Box::new(shell) as Box<dyn eframe::App>)
    };
    eframe::run_native("volctl-gui", options, Box::new(open)).map_err(|error| {
        // The toolkit puts the line of its own source before the reason, which is nobody's business here.
        let error = error.to_string();
        let why = error.rsplit(": ").next().unwrap_or(&error).trim_end_matches('.').to_owned();
        if opened.load(Ordering::Relaxed) {
            return display_lost(why);
        }
        let next = "start it on a desktop, or over 'ssh -X'; without a display, 'volctl' does the same in a terminal";
        Failure::failed("the window cannot be opened", why, next)
    })
}

fn display_lost(why: impl Into<String>) -> Failure {
    let next = "the daemon goes on, nothing is lost; start the window again when the display is back";
    Failure::failed("the window has lost its display", why, next)
}

/// The toolkit takes for granted that the display answers: when it goes away while the window draws, that is a panic there. For
/// the person it is an end with a reason.
fn end_with_the_display() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let in_toolkit = |file: &str| ["winit", "glutin", "x11rb"].iter().any(|name| file.contains(name));
        let said = info.payload_as_str().unwrap_or_default();
        let broken = ["Connection", "IoError", "Broken pipe", "BrokenPipe"].iter().any(|word| said.contains(word));
        if broken && info.location().is_some_and(|at| in_toolkit(at.file())) {
            let failure = display_lost("the connection to it broke");
            let _ = std::io::stderr().write_all(failure.to_lines().as_bytes());
            std::process::exit(1);
        }
        before(info);
    }));
}

/// The icon of the window: the same picture as dist/volctl-gui.svg, drawn small.
fn icon() -> egui::IconData {
    const SIDE: u8 = 64;
    let mut rgba = Vec::with_capacity(usize::from(SIDE) * usize::from(SIDE) * 4);
    for y in 0..SIDE {
        for x in 0..SIDE {
            rgba.extend(volctl_gui::theme::icon_pixel(f32::from(x) + 0.5, f32::from(y) + 0.5));
        }
    }
    egui::IconData { rgba, width: u32::from(SIDE), height: u32::from(SIDE) }
}
