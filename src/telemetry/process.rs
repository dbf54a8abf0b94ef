//! What the system says of this process, from `/proc/self`. Where there is none, nothing changes.

use std::fs;

use prometheus::{Counter, Gauge, IntGauge};

use super::declare::metrics;

metrics! {
    /// This process, under the customary names.
    pub struct Process {
        /// When this process started.
        start: Gauge = "process_start_time_seconds" [];
        /// Processor time that this process took, its own and the system's for it.
        cpu: Counter = "process_cpu_seconds_total" [];
        /// Memory of this process that is in RAM.
        resident: IntGauge = "process_resident_memory_bytes" [];
        /// Memory that this process has addressed.
        virtual_memory: IntGauge = "process_virtual_memory_bytes" [];
        /// Files and connections that this process has open.
        open_fds: IntGauge = "process_open_fds" [];
        /// How many it may have open.
        max_fds: IntGauge = "process_max_fds" [];
        /// Threads of this process.
        threads: IntGauge = "process_threads" [];
    }
}

impl Process {
    /// Looks at `/proc/self`.
    pub(super) fn look(&self) {
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::read) {
            let cpu = stat.ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
            // A counter takes no value, only what it grew by.
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            self.threads.set(stat.threads);
            self.virtual_memory.set(stat.virtual_bytes);
            self.resident.set(stat.resident_pages.saturating_mul(rustix::param::page_size() as i64));
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(open.count() as i64);
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        if let Some(max) = line.and_then(|line| line.split_whitespace().next()?.parse().ok()) {
            self.max_fds.set(max);
        }
    }
}

/// What is of use in `/proc/self/stat`: `pid (name) state …`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    ticks: u64,
    threads: i64,
    virtual_bytes: i64,
    resident_pages: i64,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        // The name may hold anything, a parenthesis too; the first field after it is the third.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
        Some(Self {
            ticks: u64::try_from(field(14)? + field(15)?).ok()?,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read_whatever_the_program_is_called() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 9 0 8000 123456 77 184467 1 1 0";
        let expected = Stat { ticks: 42, threads: 9, virtual_bytes: 123_456, resident_pages: 77 };
        assert_eq!(Stat::read(line), Some(expected));
        assert_eq!(Stat::read("7 (a"), None);
    }
}
