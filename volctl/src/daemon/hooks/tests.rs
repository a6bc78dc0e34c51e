//! Tests of hooks with real programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Fixture {
    dir: tempfile::TempDir,
    problems: Receiver<(HookEvent, String)>,
    on_problem: OnProblem,
}

impl Fixture {
    fn new() -> Self {
        let (sender, problems) = bounded(100);
        let on_problem: OnProblem = Arc::new(move |event, why| sender.send((event, why)).expect("room"));
        let dir = tempfile::tempdir().expect("a directory");
        // Other users run what lies here.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        Self { dir, problems, on_problem }
    }

    fn script(&self, name: &str, body: &str) -> Option<Vec<String>> {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        Some(vec!["/bin/sh".to_owned(), path.to_str().expect("UTF-8").to_owned(), self.out().display().to_string()])
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn hooks(&self, config: &HooksConfig) -> Hooks {
        let short = Duration::from_millis(300);
        let long =
            if config.on_granted.as_ref().is_some_and(|argv| argv[1].ends_with("slow")) { short } else { PATIENCE };
        let ask =
            if config.on_request.as_ref().is_some_and(|argv| argv[1].ends_with("slow")) { short } else { PATIENCE };
        Hooks::with_times(config, "alice", Arc::clone(&self.on_problem), ask, long).expect("hooks")
    }

    fn answer(&self, body: &str, name: &str) -> HookAnswer {
        let hooks = self.hooks(&HooksConfig { on_request: self.script(name, body), ..HooksConfig::default() });
        let (sender, answers) = bounded(1);
        hooks.ask(facts(), move |answer| sender.send(answer).expect("room"));
        answers.recv_timeout(PATIENCE).expect("an answer")
    }
}

fn facts() -> HookFacts {
    HookFacts {
        volume: "footage".into(),
        from: Some("bob".into()),
        message: Some("fix the $(titles)\n\"now\"\0".into()),
        mountpoint: Some("/mnt/volctl/footage".into()),
        ..HookFacts::default()
    }
}

#[test]
fn exit_codes_decide_and_anything_else_asks_the_person() {
    let fixture = Fixture::new();
    for (code, answer) in [(0, Answer3::Yes), (1, Answer3::No), (2, Answer3::Later)] {
        assert_eq!(fixture.answer(&format!("exit {code}"), "decide"), HookAnswer::Answer(answer));
    }
    assert!(fixture.problems.is_empty());
    for (body, why) in [("exit 3", "ended with 3"), ("kill -9 $$", "signal 9")] {
        assert!(matches!(fixture.answer(body, "strange"), HookAnswer::AskPerson(text) if text.contains(why)));
        assert!(fixture.problems.recv_timeout(PATIENCE).expect("told").1.contains(why));
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_children_and_the_person_asked() {
    let fixture = Fixture::new();
    let body = "sleep 300 & echo $! > $1\nwait";
    assert!(matches!(fixture.answer(body, "slow"), HookAnswer::AskPerson(text) if text.contains("killed")));
    let child = fs::read_to_string(fixture.out()).expect("it ran");
    let stat = format!("/proc/{}/stat", child.trim());
    let deadline = Instant::now() + PATIENCE;
    // Gone, or a zombie that nobody has buried yet.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < deadline, "its child lives");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_that_is_not_there_asks_the_person() {
    let fixture = Fixture::new();
    let config =
        HooksConfig { on_request: Some(vec!["/no/such/program".into(), String::new()]), ..HooksConfig::default() };
    let (sender, answers) = bounded(1);
    fixture.hooks(&config).ask(facts(), move |answer| sender.send(answer).expect("room"));
    let answer = answers.recv_timeout(PATIENCE).expect("an answer");
    assert!(matches!(answer, HookAnswer::AskPerson(why) if why.contains("could not be run")));
    let (sender, answers) = bounded(1);
    fixture.hooks(&HooksConfig::default()).ask(facts(), move |answer| sender.send(answer).expect("room"));
    assert!(matches!(answers.recv_timeout(PATIENCE), Ok(HookAnswer::AskPerson(_))));
}

#[test]
fn the_facts_are_in_the_environment_and_nothing_of_them_is_run() {
    let fixture = Fixture::new();
    let config = HooksConfig { on_granted: fixture.script("facts", "env | sort > $1"), ..HooksConfig::default() };
    let hooks = fixture.hooks(&config);
    assert!(hooks.has(HookEvent::Granted) && !hooks.has(HookEvent::Fenced));
    hooks.run(HookEvent::Granted, facts());
    hooks.run(HookEvent::Fenced, facts());
    hooks.finish(PATIENCE);
    let seen = fs::read_to_string(fixture.out()).expect("it ran");
    for line in [
        "VOLCTL_CLIENT=alice\n",
        "VOLCTL_EVENT=granted\n",
        "VOLCTL_FROM=bob\n",
        "VOLCTL_MESSAGE=fix the $(titles)\n",
        "\"now\"\u{fffd}\n",
        "VOLCTL_MOUNTPOINT=/mnt/volctl/footage\n",
        "VOLCTL_VOLUME=footage\n",
    ] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    assert!(!seen.contains("VOLCTL_GENERATION") && !seen.contains("CARGO"), "{seen}");
    assert!(fixture.problems.is_empty());
}

#[test]
fn hooks_run_in_the_order_of_their_events_and_a_failure_is_told() {
    let fixture = Fixture::new();
    let config = HooksConfig {
        on_granted: fixture.script("first", "sleep 0.3; echo granted $VOLCTL_VOLUME >> $1"),
        on_released: fixture.script("second", "echo released $VOLCTL_VOLUME >> $1; exit 9"),
        ..HooksConfig::default()
    };
    let hooks = fixture.hooks(&config);
    let before = Instant::now();
    for _ in 0..2 {
        hooks.run(HookEvent::Granted, facts());
        hooks.run(HookEvent::Released, facts());
    }
    assert!(before.elapsed() < Duration::from_millis(300), "it does not wait");
    hooks.finish(PATIENCE);
    let seen = fs::read_to_string(fixture.out()).expect("they ran");
    assert_eq!(seen, "granted footage\nreleased footage\n".repeat(2));
    assert!(
        fixture.problems.try_recv().is_ok_and(|(event, why)| event == HookEvent::Released && why.contains("with 9"))
    );
}

#[test]
fn a_slow_hook_is_killed_and_the_next_one_runs() {
    let fixture = Fixture::new();
    let config = HooksConfig {
        on_granted: fixture.script("slow", "exec sleep 300"),
        on_released: fixture.script("next", "echo ran > $1"),
        ..HooksConfig::default()
    };
    let hooks = fixture.hooks(&config);
    hooks.run(HookEvent::Granted, facts());
    hooks.run(HookEvent::Released, facts());
    hooks.finish(PATIENCE);
    assert_eq!(fs::read_to_string(fixture.out()).expect("the next one ran"), "ran\n");
    assert!(fixture.problems.recv_timeout(PATIENCE).expect("told").1.contains("killed"));
}

#[test]
fn hooks_run_as_the_configured_user_without_the_daemons_groups() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let fixture = Fixture::new();
    let body = "echo $(id -un) $(id -G | wc -w) $USER $HOME > $1";
    let config =
        HooksConfig { user: Some("nobody".into()), on_fenced: fixture.script("who", body), ..HooksConfig::default() };
    let hooks = fixture.hooks(&config);
    hooks.run(HookEvent::Fenced, facts());
    let deadline = Instant::now() + PATIENCE;
    let mut seen = String::new();
    while !seen.ends_with('\n') {
        assert!(Instant::now() < deadline, "{:?}", fixture.problems.try_recv());
        thread::sleep(Duration::from_millis(5));
        seen = fs::read_to_string(fixture.out()).unwrap_or_default();
    }
    assert!(seen.starts_with("nobody 1 nobody /"), "{seen}");
}

#[test]
fn an_unknown_user_is_a_usage_error() {
    let fixture = Fixture::new();
    let config = HooksConfig { user: Some("no-such-user-here".into()), ..HooksConfig::default() };
    let failure = Hooks::new(&config, "alice", Arc::clone(&fixture.on_problem)).err().expect("refused");
    assert_eq!(failure.exit, crate::wire::outcome::ExitCode::Usage);
}

#[test]
fn too_many_questions_at_once_go_to_the_person() {
    let fixture = Fixture::new();
    let config = HooksConfig { on_request: fixture.script("slow", "exec sleep 300"), ..HooksConfig::default() };
    let hooks = fixture.hooks(&config);
    let (sender, answers) = bounded(100);
    for _ in 0..AT_ONCE_MAX + 3 {
        let sender = sender.clone();
        hooks.ask(facts(), move |answer| sender.send(answer).expect("room"));
    }
    let all: Vec<_> = (0..AT_ONCE_MAX + 3).map(|_| answers.recv_timeout(PATIENCE).expect("each is answered")).collect();
    let refused =
        all.iter().filter(|answer| matches!(answer, HookAnswer::AskPerson(why) if why.contains("run already")));
    assert_eq!(refused.count(), 3);
}
