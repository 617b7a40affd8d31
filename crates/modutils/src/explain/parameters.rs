//! Parameters that a kernel refuses, by the types that modinfo tells.

use lkm_module::params::Parameter;

use super::cause::Cause;
use super::shown::shown;

/// Names of parameters are compared with `-` as `_`.
pub(crate) fn same_name(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    one.iter().map(folded).eq(other.iter().map(folded))
}

/// The first parameter of a line that its type does not take. Unknown ones are no reason for refusal.
pub(crate) fn refused(line: &[u8], known: &[Parameter<'_>]) -> Option<Cause> {
    words(line).into_iter().find_map(|(name, value)| {
        let parameter = known.iter().find(|known| same_name(known.name, &name))?;
        let kind = parameter.kind?;
        let fault = fault(kind, value.as_deref())?;
        let value = shown(value.as_deref().unwrap_or(&[]));
        Some(match fault {
            Fault::Form => Cause::Parameter(shown(&name), value, Some(shown(kind))),
            Fault::Range => Cause::ParameterRange(shown(&name), value, Some(shown(kind))),
        })
    })
}

/// The last value that a line gives to a parameter.
pub(crate) fn value(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    words(line).into_iter().rev().find(|(given, _)| same_name(given, name))?.1
}

enum Fault {
    Form,
    Range,
}

/// What is wrong with a value; `None` if the type takes it, or is not one of the kernel's.
fn fault(kind: &[u8], value: Option<&[u8]>) -> Option<Fault> {
    if let Some(element) = kind.strip_prefix(b"array of ") {
        return value?.split(|&byte| byte == b',').find_map(|one| fault(element, Some(one)));
    }
    let (least, most) = match kind {
        b"byte" => (0, i128::from(u8::MAX)),
        b"short" => (i128::from(i16::MIN), i128::from(i16::MAX)),
        b"ushort" => (0, i128::from(u16::MAX)),
        b"int" => (i128::from(i32::MIN), i128::from(i32::MAX)),
        b"uint" | b"hexint" => (0, i128::from(u32::MAX)),
        b"long" | b"llong" | b"long long" => (i128::from(i64::MIN), i128::from(i64::MAX)),
        b"ulong" | b"ullong" | b"unsigned long" => (0, i128::from(u64::MAX)),
        b"bool" | b"bint" | b"invbool" => return boolean(value?),
        b"charp" => return (value.map_or(0, <[u8]>::len) > 1024).then_some(Fault::Range),
        _ => return None,
    };
    // Only booleans may stand without a value.
    let Some(number) = value.and_then(number) else { return Some(Fault::Form) };
    if (least..=most).contains(&number) {
        return None;
    }
    Some(if number < 0 && least == 0 { Fault::Form } else { Fault::Range })
}

fn boolean(value: &[u8]) -> Option<Fault> {
    let good = matches!(
        value,
        [b'y' | b'Y' | b't' | b'T' | b'1' | b'n' | b'N' | b'f' | b'F' | b'0', ..]
            | [b'o' | b'O', b'n' | b'N' | b'f' | b'F', ..]
    );
    (!good).then_some(Fault::Form)
}

/// A number as `kstrtoll` reads it: base by prefix, one newline at the end.
fn number(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, base) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', _, ..] => (digits.get(1..)?, 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| char::from(byte).is_digit(base)) {
        return None;
    }
    // More digits than fit anywhere are a number that is too large.
    let value = i128::from_str_radix(digits, base).unwrap_or(i128::MAX);
    Some(if negative { value.checked_neg().unwrap_or(i128::MIN) } else { value })
}

/// A word of the line: name and value.
type Word = (Vec<u8>, Option<Vec<u8>>);

/// The words of a line of parameters as the kernel's `next_arg` takes them apart: blanks separate, except in quotes;
/// `--` ends them.
fn words(line: &[u8]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let Some((first, after)) = rest.split_first()
            && first.is_ascii_whitespace()
        {
            rest = after;
        }
        if rest.is_empty() {
            return words;
        }
        let mut quoted = false;
        let end = rest.iter().position(|&byte| {
            quoted ^= byte == b'"';
            byte.is_ascii_whitespace() && !quoted
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        let word: Vec<u8> = match word.strip_prefix(b"\"") {
            Some(word) => word.strip_suffix(b"\"").unwrap_or(word).to_vec(),
            None => word.to_vec(),
        };
        if word == b"--" {
            return words;
        }
        let equals = word.iter().skip(1).position(|&byte| byte == b'=');
        words.push(match equals {
            None => (word, None),
            Some(at) => {
                let (name, value) = word.split_at(at + 1);
                let value = value.get(1..).unwrap_or(&[]);
                let value = value
                    .strip_prefix(b"\"")
                    .map_or(value, |value| value.strip_suffix(b"\"").unwrap_or(value));
                (name.to_vec(), Some(value.to_vec()))
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(kind: &str, line: &str) -> Option<String> {
        let known = [Parameter { name: b"a_b", description: None, kind: Some(kind.as_bytes()) }];
        refused(line.as_bytes(), &known).map(|cause| cause.to_string())
    }

    #[test]
    fn values_are_what_their_types_take() {
        for (kind, good) in [
            ("int", "a_b=-2147483648 a-b=0x7f a_b=017"),
            ("uint", "a_b=4294967295"),
            ("byte", "a_b=255"),
            ("bool", "a_b a_b=Y a_b=off a_b=nonsense"),
            ("charp", "a_b=\"any thing\" a_b"),
            ("array of int", "a_b=1,2,-3"),
            ("ulong", "a_b=18446744073709551615"),
            ("their_own", "a_b=???"),
            ("int", "other=x -- a_b=x"),
            ("int", ""),
        ] {
            assert_eq!(one(kind, good), None, "{kind}: {good}");
        }
        for (kind, bad, text) in [
            ("int", "x=1 a-b=abc", "the parameter a-b, of type int, does not take the value 'abc'"),
            ("int", "a_b", "the parameter a_b, of type int, does not take the value ''"),
            (
                "int",
                "a_b=2147483648",
                "the value '2147483648' is too large for the parameter a_b, of type int",
            ),
            ("uint", "a_b=-1", "the parameter a_b, of type uint, does not take the value '-1'"),
            ("byte", "a_b=0400", "the value '0400' is too large for the parameter a_b, of type byte"),
            ("int", "a_b=08", "the parameter a_b, of type int, does not take the value '08'"),
            ("bool", "a_b=maybe", "the parameter a_b, of type bool, does not take the value 'maybe'"),
            (
                "array of int",
                "a_b=1,,2",
                "the parameter a_b, of type array of int, does not take the value '1,,2'",
            ),
            ("int", "a_b=\"1 2\"", "the parameter a_b, of type int, does not take the value '1 2'"),
        ] {
            assert_eq!(one(kind, bad).as_deref(), Some(text), "{kind}: {bad}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in prop::collection::vec(any::<u8>(), 0..60), kind in "[a-z ]{0,12}") {
            let known = [Parameter { name: b"a", description: None, kind: Some(kind.as_bytes()) }];
            let _ = refused(&line, &known);
            let _ = refused(&[b"a=", &line[..]].concat(), &known);
        }

        #[test]
        fn integers_are_those_of_rust(value in any::<i32>()) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(i128::from(value)));
            prop_assert_eq!(number(format!("{value:+}").as_bytes()), Some(i128::from(value)));
            let magnitude = value.unsigned_abs();
            prop_assert_eq!(number(format!("0x{magnitude:x}").as_bytes()), Some(i128::from(magnitude)));
            prop_assert_eq!(number(format!("0{magnitude:o}").as_bytes()), Some(i128::from(magnitude)));
        }
    }
}
