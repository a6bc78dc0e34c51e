//! Hooks: the user's programs, run with the facts in the environment, as the configured user, within a time limit,
//! and never in a thread that anything else waits for (section 11).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::config::HooksConfig;
use crate::wire::call::Answer3;
use crate::wire::outcome::{Failure, safe_lines};

mod run;

use run::{Ended, Identity};

/// How long `on-request` may take before the person is asked instead.
pub const ASK_TIME: Duration = Duration::from_secs(5);
/// How long every other hook may take before it is killed.
pub const RUN_TIME: Duration = Duration::from_secs(30);
/// How many hooks may wait for their turn.
const QUEUE_MAX: usize = 64;
/// How many may run at once beside the one whose turn it is.
const AT_ONCE_MAX: usize = 8;

/// What a hook is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookEvent {
    /// Another client asks for write access.
    Request,
    /// This client has it, and the read-write mount is there.
    Granted,
    /// This client gave it back.
    Released,
    /// This client switched to a newer generation.
    Refreshed,
    /// Gates were closed under this client's file systems.
    Fenced,
}

impl HookEvent {
    /// The value of `VOLCTL_EVENT`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Granted => "granted",
            Self::Released => "released",
            Self::Refreshed => "refreshed",
            Self::Fenced => "fenced",
        }
    }

    /// The key in the configuration.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Request => "on-request",
            Self::Granted => "on-granted",
            Self::Released => "on-released",
            Self::Refreshed => "on-refreshed",
            Self::Fenced => "on-fenced",
        }
    }
}

/// The facts of one event; each becomes a variable, absent ones are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookFacts {
    /// `VOLCTL_VOLUME`.
    pub volume: String,
    /// `VOLCTL_FROM`: the client that asks.
    pub from: Option<String>,
    /// `VOLCTL_MESSAGE`: what it says, or why it happened.
    pub message: Option<String>,
    /// `VOLCTL_GENERATION`, as `epoch.count`.
    pub generation: Option<String>,
    /// `VOLCTL_MOUNTPOINT`.
    pub mountpoint: Option<String>,
    /// `VOLCTL_REQUEST`: the request's id.
    pub request: Option<String>,
    /// `VOLCTL_WRITER`: who has the write access now.
    pub writer: Option<String>,
}

/// What `on-request` decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    /// Answer so.
    Answer(Answer3),
    /// Ask the person; why the hook did not decide.
    AskPerson(String),
}

/// Told of every hook that failed: the event, and a sentence for people.
pub type OnProblem = Arc<dyn Fn(HookEvent, String) + Send + Sync>;

struct Job {
    event: HookEvent,
    argv: Vec<String>,
    facts: HookFacts,
}

struct Runner {
    client: String,
    identity: Option<Identity>,
    ask_time: Duration,
    run_time: Duration,
    at_once: AtomicUsize,
    on_problem: OnProblem,
}

/// The hooks of one daemon.
pub struct Hooks {
    config: HooksConfig,
    runner: Arc<Runner>,
    queue: Sender<Job>,
    ended: Receiver<()>,
}

impl Hooks {
    /// Looks up the configured user and starts the thread that runs hooks in their order.
    ///
    /// # Errors
    /// A [`Failure`] (exit 2) for an unknown user, or one that this process may not become.
    pub fn new(config: &HooksConfig, client: &str, on_problem: OnProblem) -> Result<Self, Failure> {
        Self::with_times(config, client, on_problem, ASK_TIME, RUN_TIME)
    }

    fn with_times(
        config: &HooksConfig,
        client: &str,
        on_problem: OnProblem,
        ask_time: Duration,
        run_time: Duration,
    ) -> Result<Self, Failure> {
        let identity = config.user.as_deref().map(Identity::look_up).transpose()?.flatten();
        let runner = Arc::new(Runner {
            client: client.to_owned(),
            identity,
            ask_time,
            run_time,
            at_once: AtomicUsize::new(0),
            on_problem,
        });
        let (queue, jobs) = bounded::<Job>(QUEUE_MAX);
        let (ending, ended) = bounded::<()>(0);
        let worker = Arc::clone(&runner);
        let body = move || {
            let _ending = ending;
            jobs.iter().for_each(|job| worker.run(&job));
        };
        thread::Builder::new().name("hooks".into()).spawn(body).map_err(|error| {
            Failure::failed("hooks cannot be run", error.to_string(), "look at the limits of the service")
        })?;
        Ok(Self { config: config.clone(), runner, queue, ended })
    }

    fn argv(&self, event: HookEvent) -> Option<Vec<String>> {
        match event {
            HookEvent::Request => self.config.on_request.clone(),
            HookEvent::Granted => self.config.on_granted.clone(),
            HookEvent::Released => self.config.on_released.clone(),
            HookEvent::Refreshed => self.config.on_refreshed.clone(),
            HookEvent::Fenced => self.config.on_fenced.clone(),
        }
    }

    /// Whether there is a hook for it.
    #[must_use]
    pub fn has(&self, event: HookEvent) -> bool {
        self.argv(event).is_some()
    }

    /// Runs the hook of an event, if there is one: one after the other in their order, but `on-fenced` at once.
    /// Never waits.
    pub fn run(&self, event: HookEvent, facts: HookFacts) {
        let Some(argv) = self.argv(event) else { return };
        let job = Job { event, argv, facts };
        if event == HookEvent::Fenced {
            self.at_once(job, |runner, job| runner.run(&job), |problem| (self.runner.on_problem)(event, problem));
        } else if self.queue.try_send(job).is_err() {
            (self.runner.on_problem)(event, format!("{}: not run, too many hooks wait for their turn", event.key()));
        }
    }

    /// Asks `on-request` and hands its answer to `then`, from another thread; with no hook, at once from this one.
    /// Never waits.
    pub fn ask(&self, facts: HookFacts, then: impl FnOnce(HookAnswer) + Send + 'static) {
        let Some(argv) = self.config.on_request.clone() else {
            return then(HookAnswer::AskPerson("there is no on-request hook".to_owned()));
        };
        let job = Job { event: HookEvent::Request, argv, facts };
        // Shared, because only one of the two closures will run.
        let then = Arc::new(std::sync::Mutex::new(Some(then)));
        let answer = move |answer: HookAnswer| {
            let then = then.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(then) = then {
                then(answer);
            }
        };
        let refused = answer.clone();
        self.at_once(job, move |runner, job| answer(runner.decide(&job)), |why| refused(HookAnswer::AskPerson(why)));
    }

    fn at_once(&self, job: Job, body: impl FnOnce(&Runner, Job) + Send + 'static, refused: impl FnOnce(String)) {
        let key = job.event.key();
        let running = InFlight(Arc::clone(&self.runner));
        if self.runner.at_once.fetch_add(1, Ordering::SeqCst) >= AT_ONCE_MAX {
            return refused(format!("{key}: not run, {AT_ONCE_MAX} hooks run already"));
        }
        let spawned = thread::Builder::new().name("hook".into()).spawn(move || {
            let running = running;
            body(&running.0, job);
        });
        if let Err(error) = spawned {
            refused(format!("{key}: not run: {error}"));
        }
    }

    /// Runs what waits for its turn, but waits at most `limit` for it: for an orderly end.
    pub fn finish(self, limit: Duration) {
        drop(self.queue);
        // It ends by being disconnected.
        let _ = self.ended.recv_timeout(limit);
    }
}

/// Counts one hook beside the queue, from before it is counted up to its end.
struct InFlight(Arc<Runner>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Runner {
    fn variables(&self, job: &Job) -> Vec<(&'static str, String)> {
        let facts = &job.facts;
        let optional = [
            ("VOLCTL_FROM", &facts.from),
            ("VOLCTL_MESSAGE", &facts.message),
            ("VOLCTL_GENERATION", &facts.generation),
            ("VOLCTL_MOUNTPOINT", &facts.mountpoint),
            ("VOLCTL_REQUEST", &facts.request),
            ("VOLCTL_WRITER", &facts.writer),
        ];
        let mut variables = vec![
            ("VOLCTL_EVENT", job.event.word().to_owned()),
            ("VOLCTL_CLIENT", self.client.clone()),
            ("VOLCTL_VOLUME", facts.volume.clone()),
        ];
        variables.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        for (_, value) in &mut variables {
            // A message comes from another host: no variable can hold a NUL, and a hook may print it on a terminal.
            *value = safe_lines(value);
        }
        variables
    }

    fn start(&self, job: &Job, limit: Duration) -> Ended {
        run::run(&job.argv, &self.variables(job), self.identity.as_ref(), limit)
    }

    fn run(&self, job: &Job) {
        let why = match self.start(job, self.run_time) {
            Ended::Exited(0) => return,
            ended => describe(job, &ended),
        };
        (self.on_problem)(job.event, why);
    }

    fn decide(&self, job: &Job) -> HookAnswer {
        let ended = self.start(job, self.ask_time);
        match ended {
            Ended::Exited(0) => HookAnswer::Answer(Answer3::Yes),
            Ended::Exited(1) => HookAnswer::Answer(Answer3::No),
            Ended::Exited(2) => HookAnswer::Answer(Answer3::Later),
            ended => {
                let why = describe(job, &ended);
                (self.on_problem)(job.event, why.clone());
                HookAnswer::AskPerson(why)
            }
        }
    }
}

fn describe(job: &Job, ended: &Ended) -> String {
    let program = Path::new(job.argv.first().map_or("", String::as_str)).display();
    let key = job.event.key();
    match ended {
        Ended::Exited(code) => format!("{key}: {program} ended with {code}"),
        Ended::Signalled(signal) => format!("{key}: {program} was ended by signal {signal}"),
        Ended::Killed(limit) => {
            format!("{key}: {program} took longer than {} and was killed", crate::units::format_duration(*limit))
        }
        Ended::NotStarted(why) => format!("{key}: {program} could not be run: {why}"),
    }
}

#[cfg(test)]
mod tests;
