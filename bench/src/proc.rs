//! Processor time and memory, as `/proc` tells them.

use std::fs;

use anyhow::{Context, Result};

/// The fields of `/proc/{pid}/stat` after the name: 0 is the state, 1 the parent.
fn stat(pid: &str) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state is a letter, and some numbers may be negative: neither is asked for here.
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Processor seconds of a server: its own, those of its children, and of those that have ended.
pub fn server_cpu(pid: i32) -> f64 {
    let own = stat(&pid.to_string()).map_or(0, |fields| fields.iter().skip(11).take(4).sum());
    let children = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let fields = stat(entry.ok()?.file_name().to_str()?)?;
        (fields.get(1) == Some(&u64::try_from(pid).ok()?)).then(|| fields.iter().skip(11).take(2).sum::<u64>())
    });
    seconds(own + children.sum::<u64>())
}

/// Processor seconds of all processes that this one started and waited for.
pub fn children_cpu() -> f64 {
    seconds(stat("self").map_or(0, |fields| fields.iter().skip(13).take(2).sum()))
}

/// The most memory that this process ever had in RAM, in bytes.
///
/// # Errors
/// Where there is no `/proc`.
pub fn peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
