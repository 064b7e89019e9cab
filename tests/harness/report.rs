//! A report in JSON, as the tests ask for it: the documented schema, checked while reading.

use serde_json::Value;
use std::collections::BTreeMap;

/// A parsed report.
pub struct Report {
    /// The whole document.
    pub json: Value,
}

/// One row of a report.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The row's object.
    pub json: &'a Value,
}

#[track_caller]
fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {path} in {value:#}"))
}

impl Report {
    /// Parses a report and checks that it says which schema it follows.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let json: Value =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("the report is no JSON: {e}\n{text}"));
        assert_eq!(json.get("schema").and_then(Value::as_u64), Some(1), "schema of {json:#}");
        Report { json }
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.json.get("rows").and_then(Value::as_array).into_iter().flatten().map(|json| Row { json })
    }

    /// The row of this statement, whatever its literals, white space and letter case; panics when there is none or
    /// more than one.
    #[track_caller]
    pub fn row(&self, statement: &str) -> Row<'_> {
        let wanted = canonical(statement);
        let found: Vec<Row> = self.rows().filter(|row| canonical(row.text()) == wanted).collect();
        assert!(found.len() == 1, "{} rows for {statement:?} in {:#}", found.len(), self.json);
        found[0]
    }

    /// Executions per canonical text: the rows of units of one statement, and the members of batches.
    pub fn calls_by_text(&self) -> BTreeMap<String, u64> {
        self.calls_where(|_| true)
    }

    /// The same for some of the rows.
    pub fn calls_where(&self, wanted: impl Fn(&Row) -> bool) -> BTreeMap<String, u64> {
        let mut calls = BTreeMap::new();
        for row in self.rows().filter(|row| wanted(row)) {
            let members = row.members();
            if members.is_empty() {
                *calls.entry(canonical(row.text())).or_insert(0) += row.calls();
            }
            for (text, statements) in members {
                *calls.entry(canonical(&text)).or_insert(0) += statements;
            }
        }
        calls
    }

    /// A number of the completeness part: `executions`, `dropped`, `lost_sessions`, `unknown_text`.
    #[track_caller]
    pub fn completeness(&self, name: &str) -> u64 {
        number(&self.json, &format!("/completeness/{name}")) as u64
    }

    /// Panics unless nothing at all was dropped, lost or left without a text.
    #[track_caller]
    pub fn expect_complete(&self) -> &Self {
        for name in ["dropped", "lost_sessions", "unknown_text"] {
            assert_eq!(self.completeness(name), 0, "{name} in {:#}", self.json["completeness"]);
        }
        self
    }

    /// The queries that were in flight when the server died.
    #[track_caller]
    pub fn in_flight(&self) -> &Vec<Value> {
        self.json
            .get("in_flight")
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("no in_flight in {:#}", self.json))
    }
}

impl<'a> Row<'a> {
    /// A part of the row's key: `digest`, `user`, `database`, `application`, …; empty when it has none.
    pub fn key(&self, name: &str) -> &'a str {
        self.json.pointer(&format!("/key/{name}")).and_then(Value::as_str).unwrap_or_default()
    }

    /// The statement's normalised text.
    pub fn text(&self) -> &'a str {
        self.key("text")
    }

    /// A whole number of the row, such as `calls` or `rows_returned`.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        number(self.json, &format!("/{name}")) as u64
    }

    /// How often it ran.
    #[track_caller]
    pub fn calls(&self) -> u64 {
        self.count("calls")
    }

    /// A part of the latency: `sum_ns`, `min_ns`, `mean_ns`, `p50_ns`, …
    #[track_caller]
    pub fn latency_ns(&self, name: &str) -> f64 {
        number(self.json, &format!("/latency/{name}"))
    }

    /// The sum of a counter over all calls; panics with the reason when it is unavailable.
    #[track_caller]
    pub fn counter(&self, name: &str) -> f64 {
        number(self.json, &format!("/counters/{name}/sum"))
    }

    /// Text and executions of each statement of a batch; empty for other rows.
    pub fn members(&self) -> Vec<(String, u64)> {
        let members = self.json.get("members").and_then(Value::as_array);
        let member = |value: &Value| {
            let text = value.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
            (text, value.get("statements").and_then(Value::as_u64).unwrap_or(0))
        };
        members.into_iter().flatten().map(member).collect()
    }
}

/// A key under which texts of one statement meet, whoever normalised them (perquery, the performance schema,
/// pg_stat_statements, or nobody): lower case, no white space or quoting of names, every literal or parameter a `?`,
/// lists of them one `(#)`.
pub fn canonical(text: &str) -> String {
    let lower = text.to_lowercase().replace("distinctrow", "distinct");
    let mut out = String::with_capacity(lower.len());
    let mut chars = lower.chars().peekable();
    let mut in_word = false;
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() || c == '`' || c == ';' || c == '"' => {
                in_word = false;
                continue;
            }
            '\'' => {
                // To the closing quote; a doubled one is part of the literal.
                while let Some(inner) = chars.next() {
                    if inner == '\'' && chars.next_if_eq(&'\'').is_none() {
                        break;
                    }
                }
                out.push('?');
            }
            '$' | '0'..='9' if !in_word => {
                while chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '.').is_some() {}
                // A sign belongs to the literal where no operand stands before it.
                if out.ends_with('-') && out.trim_end_matches('-').ends_with(['(', ',', '=', '+']) {
                    out.pop();
                }
                out.push('?');
            }
            '-' if chars.peek().is_some_and(char::is_ascii_digit) && out.ends_with(['(', ',', '=', '+']) => {}
            c => out.push(c),
        }
        in_word = c.is_alphanumeric() || c == '_';
    }
    collapse_lists(&out)
}

/// Replaces each parenthesis that holds nothing but placeholders by `(#)`, and rows of them by one.
fn collapse_lists(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('(') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let close = from.find(')');
        match close {
            Some(close) if close > 1 && from[1..close].chars().all(|c| "?,.+…".contains(c)) => {
                out.push_str("(#)");
                rest = &from[close + 1..];
            }
            _ => {
                out.push('(');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    while out.contains("(#),(#)") || out.contains("(#),...") {
        out = out.replace("(#),(#)", "(#)").replace("(#),...", "(#)");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn one_statement_has_one_key_whoever_wrote_it_down() {
        let same = [
            ["SELECT c FROM sbtest1 WHERE id=17", "SELECT `c` FROM `sbtest1` WHERE ID = ? "],
            ["SELECT DISTINCT c FROM t ORDER BY c", "SELECT DISTINCTROW `c` FROM `t` ORDER BY `c` "],
            ["INSERT INTO t (id, c) VALUES (1, 'it''s')", "INSERT INTO `t` ( ID , `c` ) VALUES (...) "],
            ["UPDATE a SET b = b + -4711 WHERE c = 5;", "UPDATE a SET b = b + $1 WHERE c = $2"],
            [
                "INSERT INTO h VALUES (1, 2, -30, CURRENT_TIMESTAMP)",
                "INSERT INTO h VALUES ($1, $2, $3, CURRENT_TIMESTAMP)",
            ],
            ["INSERT INTO t VALUES (1,2),(3,4)", "INSERT INTO t VALUES (?, ?)"],
        ];
        for [left, right] in same {
            assert_eq!(canonical(left), canonical(right));
        }
    }

    #[test]
    fn digits_in_names_are_no_literals() {
        assert_ne!(canonical("SELECT 1 FROM sbtest1"), canonical("SELECT 1 FROM sbtest2"));
    }
}
