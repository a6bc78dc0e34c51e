//! Output in one place: results on stdout for people or as JSON, failures on stderr, and a closed pipe is no error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::wire::outcome::{Failure, one_line, safe_json, safe_lines};

/// Where a command prints.
pub struct Ui {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    json: bool,
    terminal: bool,
    /// Whoever read stdout has had enough.
    closed: bool,
    broken: Option<io::Error>,
}

impl Ui {
    /// The process's own streams.
    #[must_use]
    pub fn process() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { terminal, ..Self::new(Box::new(io::stdout()), Box::new(io::stderr())) }
    }

    /// Any two streams, neither of them a terminal.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, json: false, terminal: false, closed: false, broken: None }
    }

    /// Chooses JSON or text.
    pub const fn set_json(&mut self, json: bool) {
        self.json = json;
    }

    /// Whether JSON is wanted.
    #[must_use]
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Whether a person's terminal is at the other end.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether the reader of stdout is gone: a command without end should stop then.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed || self.broken.is_some()
    }

    /// Prints a result: one line of JSON, or the text that `human` makes of it.
    pub fn show<T: Serialize>(&mut self, value: &T, human: impl FnOnce(&T) -> String) {
        if self.json {
            match serde_json::to_string(value) {
                Ok(line) => self.text(&(safe_json(&line) + "\n")),
                Err(error) => self.broken = Some(error.into()),
            }
        } else {
            let mut text = safe_lines(&human(value));
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            self.text(&text);
        }
    }

    /// Prints a line for people; nothing with `--json`.
    pub fn say(&mut self, line: &str) {
        if !self.json {
            self.text(&format!("{}\n", safe_lines(line)));
        }
    }

    /// Prints text as it is, whatever the mode.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Prints bytes as they are, whatever the mode.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.is_closed() {
            return;
        }
        if let Err(error) = self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            if error.kind() == io::ErrorKind::BrokenPipe {
                self.closed = true;
            } else {
                self.broken = Some(error);
            }
        }
    }

    /// Prints a failure on stderr: three lines, or one of JSON.
    pub fn failure(&mut self, failure: &Failure) {
        let text = if self.json { failure.to_json() + "\n" } else { failure.to_lines() };
        // There is no further place to complain to.
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Prints a remark on stderr, in either mode: what the person should know although the command goes on.
    pub fn remark(&mut self, line: &str) {
        // As in `failure`.
        let _ = writeln!(self.err, "volctl: {}", one_line(line)).and_then(|()| self.err.flush());
    }

    /// Whether all output has arrived; a reader who closed the pipe wanted no more, and that is success.
    ///
    /// # Errors
    /// A [`Failure`] (exit 1) when stdout could not be written.
    pub fn finish(&mut self) -> Result<(), Failure> {
        match self.broken.take() {
            None => Ok(()),
            Some(error) => Err(Failure::failed(
                "the output could not be written",
                error.to_string(),
                "what was asked may have been done all the same: look with 'volctl status'",
            )),
        }
    }
}

/// Lays rows out in columns two spaces apart; the last column is not padded. Cells are made safe for a terminal.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::outcome::ExitCode;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_quiet_success_and_a_full_disk_a_failure() {
        let mut ui = Ui::new(Box::new(Failing(io::ErrorKind::BrokenPipe)), Box::new(io::sink()));
        ui.text("x");
        assert!(ui.is_closed());
        assert_eq!(ui.finish(), Ok(()));
        let mut ui = Ui::new(Box::new(Failing(io::ErrorKind::StorageFull)), Box::new(io::sink()));
        ui.text("x");
        assert_eq!(ui.finish().expect_err("not written").exit, ExitCode::Failed);
    }

    /// A message of another host was printed as it came by whatever verb forgot to clean it.
    #[test]
    fn whatever_a_verb_shows_is_safe_for_a_terminal() {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("a lock").extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let mut ui = Ui::new(Box::new(kept.clone()), Box::new(kept.clone()));
        for json in [false, true] {
            ui.set_json(json);
            ui.show(&"\x1b[2J\u{9b}1m\u{202e}", |text| format!("{text}\n{text}"));
            ui.say("\x1b[2J");
            ui.remark("\u{9b}1m");
            ui.failure(&Failure::failed("\x1b[2J", "\u{9b}1m", "\u{202e}"));
        }
        let shown = String::from_utf8(kept.0.lock().expect("a lock").clone()).expect("UTF-8");
        let bad: Vec<char> = shown.chars().filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}').collect();
        assert!(bad.is_empty(), "{bad:?} in {shown:?}");
    }

    #[test]
    fn columns_line_up_by_characters_and_cells_are_safe() {
        let rows = [vec!["é".to_owned(), "b".to_owned()], vec!["long".to_owned(), "\x1b[2Jx".to_owned()]];
        assert_eq!(table(&rows), "é     b\nlong  \u{fffd}[2Jx\n");
        assert_eq!(table(&[]), "");
    }
}
