//! What happens to whoever works, and when.

use std::time::Duration;

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
        let mut deck = [Blow::Killed, Blow::Frozen { longer }, Blow::Terminated, Blow::CutOff, Blow::Restarted];
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

/// How long it took until another worked, by what happened.
pub fn summary(takeovers: &[(Blow, Duration)]) -> String {
    let kinds = ["Killed", "Frozen", "Terminated", "CutOff", "Restarted"];
    let lines = kinds.map(|kind| {
        let mut took: Vec<f64> = takeovers
            .iter()
            .filter(|(blow, _)| format!("{blow:?}").starts_with(kind))
            .map(|(_, took)| took.as_secs_f64())
            .collect();
        took.sort_by(f64::total_cmp);
        let (median, most) = (took.get(took.len() / 2).unwrap_or(&0.0), took.last().unwrap_or(&0.0));
        format!("{kind}: {} times, taken over after {median:.1} s (median), {most:.1} s (most)", took.len())
    });
    lines.join("\n")
}
