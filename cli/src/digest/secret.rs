//! Which statements may carry a password, a key or a token.

/// Words that make a statement suspect, in lower case.
const SUSPECT: &[&[u8]] = &[
    b"passw",
    b"identified",
    b"secret",
    b"pwd",
    b"token",
    b"credential",
    b"private_key",
    b"api_key",
    b"pragma key",
    b"rekey",
    b"hexkey",
    b"auth_string",
    b"encryption_key",
    b"conninfo",
    b"connection '",
];

/// True when `text` may carry a secret. Errs on the side of yes: it decides whether literals may be shown.
pub fn may_carry_secret(text: &[u8]) -> bool {
    SUSPECT.iter().any(|word| contains_ignoring_case(text, word))
}

/// True for statements that give or take rights and settings, where even a word that is no literal may be the secret.
pub fn is_administrative(text: &[u8]) -> bool {
    const VERBS: &[&[u8]] = &[
        b"create", b"alter", b"grant", b"set", b"change", b"start", b"pragma", b"attach", b"backup",
        b"restore", b"rename", b"do", b"call", b"copy",
    ];
    let start = text.iter().position(|b| b.is_ascii_alphabetic()).unwrap_or(text.len());
    let first = text.get(start..).unwrap_or(&[]);
    let comment_first = text.iter().take(start).any(|b| matches!(b, b'/' | b'-' | b'#'));
    comment_first
        || VERBS.iter().any(|verb| {
            first.get(..verb.len()).is_some_and(|word| word.eq_ignore_ascii_case(verb))
                && !first.get(verb.len()).is_some_and(u8::is_ascii_alphanumeric)
        })
}

fn contains_ignoring_case(text: &[u8], word: &[u8]) -> bool {
    let Some(first) = word.first() else { return true };
    text.windows(word.len()).any(|window| {
        window.first().is_some_and(|b| b.to_ascii_lowercase() == *first) && window.eq_ignore_ascii_case(word)
    })
}
