//! What happens to whoever works, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LOCK_TIMEOUT;

/// How many seconds are "within seconds", on a machine that does much else.
const SECONDS: Duration = Duration::from_secs(30);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL.
    Killed,
    /// SIGSTOP, and SIGCONT once another works, and so much later than it may delete.
    Frozen {
        /// How much.
        longer: Duration,
    },
    /// Postgres ends all its sessions.
    Terminated,
    /// Its connections to Postgres are cut.
    CutOff,
    /// Nothing that it and Postgres send each other arrives, and no connection ends, until another works.
    Unheard,
    /// Postgres is restarted, for all of them.
    Restarted,
}

/// When it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after somebody was seen with the locks.
    Leading {
        /// How long.
        after: Duration,
    },
    /// So long after a batch was seen to be open.
    Sweeping {
        /// How long.
        after: Duration,
    },
}

impl Blow {
    /// What it is called in the table.
    fn kind(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Frozen { .. } => "frozen",
            Self::Terminated => "sessions ended",
            Self::CutOff => "cut off",
            Self::Unheard => "unheard",
            Self::Restarted => "Postgres restarted",
        }
    }

    /// The longest that it may take until somebody works: seconds where the server sees that a session has ended, and the lock's timeout more
    /// where it must find out.
    pub fn bound(self) -> Duration {
        match self {
            Self::Killed | Self::Terminated | Self::CutOff | Self::Restarted => SECONDS,
            Self::Frozen { .. } | Self::Unheard => LOCK_TIMEOUT + SECONDS,
        }
    }
}

impl Moment {
    /// How long is waited.
    pub fn delay(self) -> Duration {
        let (Self::Leading { after } | Self::Sweeping { after }) = self;
        after
    }
}

/// What happens in so many rounds: each blow as often as any other, in an order that the seed decides.
pub fn all(rounds: usize, seed: u64) -> Vec<(Blow, Moment)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = Vec::new();
    while all.len() < rounds {
        let longer = Duration::from_millis(random.u64(100..2000));
        let mut deck =
            [Blow::Killed, Blow::Frozen { longer }, Blow::Terminated, Blow::CutOff, Blow::Unheard, Blow::Restarted];
        random.shuffle(&mut deck);
        all.extend(deck.map(|blow| (blow, moment(&mut random))));
    }
    all.truncate(rounds);
    all
}

fn moment(random: &mut fastrand::Rng) -> Moment {
    match random.u8(0..3) {
        0 => Moment::Leading { after: Duration::from_millis(random.u64(0..400)) },
        _ => Moment::Sweeping { after: Duration::from_millis(random.u64(0..30)) },
    }
}

/// How long it took until somebody worked, by what happened: a table.
pub fn summary(takeovers: &[(Blow, Duration)]) -> String {
    let mut kinds: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for (blow, took) in takeovers {
        kinds.entry(blow.kind()).or_default().push(*took);
    }
    let mut table = format!("{:<18}  {:>5}  {:>6}  {:>6}", "blow", "times", "median", "most");
    for (kind, mut took) in kinds {
        took.sort();
        let (median, most) = (took[(took.len() - 1) / 2].as_secs_f64(), took[took.len() - 1].as_secs_f64());
        table.push_str(&format!("\n{kind:<18}  {:>5}  {median:>4.1} s  {most:>4.1} s", took.len()));
    }
    table
}
