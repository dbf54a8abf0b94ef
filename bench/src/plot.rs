//! All rows' numbers beside their targets, as one picture.

use std::fmt::Write as _;

use crate::report::{Check, Row, Target};

/// Where the bars begin, and how wide a power of ten is; in pixels.
const LEFT: f64 = 470.0;
const DECADE: f64 = 110.0;
const LINE: f64 = 22.0;
/// The powers of ten that are shown, around the target.
const DECADES: std::ops::RangeInclusive<i32> = -2..=2;

/// An SVG: a bar for each number of which something is asked, as a share of its target on a logarithmic scale. Left of the line is
/// well, right of it is missed.
pub fn svg(title: &str, rows: &[Row]) -> String {
    let checks: Vec<(&str, &Check, f64)> =
        rows.iter().flat_map(|row| row.checks.iter().filter_map(|it| Some((&row.name[..], it, share(it)?)))).collect();
    let (width, height) = (at(f64::from(*DECADES.end())) + 90.0, LINE * (checks.len() as f64 + 3.0));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, 10.0, LINE, title);
    for decade in DECADES {
        let (x, is_target) = (at(f64::from(decade)), decade == 0);
        let stroke = if is_target { "black" } else { "#ddd" };
        let (top, bottom) = (LINE * 1.6, height - LINE);
        let _ = writeln!(svg, "<line x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"{stroke}\"/>");
        let label = if is_target { "target".to_owned() } else { format!("× {}", 10f64.powi(decade)) };
        text(&mut svg, x - 16.0, LINE * 1.4, &label);
    }
    for (n, (row, check, share)) in checks.iter().enumerate() {
        let (y, end) = (LINE * (n as f64 + 2.0), at(share.log10()));
        let (x, wide) = (at(0.0).min(end), (end - at(0.0)).abs().max(1.0));
        let fill = if check.is_met() { "#4a8" } else { "#c54" };
        text(&mut svg, 10.0, y + 13.0, &format!("{row}: {}", check.what));
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{}\" fill=\"{fill}\"/>", LINE - 6.0);
        text(&mut svg, x.max(end) + 4.0, y + 13.0, &format!("{:.2}", check.is));
    }
    svg.push_str("</svg>\n");
    svg
}

/// How much of what it may be a number is: 1 is just the target, more is missed. `None` if nothing is asked of it.
fn share(check: &Check) -> Option<f64> {
    match check.target? {
        Target::AtMost(most) => Some(check.is / most),
        Target::AtLeast(least) => Some(least / check.is),
    }
}

/// Where a power of ten is, within what is shown.
fn at(power: f64) -> f64 {
    let (low, high) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    LEFT + (power.clamp(low, high) - low) * DECADE
}

fn text(svg: &mut String, x: f64, y: f64, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_on_the_side_of_the_line_that_its_number_is_on() {
        let check = |is, target| Check { what: "a < b".to_owned(), is, target };
        let row = |checks| Row { checks, ..Row::new("row", String::new(), Vec::new()) };
        let rows = [row(vec![
            check(1.0, Some(Target::AtMost(10.0))),
            check(1.0, Some(Target::AtLeast(10.0))),
            check(5.0, None),
        ])];
        let svg = svg("title", &rows);
        let bar = |n: usize| svg.lines().filter(|line| line.contains("fill=\"#")).nth(n).map(ToOwned::to_owned);
        let line = at(0.0);
        assert!(bar(0).is_some_and(|bar| bar.contains("#4a8") && bar.contains(&format!("x=\"{}\"", line - DECADE))));
        assert!(bar(1).is_some_and(|bar| bar.contains("#c54") && bar.contains(&format!("x=\"{line}\""))));
        assert_eq!(bar(2), None, "what is only told has no bar");
        assert!(svg.contains("a &lt; b"));
    }
}
