//! Each row at its smallest, once: the sides must agree about what was there. No time is judged.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use bench::report::Row;

#[test]
fn all_sides_of_all_rows_see_and_remove_the_same() -> Result<()> {
    let out = tempfile::tempdir()?;
    let run = Command::new(env!("CARGO_BIN_EXE_bench")).args(["--size", "small", "--out"]).arg(out.path()).output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(out.path().join("small.json"))?)?;
    let printed = String::from_utf8(run.stdout)?;
    for row in &rows {
        ensure!(printed.contains(&format!("### {}: ", row.name)), "{} is not printed:\n{printed}", row.name);
        ensure!(row.lanes.iter().all(|lane| lane.median() > 0.0), "{row:?}");
        // What a side saw or removed is compared where it is measured; that there was anything is asked here.
        let ours = row.lanes.first().context("a row without sides")?;
        ensure!(ours.courses + ours.resources > 0 || row.name == "quiet run", "{ours:?}");
    }
    ensure!(rows.len() == printed.matches("### ").count(), "a row is missing in {rows:?}");
    ensure!(std::fs::read_to_string(out.path().join("small.svg"))?.contains("</svg>"));
    Ok(())
}
