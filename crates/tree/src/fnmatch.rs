//! Shell patterns, as aliases use them.

/// Whether `text` matches `pattern`, byte by byte as `fnmatch(3)` with no flags does in the C locale: `*`, `?`,
/// `[...]` with `!` or `^`, ranges and classes, and `\` before a character that stands for itself.
///
/// A `[` without its `]` stands for itself. The work is at most the product of the two lengths, and no memory is used.
///
/// ```
/// use lkm_tree::fnmatch::fnmatch;
///
/// assert!(fnmatch(b"pci:v00008086d*sv*bc0[1-3]*", b"pci:v00008086d00001234sv00bc02sc00"));
/// assert!(!fnmatch(b"usb:v1A2Bp?", b"usb:v1A2Bp"));
/// ```
pub fn fnmatch(pattern: &[u8], text: &[u8]) -> bool {
    let mut pattern = pattern;
    let mut text = text;
    // What follows the last `*`, and the text that it has not eaten yet: only the last one has to be tried again.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(after) = pattern.strip_prefix(b"*") {
            pattern = after;
            if pattern.is_empty() {
                return true;
            }
            let Some(rest) = next_start(after, text) else { return false };
            text = rest;
            star = Some((after, text));
            continue;
        }
        if pattern.is_empty() && text.is_empty() {
            return true;
        }
        if let Some((byte, rest)) = text.split_first()
            && let Some(after) = one(pattern, *byte)
        {
            pattern = after;
            text = rest;
            continue;
        }
        let Some((after, eaten)) = star else { return false };
        let Some((_, rest)) = eaten.split_first() else { return false };
        let Some(rest) = next_start(after, rest) else { return false };
        star = Some((after, rest));
        pattern = after;
        text = rest;
    }
}

/// The first place in a text where what follows a `*` may start.
fn next_start<'a>(after: &[u8], text: &'a [u8]) -> Option<&'a [u8]> {
    match after.first() {
        None | Some(b'*' | b'?' | b'[' | b'\\') => Some(text),
        Some(plain) => text.get(text.iter().position(|byte| byte == plain)?..),
    }
}

/// What follows the first element of the pattern, if that matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'\\', escaped, rest @ ..] => (*escaped == byte).then_some(rest),
        // A pattern that ends in the middle of an escape matches nothing.
        [b'\\'] => None,
        [b'[', set @ ..] => match bracket(set, byte) {
            Some((matches, rest)) => matches.then_some(rest),
            None => (byte == b'[').then_some(set),
        },
        [plain, rest @ ..] => (*plain == byte).then_some(rest),
        [] => None,
    }
}

/// Reads a set up to its `]`: whether the byte is in it, and what follows. `None` if it has no end.
fn bracket(set: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match set {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut matches = false;
    let mut first = true;
    loop {
        if !first && let Some(rest) = rest.strip_prefix(b"]") {
            return Some((matches != negated, rest));
        }
        first = false;
        if let Some((class, after)) = named(rest, b':') {
            matches |= is_in_class(class, byte)?;
            rest = after;
            continue;
        }
        let (low, after) = element(rest)?;
        rest = after;
        match rest {
            [b'-', end, ..] if *end != b']' => {
                let (high, after) = element(rest.get(1..)?)?;
                matches |= (low..=high).contains(&byte);
                rest = after;
            }
            _ => matches |= low == byte,
        }
    }
}

/// One byte of a set: itself, escaped, or as `[.x.]` or `[=x=]`.
fn element(set: &[u8]) -> Option<(u8, &[u8])> {
    for kind in *b".=" {
        if let Some(([byte], rest)) = named(set, kind) {
            return Some((*byte, rest));
        }
    }
    match set {
        [b'\\', byte, rest @ ..] => Some((*byte, rest)),
        [b'\\'] | [] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

/// The `name` of `[:name:]` and what follows it, for the `kind` of bracket that `:` stands for here.
fn named(set: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let body = set.strip_prefix(&[b'[', kind])?;
    let end = body.windows(2).position(|pair| pair == [kind, b']'])?;
    Some((body.get(..end)?, body.get(end + 2..)?))
}

/// Whether a byte is of a class; `None` if there is no such class.
fn is_in_class(class: &[u8], byte: u8) -> Option<bool> {
    Some(match class {
        b"alpha" => byte.is_ascii_alphabetic(),
        b"digit" => byte.is_ascii_digit(),
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"upper" => byte.is_ascii_uppercase(),
        b"lower" => byte.is_ascii_lowercase(),
        b"space" => matches!(byte, b' ' | 9..=13),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"punct" => byte.is_ascii_punctuation(),
        b"print" => matches!(byte, b' '..=b'~'),
        b"graph" => byte.is_ascii_graphic(),
        b"cntrl" => byte.is_ascii_control(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
