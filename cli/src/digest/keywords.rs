//! Which words of a statement are SQL's own and therefore written in capitals.
//!
//! Only words that are reserved, or hardly ever a column's name, are listed: `id`, `name`, `key`, `user`, `status` or
//! `c` stay as they were written, because identifiers may be case-sensitive.

/// Sorted, for a binary search.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "ADD", "ALL", "ALTER", "ANALYZE", "AND", "ANY", "ARRAY", "AS", "ASC", "ATTACH", "AUTOINCREMENT",
    "AUTO_INCREMENT", "BEGIN", "BETWEEN", "BINARY", "BY", "CALL", "CASCADE", "CASE", "CHECK", "CHECKPOINT",
    "COLLATE", "COLUMN", "COMMIT", "CONCURRENTLY", "CONFLICT", "CONSTRAINT", "COPY", "CREATE", "CROSS",
    "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_USER", "CURSOR", "DATABASE", "DEALLOCATE",
    "DECLARE", "DEFAULT", "DEFERRABLE", "DELETE", "DELIMITER", "DESC", "DESCRIBE", "DETACH", "DISCARD", "DISTINCT",
    "DIV", "DO", "DROP", "DUPLICATE", "ELSE", "ELSEIF", "END", "ESCAPE", "EXCEPT", "EXCLUSIVE", "EXECUTE", "EXISTS",
    "EXPLAIN", "EXTENSION", "FALSE", "FETCH", "FILTER", "FLUSH", "FOR", "FORCE", "FOREIGN", "FROM", "FULL",
    "FUNCTION", "GLOB", "GLOBAL", "GRANT", "GROUP", "HAVING", "HIGH_PRIORITY", "IDENTIFIED", "IF", "IGNORE",
    "ILIKE", "IMMEDIATE", "IN", "INDEX", "INFILE", "INNER", "INSERT", "INTERSECT", "INTERVAL", "INTO", "IS",
    "ISNULL", "ISOLATION", "JOIN", "KILL", "LATERAL", "LEADING", "LEFT", "LIKE", "LIMIT", "LISTEN", "LOCAL",
    "LOCK", "LOCKED", "LOW_PRIORITY", "MATERIALIZED", "MERGE", "NATURAL", "NOT", "NOTHING", "NOTIFY", "NOTNULL",
    "NOWAIT", "NULL", "NULLS", "OFFSET", "ON", "ONLY", "OPTIMIZE", "OR", "ORDER", "OUTER", "OUTFILE", "OVER",
    "PARTITION", "PRAGMA", "PREPARE", "PRIMARY", "PROCEDURE", "RECURSIVE", "REFERENCES", "REFRESH", "REGEXP",
    "REINDEX", "RELEASE", "RENAME", "REPLACE", "RESET", "RETURNING", "REVOKE", "RIGHT", "RLIKE", "ROLLBACK", "ROW",
    "ROWS", "SAVEPOINT", "SCHEMA", "SELECT", "SEQUENCE", "SET", "SHOW", "SIMILAR", "SOME", "SQL_CALC_FOUND_ROWS",
    "SQL_NO_CACHE", "START", "STDIN", "STDOUT", "STRAIGHT_JOIN", "TABLE", "TABLES", "TEMP", "TEMPORARY", "THEN",
    "TO", "TRAILING", "TRANSACTION", "TRIGGER", "TRUE", "TRUNCATE", "UNION", "UNIQUE", "UNLISTEN", "UNLOCK",
    "UNLOGGED", "UPDATE", "USE", "USING", "VACUUM", "VALUES", "VARIABLES", "VIEW", "VIRTUAL", "WARNINGS", "WHEN",
    "WHERE", "WHILE", "WINDOW", "WITH", "WITHOUT", "XOR",
];

/// Functions of every dialect; in capitals only where a parenthesis follows. Sorted.
#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    "ABS", "ADDDATE", "AVG", "BENCHMARK", "BIT_AND", "BIT_COUNT", "BIT_LENGTH", "BIT_OR", "CAST", "CEIL", "CEILING",
    "CHANGES", "CHAR_LENGTH", "COALESCE", "CONCAT", "CONCAT_WS", "CONNECTION_ID", "CONVERT", "COUNT", "CURDATE",
    "CURTIME", "DATE", "DATETIME", "DATE_ADD", "DATE_FORMAT", "DATE_SUB", "DATE_TRUNC", "DENSE_RANK", "EXTRACT",
    "FIRST_VALUE", "FLOOR", "FOUND_ROWS", "FROM_UNIXTIME", "GET_LOCK", "GREATEST",
    "GROUP_CONCAT", "HEX", "IF", "IFNULL", "INSERT", "INSTR", "LAG", "LAST_INSERT_ID", "LAST_INSERT_ROWID",
    "LAST_VALUE", "LEAD", "LEAST", "LEFT", "LENGTH", "LOCATE", "LOWER", "LPAD", "LTRIM", "MAX", "MD5", "MIN", "MOD",
    "NOW", "NULLIF", "OCTET_LENGTH", "PASSWORD", "POWER", "RAND", "RANDOM", "RANK",
    "RELEASE_LOCK", "REPEAT", "REPLACE", "RIGHT", "ROUND", "ROW_COUNT", "ROW_NUMBER", "RPAD", "RTRIM",     "SHA1", "SHA2", "SLEEP", "STRFTIME", "STRING_AGG", "STR_TO_DATE", "SUBDATE", "SUBSTR", "SUBSTRING", "SUM",
    "SYSDATE", "TO_CHAR", "TO_DATE", "TO_TIMESTAMP", "TRIM", "TRUNCATE", "UNHEX", "UNIX_TIMESTAMP", "UPPER", "UUID",
    "YEAR",
];

/// What CREATE, ALTER and DROP may name that is not in [`KEYWORDS`] because it is a common column name too.
const OBJECTS: &[&str] = &["DOMAIN", "EVENT", "LANGUAGE", "POLICY", "ROLE", "SERVER", "TYPE", "USER"];

/// Character sets that a MySQL client may put before a string: `_utf8mb4'…'`. The introducer belongs to the literal.
const INTRODUCERS: &[&str] = &[
    "_ASCII", "_BIG5", "_BINARY", "_CP1250", "_CP1251", "_CP1252", "_GB18030", "_GBK", "_LATIN1", "_LATIN2",
    "_SJIS", "_UCS2", "_UTF16", "_UTF32", "_UTF8", "_UTF8MB3", "_UTF8MB4",
];

/// No word in the lists is longer.
const LONGEST: usize = 24;

fn find(list: &'static [&'static str], word: &str) -> Option<&'static str> {
    let mut upper = [0u8; LONGEST];
    let upper = upper.get_mut(..word.len())?;
    for (to, from) in upper.iter_mut().zip(word.bytes()) {
        *to = from.to_ascii_uppercase();
    }
    list.binary_search_by(|candidate| candidate.as_bytes().cmp(upper)).ok().and_then(|i| list.get(i).copied())
}

/// The keyword that `word` is, in capitals.
pub fn keyword(word: &str) -> Option<&'static str> {
    find(KEYWORDS, word)
}

/// The function that `word` is where a parenthesis follows it, in capitals.
pub fn function(word: &str) -> Option<&'static str> {
    find(FUNCTIONS, word)
}

/// The kind of object that `word` is after CREATE, ALTER or DROP, in capitals.
pub fn object(word: &str) -> Option<&'static str> {
    find(OBJECTS, word)
}

/// True for the name of a character set before a MySQL string literal.
pub fn is_introducer(word: &str) -> bool {
    find(INTRODUCERS, word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_every_word_in_them_is_found() {
        for list in [KEYWORDS, FUNCTIONS, OBJECTS, INTRODUCERS] {
            for word in list {
                assert_eq!(find(list, &word.to_lowercase()), Some(*word));
            }
        }
    }

    #[test]
    fn common_column_names_are_no_keywords() {
        for name in
            ["id", "c", "k", "pad", "name", "key", "user", "status", "type", "date", "value", "count", ""]
        {
            assert_eq!(keyword(name), None, "{name}");
        }
        assert_eq!(keyword(&"x".repeat(5000)), None);
    }
}
