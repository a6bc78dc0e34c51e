//! What goes wrong most in a run. In mixed weather each kind of fault is rare beside the others; in weather of one kind a few
//! of them come often, so that those meet each other that break a rule only together.

use std::time::Duration;

use clap::ValueEnum;
use ondisk::ReadersPolicy;

use crate::faults::Kind;
use crate::plan::Plan;
use crate::rng::Rng;

/// What goes wrong most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weather {
    /// Everything, as the seed says.
    Mixed,
    /// Writes of the control volume fail, land late or come to nothing, and daemons are killed and come back at once.
    Writes,
    /// Blocks of the control volume go bad, and reads fail.
    Rot,
    /// Second daemons of one name, on other hosts.
    Strangers,
    /// Writes to the volumes are held back for as long as they may be, and writers die.
    Late,
    /// Daemons and machines stand still.
    Stillness,
    /// Everybody reads from snapshots that are published and retired all the time.
    Snapshots,
    /// Writer and readers keep each other out.
    Exclusive,
    /// People change their minds all the time.
    People,
}

impl Weather {
    /// That of a seed: every second one is mixed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0077_6561_7468_6572);
        let kinds = Self::value_variants();
        if rng.one_in(2) { Self::Mixed } else { *rng.pick(&kinds[1..]) }
    }

    /// Makes it so.
    pub(crate) fn over(self, plan: &mut Plan) {
        let mut rng = Rng::new(plan.seed ^ 0x0063_6c6f_7564_7321);
        let kill_often = |plan: &mut Plan, rng: &mut Rng| plan.every = rng.ms(100, 1000);
        match self {
            Self::Mixed => {}
            Self::Writes => {
                plan.faults = vec![Kind::KillDaemon, Kind::KillDaemon, Kind::Path, Kind::Leave];
                plan.odds.write_error = 8 + rng.below(40);
                plan.odds.slow = 20 + rng.below(100);
                plan.clerks = rng.ms(20, 300);
                kill_often(plan, &mut rng);
            }
            Self::Rot => {
                plan.faults = vec![Kind::Rot, Kind::Rot, Kind::Rot, Kind::KillDaemon, Kind::StopDaemon];
                plan.odds.read_error = 40 + rng.below(200);
                plan.clerks = rng.ms(20, 300);
                plan.every = rng.ms(50, 400);
            }
            Self::Strangers => {
                plan.faults = vec![Kind::Twins, Kind::Twins, Kind::Stranger, Kind::KillDaemon, Kind::Path];
                plan.strangers = Some(2);
                plan.odds.slow = 4 + rng.below(30);
                plan.odds.write_error = 40 + rng.below(200);
                kill_often(plan, &mut rng);
            }
            Self::Late => {
                plan.faults =
                    vec![Kind::VolumePath, Kind::VolumePath, Kind::VolumePath, Kind::KillDaemon, Kind::StopDaemon];
                plan.inflight = rng.ms(4000, 12_000);
                plan.trouble = rng.ms(30_000, 60_000);
                plan.busy = rng.ms(100, 600);
                plan.every = rng.ms(300, 2500);
            }
            Self::Stillness => {
                plan.faults = vec![Kind::StopDaemon, Kind::StopDaemon, Kind::Suspend, Kind::Pause, Kind::StopGuardian];
                plan.stalls = 500 + rng.below(2000);
                plan.clerks = rng.ms(20, 300);
                plan.every = rng.ms(100, 1500);
            }
            Self::Snapshots => {
                plan.volumes = vec![ReadersPolicy::Snapshot];
                plan.faults = vec![Kind::KillDaemon, Kind::StopDaemon, Kind::PowerCut, Kind::Path, Kind::Leave];
                plan.publish = rng.ms(20, 200);
                plan.busy = rng.ms(100, 800);
                plan.every = rng.ms(500, 3000);
            }
            Self::Exclusive => {
                plan.volumes = vec![ReadersPolicy::Exclusive];
                plan.faults = vec![Kind::KillDaemon, Kind::StopDaemon, Kind::VolumePath, Kind::Leave];
                plan.busy = rng.ms(50, 400);
                plan.every = rng.ms(500, 3000);
            }
            Self::People => {
                plan.volumes.truncate(1);
                plan.faults = vec![Kind::Leave, Kind::Leave, Kind::KillDaemon];
                plan.busy = rng.ms(30, 200);
                plan.every = rng.ms(200, 4000);
                plan.odds.slow = 20 + rng.below(200);
                plan.clerks = if rng.one_in(2) { Duration::ZERO } else { rng.ms(20, 200) };
            }
        }
    }
}
