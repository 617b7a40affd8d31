//! Numbers and truth values as the kernel reads them from text: `kstrto*()`, `kstrtobool()`.

use lkm_module::Errno;

/// A number at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leading {
    /// Its value, modulo 2^64.
    pub value: u64,
    /// Bytes that it takes with its prefix; 0 if there is none.
    pub length: usize,
    /// It is 2^64 or more.
    pub overflow: bool,
}

/// The unsigned number at the start of a text (`_parse_integer()`), in a base from 2 to 36. Base 0 asks the text: `0x` is
/// hexadecimal, `0` octal. Base 16 may have its `0x`.
pub fn leading_number(text: &[u8], base: u32) -> Leading {
    let hex = matches!(text, [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit());
    let (base, prefix) = match base {
        0 | 16 if hex => (16, 2),
        0 if text.first() == Some(&b'0') => (8, 0),
        0 => (10, 0),
        base => (base.clamp(2, 36), 0),
    };
    let mut number = Leading { value: 0, length: prefix, overflow: false };
    for &byte in text.iter().skip(prefix) {
        let Some(digit) = char::from(byte).to_digit(base) else { break };
        let (base, digit) = (u64::from(base), u64::from(digit));
        let next = number.value.checked_mul(base).and_then(|value| value.checked_add(digit));
        number.overflow |= next.is_none();
        number.value = next.unwrap_or_else(|| number.value.wrapping_mul(base).wrapping_add(digit));
        number.length += 1;
    }
    number
}

/// `kstrto*()`: the whole text is a number with one `+` before it, or for signed types `-`, and at most one newline behind,
/// in the range of a type of `bits` bits (at most 64). Negative values come as their two's complement.
///
/// EINVAL for what is no number, ERANGE for one that is too large, whatever follows it.
pub fn kstrto(text: &[u8], base: u32, bits: u32, signed: bool) -> Result<u64, Errno> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] if signed => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        text => (false, text),
    };
    let number = leading_number(digits, base);
    if number.overflow {
        return Err(Errno::ERANGE);
    }
    if number.length == 0 || !matches!(digits.get(number.length..), Some([] | [b'\n'])) {
        return Err(Errno::EINVAL);
    }
    let limit = u64::MAX.checked_shr(64u32.saturating_sub(bits)).unwrap_or(0);
    let fits = match (signed, negative) {
        (false, _) => number.value <= limit,
        (true, false) => number.value <= limit >> 1,
        (true, true) => number.value <= (limit >> 1) + 1,
    };
    match (fits, negative) {
        (false, _) => Err(Errno::ERANGE),
        (true, true) => Ok(number.value.wrapping_neg()),
        (true, false) => Ok(number.value),
    }
}

/// `kstrtoull()` in base 0.
pub fn kstrtoull(text: &[u8]) -> Result<u64, Errno> {
    kstrto(text, 0, 64, false)
}

/// `kstrtoll()` in base 0.
pub fn kstrtoll(text: &[u8]) -> Result<i64, Errno> {
    kstrto(text, 0, 64, true).map(u64::cast_signed)
}

/// `kstrtobool()`: the first letter decides, for `on` and `off` the second.
pub fn kstrtobool(text: &[u8]) -> Result<bool, Errno> {
    match text {
        [b'y' | b'Y' | b't' | b'T' | b'1', ..] => Ok(true),
        [b'n' | b'N' | b'f' | b'F' | b'0', ..] => Ok(false),
        [b'o' | b'O', b'n' | b'N', ..] => Ok(true),
        [b'o' | b'O', b'f' | b'F', ..] => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bases() {
        assert_eq!(kstrtoull(b"255"), Ok(255));
        assert_eq!(kstrtoull(b"0xfF"), Ok(255));
        assert_eq!(kstrtoull(b"0377\n"), Ok(255));
        assert_eq!(kstrtoull(b"+7"), Ok(7));
        assert_eq!(kstrtoull(b"0"), Ok(0));
    }

    #[test]
    fn junk_is_einval() {
        for text in [&b""[..], b"x", b"08", b"1 ", b"1\n\n", b"-1", b"++1", b"0x", b"+-1", b" 1", b"\n"] {
            assert_eq!(kstrtoull(text), Err(Errno::EINVAL), "{text:?}");
        }
        for text in [&b"--1"[..], b"-+1", b"-"] {
            assert_eq!(kstrtoll(text), Err(Errno::EINVAL), "{text:?}");
        }
    }

    #[test]
    fn overflow_is_erange_even_with_junk_behind() {
        assert_eq!(kstrtoull(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(kstrtoull(b"18446744073709551616"), Err(Errno::ERANGE));
        assert_eq!(kstrtoull(b"99999999999999999999x"), Err(Errno::ERANGE));
        assert_eq!(kstrtoll(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(kstrtoll(b"-9223372036854775809"), Err(Errno::ERANGE));
        assert_eq!(kstrtoll(b"9223372036854775808"), Err(Errno::ERANGE));
    }

    #[test]
    fn truth() {
        for text in [&b"y"[..], b"Yes", b"1", b"true", b"T", b"on", b"ON"] {
            assert_eq!(kstrtobool(text), Ok(true), "{text:?}");
        }
        for text in [&b"n"[..], b"No", b"0", b"false", b"off", b"oF"] {
            assert_eq!(kstrtobool(text), Ok(false), "{text:?}");
        }
        for text in [&b""[..], b"2", b"o", b"ox", b" y"] {
            assert_eq!(kstrtobool(text), Err(Errno::EINVAL), "{text:?}");
        }
    }

    #[test]
    fn types_and_bases() {
        assert_eq!(kstrto(b"0x1F\n", 0, 32, true), Ok(31));
        assert_eq!(kstrto(b"-1", 0, 32, true), Ok(u64::MAX));
        assert_eq!(kstrto(b"+7", 10, 8, false), Ok(7));
        assert_eq!(kstrto(b"256", 10, 8, false), Err(Errno::ERANGE));
        assert_eq!(kstrto(b"-128", 10, 8, true), Ok((-128_i64).cast_unsigned()));
        assert_eq!(kstrto(b"128", 10, 8, true), Err(Errno::ERANGE));
        assert_eq!(kstrto(b"0x10", 16, 32, false), Ok(16));
        assert_eq!(kstrto(b"0x10", 10, 32, false), Err(Errno::EINVAL));
        assert_eq!(kstrto(b"010", 10, 32, false), Ok(10));
        assert_eq!(leading_number(b"12ab", 10), Leading { value: 12, length: 2, overflow: false });
        assert_eq!(leading_number(b"zz", 36).value, 35 * 36 + 35);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_panic(text in proptest::collection::vec(any::<u8>(), 0..40), base: u32, bits in 0u32..80) {
            let _ = kstrto(&text, base, bits, bits % 2 == 0);
        }

        #[test]
        fn every_number_comes_back(value: u64, signed: i64) {
            prop_assert_eq!(kstrtoull(format!("{value}").as_bytes()), Ok(value));
            prop_assert_eq!(kstrtoull(format!("{value:#x}").as_bytes()), Ok(value));
            prop_assert_eq!(kstrtoull(format!("0{value:o}").as_bytes()), Ok(value));
            prop_assert_eq!(kstrtoll(format!("{signed}\n").as_bytes()), Ok(signed));
        }
    }
}
