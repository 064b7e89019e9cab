//! `perquery stat` for people: the answer first, then the table, a histogram, and what to know about the numbers.

use super::assertion::shown;
use super::outcome::{Comparison, Cost, LATENCY, Outcome, Statement, Verdict};
use super::statistics::Summary;
use crate::format::{clean, cut, plural, wrap};
use crate::warnings::Warning;
use std::io::{self, Write};

const HISTOGRAM_ROWS: usize = 8;
const BAR_WIDTH: usize = 40;
/// Lines of a statement.
const STATEMENT_LINES: usize = 4;
/// Characters of a statement where it stands within a line.
const STATEMENT_WIDTH: usize = 60;

/// Writes it, in lines of `width` characters.
pub fn write(outcome: &Outcome, width: usize, mut to: impl Write) -> io::Result<()> {
    let to = &mut to;
    let executions = outcome.statements.first().map_or(0, |s| s.executions);
    let session = match outcome.connection_id {
        0 => String::new(),
        id => format!(" · connection {id} only"),
    };
    writeln!(
        to,
        "{}, pid {}{session} · {} of each statement after {} to warm up",
        outcome.server.kind,
        outcome.server.pid,
        plural(executions as u64, "execution"),
        outcome.warm_up,
    )?;
    for (n, statement) in outcome.statements.iter().enumerate() {
        writeln!(to)?;
        let number = if outcome.statements.len() > 1 { format!("{}: ", n + 1) } else { String::new() };
        for line in
            wrap(&format!("{number}{}", clean(&statement.sql)), width.saturating_sub(2), STATEMENT_LINES)
        {
            writeln!(to, "  {line}")?;
        }
        answer(outcome, statement, width, to)?;
        table(outcome, statement, width, to)?;
        histogram(&outcome.headline, &statement.headline_values, to)?;
    }
    if !outcome.comparisons.is_empty() {
        writeln!(to)?;
        outcome.comparisons.iter().try_for_each(|one| compared(one, outcome, to))?;
    }
    assertions(outcome, to)?;
    notes(outcome, width, to)
}

/// The headline: one number with its uncertainty.
fn answer(outcome: &Outcome, statement: &Statement, width: usize, to: &mut impl Write) -> io::Result<()> {
    let Some(Cost::Counted(s)) = statement.cost(&outcome.headline) else { return Ok(()) };
    let name = &outcome.headline;
    let what = if name == "cycles" { "CPU cycles" } else { "CPU time" };
    let net = if outcome.net { ", net of an empty statement" } else { "" };
    let instead = match statement.cost("cycles") {
        Some(Cost::Unavailable(_)) if name != "cycles" => "; cycles are unavailable, see below",
        _ => "",
    };
    let rows = match statement.rows {
        [fewest, most] if fewest == most => plural(most, "row"),
        [fewest, most] => format!("{fewest} to {most} rows"),
    };
    let instructions = match statement.cost("instructions") {
        Some(Cost::Counted(s)) if name == "cycles" => {
            format!("{} instructions, ", shown("instructions", s.median))
        }
        _ => String::new(),
    };
    let quotient = statement.derived.iter().find(|(name, _)| name == "cycles_per_instruction");
    let quotient = quotient
        .map_or(String::new(), |(_, v)| format!("{} cycles per instruction, ", crate::derived::shown(*v)));
    let [low, high] = s.ci95;
    let told = format!(
        "{what}: {} per execution (95 % sure: {} to {}){net}; {instructions}{quotient}{rows}{instead}",
        shown(name, s.median),
        shown(name, low),
        shown(name, high)
    );
    writeln!(to)?;
    for line in wrap(&told, width.saturating_sub(2), 3) {
        writeln!(to, "  {line}")?;
    }
    writeln!(to)
}

/// A column of the table.
struct Column {
    title: &'static str,
    /// On a narrow terminal those with the highest number go first.
    dispensable: u8,
    value: fn(&Summary) -> f64,
}

const COLUMNS: [Column; 7] = [
    Column { title: "median", dispensable: 0, value: |s| s.median },
    Column { title: "95 % from", dispensable: 1, value: |s| s.ci95[0] },
    Column { title: "to", dispensable: 1, value: |s| s.ci95[1] },
    Column { title: "mean", dispensable: 3, value: |s| s.mean },
    Column { title: "min", dispensable: 4, value: |s| s.min },
    Column { title: "p95", dispensable: 2, value: |s| s.p95 },
    Column { title: "MAD", dispensable: 5, value: |s| s.mad },
];
const COLUMN_WIDTH: usize = 11;

fn table(outcome: &Outcome, statement: &Statement, width: usize, to: &mut impl Write) -> io::Result<()> {
    let names = || statement.costs.iter().map(|(name, _)| name.chars().count());
    let first = names().max().unwrap_or(0).max(LATENCY.len());
    let mut columns: Vec<&Column> = COLUMNS.iter().collect();
    // One more: the empty statement.
    while 2 + first + (columns.len() + 1) * COLUMN_WIDTH > width
        && let Some(most) = columns.iter().map(|c| c.dispensable).max().filter(|most| *most > 0)
    {
        columns.retain(|c| c.dispensable < most);
    }
    write!(to, "  {:first$}", "")?;
    columns.iter().try_for_each(|column| write!(to, "  {:>9}", column.title))?;
    writeln!(to, "  {:>9}", "empty")?;
    // The counter that is the answer comes first.
    let mut costs: Vec<_> = statement.costs.iter().collect();
    costs.sort_by_key(|(name, _)| *name != outcome.headline);
    for (name, cost) in costs {
        let Cost::Counted(summary) = cost else { continue };
        write!(to, "  {name:first$}")?;
        for column in &columns {
            write!(to, "  {:>9}", shown(name, (column.value)(summary)))?;
        }
        match outcome.baseline.cost(name) {
            Some(Cost::Counted(empty)) => writeln!(to, "  {:>9}", shown(name, empty.median))?,
            _ => writeln!(to)?,
        }
    }
    // Their names are longer than the column.
    for (name, value) in &statement.derived {
        writeln!(to, "  {name}: {}", crate::derived::shown(*value))?;
    }
    Ok(())
}

/// The values between the smallest and the 95th percentile; what is above stands in the last row.
fn histogram(name: &str, values: &[f64], to: &mut impl Write) -> io::Result<()> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * 95).div_ceil(100).saturating_sub(1);
    let (Some(low), Some(high)) = (sorted.first().copied(), sorted.get(at).copied()) else { return Ok(()) };
    if high <= low {
        return Ok(());
    }
    let last = HISTOGRAM_ROWS - 1;
    let step = (high - low) / last as f64;
    let mut rows = [0usize; HISTOGRAM_ROWS];
    for value in &sorted {
        let row = ((value - low) / step) as usize;
        // The 95th percentile itself, however it was rounded, is not above itself.
        let row = if *value <= high { row.min(last - 1) } else { last };
        if let Some(count) = rows.get_mut(row) {
            *count += 1;
        }
    }
    let most = rows.iter().copied().max().unwrap_or(1).max(1);
    writeln!(to)?;
    for (n, count) in rows.iter().enumerate() {
        let from = low + step * n as f64;
        let bar = "█".repeat((count * BAR_WIDTH).div_ceil(most));
        let bar = if bar.is_empty() { bar } else { format!("{bar} ") };
        let more = if n == last { " above" } else { "" };
        writeln!(to, "  {:>9}  {bar}{count}{more}", shown(name, from))?;
    }
    Ok(())
}

fn compared(one: &Comparison, outcome: &Outcome, to: &mut impl Write) -> io::Result<()> {
    let Comparison { statement, counter, ratio, verdict } = one;
    let what = match counter.as_str() {
        "cpu_ns" => "CPU time",
        "latency_ns" => "latency",
        other => other,
    };
    let executions = outcome.statements.first().map_or(0, |s| s.executions);
    match (ratio, verdict) {
        (None, _) | (_, Verdict::Unknown) => {
            writeln!(to, "  {statement} against 1: statement 1 has no {what} above zero to compare with")
        }
        (Some(r), verdict) => {
            let [low, high] = r.ci95;
            let word = match verdict {
                Verdict::NoDifferenceSeen => format!("no difference seen with {executions} executions"),
                other => other.word().to_owned(),
            };
            writeln!(
                to,
                "  {statement} against 1: {:.3} times the {what} (95 % sure: {low:.3} to {high:.3}): {word}",
                r.ratio
            )
        }
    }
}

fn assertions(outcome: &Outcome, to: &mut impl Write) -> io::Result<()> {
    if outcome.assertions.is_empty() {
        return Ok(());
    }
    writeln!(to)?;
    for judged in &outcome.assertions {
        let holds = if judged.holds { "holds" } else { "FAILS" };
        writeln!(
            to,
            "  {holds}: {} (statement {}: {})",
            judged.assertion.text,
            judged.statement,
            shown(&judged.assertion.counter, judged.value)
        )?;
    }
    Ok(())
}

fn notes(outcome: &Outcome, width: usize, to: &mut impl Write) -> io::Result<()> {
    writeln!(to)?;
    let empty = cut(&outcome.baseline.sql, STATEMENT_WIDTH);
    let subtracted = if outcome.net { "; its median is subtracted" } else { "" };
    writeln!(to, "empty: the median of {empty} on the same connection, in turn{subtracted}.")?;
    // Counters that are missing for the same reason share a line.
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, cost) in outcome.statements.first().map_or(&[][..], |s| &s.costs[..]) {
        let Cost::Unavailable(why) = cost else { continue };
        match missing.iter_mut().find(|(known, _)| known == why) {
            Some((_, names)) => names.push(name),
            None => missing.push((why, vec![name])),
        }
    }
    let missing = missing.iter().map(|(why, names)| format!("unavailable: {}: {why}.", names.join(", ")));
    let warned =
        outcome.warnings.iter().map(|w: &Warning| format!("warning: {}; {}.", w.message(), w.remedy()));
    for note in missing.chain(warned) {
        for (n, line) in wrap(&note, width.saturating_sub(2), 6).iter().enumerate() {
            writeln!(to, "{}{line}", if n == 0 { "" } else { "  " })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::outcome::tests::{example, example_with_cycles};

    #[test]
    fn the_answer_comes_first_and_everything_else_is_there() {
        let mut text = Vec::new();
        write(&example(), 100, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut narrow = Vec::new();
        write(&example(), 60, &mut narrow).unwrap();
        assert!(!String::from_utf8(narrow).unwrap().contains("MAD"));
        for needle in [
            "mariadb, pid 7 · connection 35 only · 3 executions of each statement after 5 to warm up",
            "CPU time: 2.00 µs per execution (95 % sure: ",
            "3 rows",
            "1: SELECT 'a'",
            "DO 0",
            "unavailable: cycles, instructions: this machine has no such event",
            "times the CPU time (95 % sure: ",
            "): slower",
            "FAILS: cpu_ns < 1us (statement 1: 2.00 µs)",
        ] {
            assert!(text.contains(needle), "{needle} in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn where_there_are_cycles_they_are_the_answer() {
        let mut text = Vec::new();
        write(&example_with_cycles(), 160, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let answer = "CPU cycles: 3.00 k per execution (95 % sure: 3.00 k to 3.00 k); 2.00 k instructions, 1.50 cycles per \
                      instruction, 1 row\n";
        assert!(text.contains(answer), "{text}");
    }

    #[test]
    fn a_histogram_counts_every_value() {
        let values: Vec<f64> =
            (0..1000).map(|n| if n < 990 { f64::from(n % 100) * 10.0 } else { 1e9 }).collect();
        let mut text = Vec::new();
        histogram("cpu_ns", &values, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let counts = text
            .lines()
            .filter(|line| line.contains('█'))
            .filter_map(|line| line.split('█').next_back()?.split_whitespace().next()?.parse::<u64>().ok());
        assert_eq!(counts.sum::<u64>(), 1000, "{text}");
        let mut constant = Vec::new();
        histogram("cpu_ns", &[5.0; 10], &mut constant).unwrap();
        assert!(constant.is_empty());
    }
}
