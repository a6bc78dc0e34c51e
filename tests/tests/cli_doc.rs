//! `docs/cli.md` is what the program itself says; `VOLCTL_BLESS=1 cargo test -p volctl-tests cli` writes it anew.

use std::fmt::Write;

use clap::Command;
use volctl_tests::tree::{read, root};

const PATH: &str = "docs/cli.md";

const HEAD: &str = "\
# The command line

Written by a test from the program's own help (`VOLCTL_BLESS=1 cargo test -p volctl-tests cli`): do not edit.
`volctl man | man -l -` shows the same as a manual page, `volctl completions SHELL` prints completions.
What the exit codes mean, and the JSON of `--json`, is in [operations.md](operations.md).

";

fn section(command: &Command, path: &str, text: &mut String) {
    let mut command = command.clone().term_width(100).bin_name(path.to_owned());
    let help = command.render_long_help().to_string();
    let _ = writeln!(
        text,
        "## {path}\n\n```text\n{}\n```\n",
        help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim()
    );
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        section(verb, &format!("{path} {}", verb.get_name()), text);
    }
}

#[test]
fn the_command_line_is_documented_as_it_is() {
    let mut text = HEAD.to_owned();
    // Built, so that global options are in every verb's help.
    let mut command = volctl::cli::command();
    command.build();
    section(&command, "volctl", &mut text);
    let text = text.trim_end().to_owned() + "\n";
    if std::env::var_os("VOLCTL_BLESS").is_some() {
        std::fs::write(root().join(PATH), &text).expect("the document can be written");
    }
    let have = read(PATH);
    let differs = text.lines().zip(have.lines()).find(|(new, old)| new != old);
    assert!(
        have == text,
        "{PATH} is not what the program says (first difference: {differs:?}); bless it: VOLCTL_BLESS=1 cargo test -p volctl-tests cli"
    );
}
