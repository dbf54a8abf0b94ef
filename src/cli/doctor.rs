//! `course-gc doctor`: what was found, for people and for programs.

use std::fmt::Write;

use super::{FAILED, Output, answer};
use crate::app;
use crate::config::Config;
use crate::doctor::examine;
use crate::domain::findings::{Checkup, Level};

pub(super) async fn doctor(output: Output, config: &Config) -> anyhow::Result<u8> {
    let checkup = examine(&app::patient(config)?).await;
    answer(output, &shown(&checkup), || serde_json::to_value(&checkup).unwrap_or_default())?;
    Ok(if checkup.verdict == Level::Problem { FAILED } else { 0 })
}

/// A line a finding, and one for what to do.
fn shown(Checkup { parts, .. }: &Checkup) -> String {
    let mut text = String::new();
    for part in parts {
        let _ = writeln!(text, "{}", part.part);
        for finding in &part.findings {
            let _ = writeln!(text, "  {:<7}  {}: {}", finding.level.as_str(), finding.check, finding.seen);
            if let Some(fix) = &finding.fix {
                let _ = writeln!(text, "           to do: {fix}");
            }
        }
    }
    let count = |level| parts.iter().flat_map(|part| &part.findings).filter(|finding| finding.level == level).count();
    let [ok, advice, problems] = [Level::Ok, Level::Advice, Level::Problem].map(count);
    let _ = write!(text, "\nproblems: {problems}, advice: {advice}, as it should be: {ok}");
    text
}
