//! Numbers out of other programs' output.

/// The first whole number after `label` in a text: `number_after("queries: 20 (…)", "queries:")` is 20.
pub fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = text.split_once(label)?.1.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_behind_its_label() {
        assert_eq!(number_after("    queries:      2016   (22823.38 per sec.)", "queries:"), Some(2016));
        assert_eq!(number_after("nothing here", "queries:"), None);
    }
}
