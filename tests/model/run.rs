//! Runs one model to its end and says what came of it.

use std::fmt::{Debug, Display};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use stateright::{Checker, Model, Path, Property};

/// A state that knows whether something happened in it that never may.
pub(crate) trait World: Clone + Debug + Hash + PartialEq + Send + Sync + 'static {
    /// A search that has met so many, repetitions included, ends there, and says that it did; where nobody says otherwise.
    const MOST: usize = 8_000_000;
    /// What, in a few words.
    fn harm(&self) -> Option<&'static str>;
}

/// Two states are the same if they hash alike, as the search itself has it: the machines in them have no equality.
#[macro_export]
macro_rules! same_by_hash {
    ($state:ty) => {
        impl PartialEq for $state {
            fn eq(&self, other: &Self) -> bool {
                $crate::run::hash(self) == $crate::run::hash(other)
            }
        }
    };
}

/// A state's hash.
pub(crate) fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) threads: usize,
    /// States, repetitions included, instead of [`World::MOST`].
    pub(crate) most: Option<usize>,
}

/// What a run found.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Different states.
    pub(crate) states: usize,
    /// Actions on the longest of the shortest ways to a state.
    pub(crate) depth: usize,
    /// It visited every state that there is.
    pub(crate) whole: bool,
    /// How long it took.
    pub(crate) time: Duration,
    /// None: there is no way to anything bad.
    pub(crate) harm: Option<Harm>,
}

/// Something bad, and the shortest way to it.
#[derive(Debug, Clone)]
pub(crate) struct Harm {
    /// What.
    pub(crate) what: &'static str,
    /// One line an event.
    pub(crate) trace: Vec<String>,
}

/// The one property of every model here: whatever happens, nothing bad did.
pub(crate) fn no_harm<M>() -> Vec<Property<M>>
where
    M: Model,
    M::State: World,
{
    vec![Property::always("no harm", |_, state: &M::State| state.harm().is_none())]
}

/// Visits every state that can be reached, as far as the limits let it.
pub(crate) fn explore<M>(model: M, limits: Limits) -> Outcome
where
    M: Model + Send + Sync + 'static,
    M::State: World,
    M::Action: Display + Clone + Debug + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let most = limits.most.unwrap_or(M::State::MOST);
    let checker = model.checker().threads(limits.threads).target_state_count(most).spawn_bfs().join();
    let harm = checker.discovery("no harm").map(of_path);
    let whole = harm.is_none() && checker.state_count() < most;
    Outcome { states: checker.unique_state_count(), depth: checker.max_depth(), whole, time: begun.elapsed(), harm }
}

fn of_path<S: World, A: Display>(path: Path<S, A>) -> Harm {
    let what = path.last_state().harm().unwrap_or("no harm");
    let trace = path.into_actions().iter().map(ToString::to_string).collect();
    Harm { what, trace }
}

/// As many threads as there are processors.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
