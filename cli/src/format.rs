//! Numbers for people: `71 µs`, `3.4 ms`, `120 k`, and text that fits a terminal.

use std::borrow::Cow;

/// A number with about three digits and the largest of `units` that leaves something before the point.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    // 999.6 would print as "1000": leave it to the next unit.
    let unit = units.iter().rev().find(|(size, _)| value.abs() >= size * 0.9995).or(units.first());
    let Some((size, name)) = unit else { return value.to_string() };
    let value = value / size;
    let digits = match value.abs() {
        v if v >= 99.95 || v == v.trunc() && *size == 1.0 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let space = if name.is_empty() { "" } else { " " };
    format!("{value:.digits$}{space}{name}")
}

/// A duration: `640 ns`, `71.0 µs`, `3.42 ms`, `12.0 s`, `2 h 05 min`.
pub fn duration(ns: f64) -> String {
    if ns >= 3600e9 {
        let minutes = (ns / 60e9).round();
        return format!("{:.0} h {:02.0} min", (minutes / 60.0).floor(), minutes % 60.0);
    }
    scaled(ns, &[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")])
}

/// A count: `7`, `0.25`, `12.5 k`, `3.00 M`.
pub fn count(n: f64) -> String {
    scaled(n, &[(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")])
}

/// A size: `512 B`, `64.0 KiB`.
pub fn bytes(n: f64) -> String {
    scaled(n, &[(1.0, "B"), (1024.0, "KiB"), (1048576.0, "MiB"), (1073741824.0, "GiB")])
}

/// "1 record", "2 records".
pub fn plural(n: u64, one: &str) -> String {
    let s = match one {
        _ if n == 1 => "",
        _ if one.ends_with('s') => "es",
        _ => "s",
    };
    format!("{n} {one}{s}")
}

/// `text` in at most `width` characters; `…` stands for what was cut.
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    match text.char_indices().nth(width) {
        None => text.into(),
        Some(_) => {
            let end = text.char_indices().nth(width.saturating_sub(1)).map_or(0, |(end, _)| end);
            let head = text.get(..end).unwrap_or("").trim_end();
            if width == 0 { "".into() } else { format!("{head}…").into() }
        }
    }
}

/// `text` in at most `lines` lines of `width` characters, broken at spaces where there are any; the last one is cut.
pub fn wrap(text: &str, width: usize, lines: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && wrapped.len() + 1 < lines {
        let Some((end, _)) = rest.char_indices().nth(width) else { break };
        let line = rest.get(..end).unwrap_or(rest);
        let at = line.rfind(' ').filter(|at| *at > end / 2).unwrap_or(end);
        let Some((line, after)) = rest.split_at_checked(at) else { break };
        wrapped.push(line.trim_end().to_owned());
        rest = after.trim_start();
        if width == 0 {
            break;
        }
    }
    if !rest.is_empty() || wrapped.is_empty() {
        wrapped.push(cut(rest, width).into_owned());
    }
    wrapped
}

/// `text` without control characters, which a terminal would obey.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let shown = [0.0, 7.0, 640.0, 999.7, 71_000.0, 3_420_000.0, 12e9, 59.96e9, 7_500e9].map(duration);
        let expected =
            ["0 ns", "7 ns", "640 ns", "1.00 µs", "71.0 µs", "3.42 ms", "12.0 s", "60.0 s", "2 h 05 min"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn counts_and_sizes_are_scaled_and_fractions_are_kept() {
        assert_eq!(
            [0.0, 7.0, 0.25, 999.0, 12_500.0, 3e6, 2.5e13].map(count),
            ["0", "7", "0.25", "999", "12.5 k", "3.00 M", "25.0 T"]
        );
        assert_eq!([512.0, 65536.0].map(bytes), ["512 B", "64.0 KiB"]);
        assert_eq!((plural(1, "record"), plural(2, "loss")), ("1 record".into(), "2 losses".into()));
    }

    #[test]
    fn text_is_cut_and_wrapped_by_characters() {
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größer", 4), "grö…");
        assert_eq!(cut("x", 0), "");
        assert_eq!(wrap("SELECT a FROM t WHERE b = ?", 12, 9), ["SELECT a", "FROM t WHERE", "b = ?"]);
        assert_eq!(wrap("SELECT a FROM t WHERE b = ?", 12, 2), ["SELECT a", "FROM t WHER…"]);
        assert_eq!(wrap("aaaaaaaaaa", 4, 9), ["aaaa", "aaaa", "aa"]);
        assert_eq!(wrap("", 4, 9), [""]);
        assert_eq!(wrap("ab", 0, 9).concat(), "");
    }
}
