//! JSON without its punctuation, for people: one line a value, lists with dashes.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Any view as indented text. Characters that a terminal would act upon come out escaped.
pub fn to_text(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Plain::default());
    // Writing into memory does not fail, and the views have string keys only.
    value.serialize(&mut serializer).expect("views serialise");
    let text = String::from_utf8(bytes).expect("the serialiser writes UTF-8");
    let mut out = text.trim_start_matches('\n').replace(": \n", ":\n");
    out.push('\n');
    out
}

/// Keeps the depth, and whether the line was begun by a dash.
#[derive(Default)]
struct Plain {
    depth: usize,
    after_dash: bool,
    empty: bool,
}

impl Plain {
    fn line<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        if self.after_dash {
            self.after_dash = false;
            return Ok(());
        }
        w.write_all(b"\n")?;
        for _ in 1..self.depth {
            w.write_all(b"  ")?;
        }
        Ok(())
    }
}

impl Formatter for Plain {
    fn begin_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, w: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            // serde_json escapes below U+0020 only; the rest of the controls and the bidirectional marks fool eyes too.
            if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                write!(w, "\\u{:04x}", u32::from(c))?;
            } else {
                write!(w, "{c}")?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, w: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => w.write_all(b"\""),
            CharEscape::Solidus => w.write_all(b"/"),
            CharEscape::ReverseSolidus => w.write_all(b"\\\\"),
            CharEscape::LineFeed => w.write_all(b"\\n"),
            CharEscape::Tab => w.write_all(b"\\t"),
            CharEscape::CarriageReturn => w.write_all(b"\\r"),
            CharEscape::Backspace => w.write_all(b"\\u0008"),
            CharEscape::FormFeed => w.write_all(b"\\u000c"),
            CharEscape::AsciiControl(byte) => write!(w, "\\u{byte:04x}"),
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        Ok(())
    }

    fn end_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if std::mem::take(&mut self.empty) {
            w.write_all(b"none")?;
        }
        Ok(())
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, _: bool) -> io::Result<()> {
        self.empty = false;
        self.line(w)?;
        w.write_all(b"- ")?;
        self.after_dash = true;
        Ok(())
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.after_dash = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.depth += 1;
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.depth -= 1;
        Ok(())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, _: bool) -> io::Result<()> {
        self.line(w)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::to_text;

    #[test]
    fn text_is_indented_and_harmless() {
        let v = serde_json::json!({"a": [{"x": 1, "y": "b\u{1b}[2J\u{9b}\u{202e}"}, {"x": 2}], "b": {"c": []}, "d": [1, 2]});
        let want = "a:\n  - x: 1\n    y: b\\u001b[2J\\u009b\\u202e\n  - x: 2\nb:\n  c: none\nd:\n  - 1\n  - 2\n";
        assert_eq!(to_text(&v), want);
    }
}
