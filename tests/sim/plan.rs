//! What a run is, drawn from its seed: who is there, what the volumes are, and what may go wrong.

use std::time::Duration;

use clap::ValueEnum;
use ondisk::{LockKind, ReadersPolicy, Timings};
use volctl::control::rules::Rules;
use volctl::engine::Switches;

use crate::rng::Rng;
use crate::weather::Weather;

/// Names of clients.
const NAMES: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];

/// The name of a client.
pub(crate) fn name(client: usize) -> &'static str {
    NAMES[client]
}

/// How the control volume is locked, of what is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lock {
    /// By reads and writes alone.
    Bakery,
    /// With COMPARE AND WRITE.
    Caw,
    /// With persistent reservations.
    Pr,
}

impl Lock {
    /// As the superblock names it.
    pub(crate) fn kind(self) -> LockKind {
        match self {
            Self::Bakery => LockKind::Bakery,
            Self::Caw => LockKind::Caw,
            Self::Pr => LockKind::Pr,
        }
    }
}

/// How often things go wrong. Each number is "once in so many"; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    /// A read of the control volume gives an error to its reader.
    pub(crate) read_error: usize,
    /// A write gives an error: it never landed, it landed, or it lands later.
    pub(crate) write_error: usize,
    /// An I/O takes long.
    pub(crate) slow: usize,
    /// A read sees its parts at different times, a write lands in parts.
    pub(crate) split: usize,
    /// A write of the tables lands somewhere else.
    pub(crate) misdirected: usize,
    /// A job on a volume fails.
    pub(crate) jobs: usize,
}

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its seed.
    pub(crate) seed: u64,
    /// How many clients.
    pub(crate) clients: usize,
    /// What the volumes promise to their readers.
    pub(crate) volumes: Vec<ReadersPolicy>,
    /// How the control volume is locked.
    pub(crate) lock: LockKind,
    /// The control volume's.
    pub(crate) timings: Timings,
    /// For how long a host may hold back writes to a volume.
    pub(crate) inflight: Duration,
    /// For how long things go wrong.
    pub(crate) trouble: Duration,
    /// About how long between two things that go wrong.
    pub(crate) every: Duration,
    /// About how long between two doings of a person.
    pub(crate) busy: Duration,
    /// At least so long between two publishes of a volume.
    pub(crate) publish: Duration,
    /// About how long between two changes of the tables that each client makes besides; zero: none.
    pub(crate) clerks: Duration,
    /// A thread's turn comes late once in so many turns.
    pub(crate) stalls: usize,
    /// I/O faults.
    pub(crate) odds: Odds,
    /// Hosts that bear the name of a client too; else the run says itself.
    pub(crate) strangers: Option<usize>,
    /// Which faults of hosts and of the medium may happen.
    pub(crate) faults: Vec<crate::faults::Kind>,
    /// A client whose computer is away and whose slot cannot be read, from the start; the first client comes long before the
    /// others then.
    pub(crate) absent: Option<usize>,
    /// Clocks are wrong by up to so many millionths.
    pub(crate) drift: i64,
    /// The rules of the product; all on, but in the check of the checker.
    pub(crate) rules: Rules,
    /// Those of the engine.
    pub(crate) switches: Switches,
}

impl Plan {
    /// The run of a seed: with so many clients and in such weather, or as the seed itself says.
    pub(crate) fn of(seed: u64, clients: Option<usize>, weather: Option<Weather>) -> Self {
        let mut plan = Self::in_mixed_weather(seed, clients);
        weather.unwrap_or_else(|| Weather::of(seed)).over(&mut plan);
        plan
    }

    fn in_mixed_weather(seed: u64, clients: Option<usize>) -> Self {
        let mut rng = Rng::new(seed ^ 0x766f_6c63_746c_5349);
        let clients = clients.unwrap_or_else(|| 2 + rng.below(7));
        let policies = [ReadersPolicy::Snapshot, ReadersPolicy::Exclusive, ReadersPolicy::Live];
        let volumes = (0..1 + rng.below(2)).map(|_| *rng.pick(&policies)).collect();
        let timings = Timings { beat_ms: 250, lease_ms: 2000, dead_ms: 4000, poll_ms: 250 };
        let inflight = if rng.one_in(3) { Duration::ZERO } else { rng.ms(200, 8000) };
        let heavy = rng.one_in(3);
        let rarely = |rng: &mut Rng, least: u64, most: u64| {
            let n = rng.between(least, most);
            usize::try_from(if heavy { n / 5 } else { n }).expect("a small number")
        };
        let odds = Odds {
            read_error: rarely(&mut rng, 500, 5000),
            write_error: rarely(&mut rng, 60, 800),
            slow: rarely(&mut rng, 100, 2000),
            split: rarely(&mut rng, 5, 40),
            misdirected: rarely(&mut rng, 300, 3000),
            jobs: rarely(&mut rng, 30, 200),
        };
        Self {
            seed,
            clients,
            volumes,
            // Not drawn: the runs of the other seeds stay what they were.
            lock: if seed % 8 == 3 { LockKind::Caw } else { LockKind::Bakery },
            timings,
            inflight,
            trouble: rng.ms(8_000, 25_000),
            every: rng.ms(200, 4_000),
            busy: rng.ms(300, 4_000),
            publish: if rng.one_in(2) { rng.ms(50, 400) } else { rng.ms(400, 2000) },
            clerks: match rng.below(3) {
                0 => Duration::ZERO,
                1 => rng.ms(20, 400),
                _ => rng.ms(400, 3000),
            },
            stalls: rarely(&mut rng, 2_000, 20_000),
            odds,
            strangers: None,
            faults: crate::faults::Kind::ALL.to_vec(),
            absent: None,
            drift: 20_000,
            rules: Rules::default(),
            switches: Switches::ALL,
        }
    }

    /// dead - lease.
    pub(crate) fn margin(&self) -> Duration {
        self.timings.margin()
    }
}
