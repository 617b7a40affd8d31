//! Numbers and truth values as the kernel reads them from text: `kstrtoull()`, `kstrtoll()`, `kstrtobool()`.

use lkm_module::Errno;

/// `kstrtoull()` in base 0: decimal, `0x` hexadecimal or `0` octal, one `+` before and one newline behind allowed.
pub(crate) fn kstrtoull(text: &[u8]) -> Result<u64, Errno> {
    unsigned(text.strip_prefix(b"+").unwrap_or(text))
}

/// `kstrtoll()` in base 0.
pub(crate) fn kstrtoll(text: &[u8]) -> Result<i64, Errno> {
    match text.strip_prefix(b"-") {
        Some(rest) => {
            let magnitude = unsigned(rest)?;
            0i64.checked_sub_unsigned(magnitude).ok_or(Errno::ERANGE)
        }
        None => i64::try_from(kstrtoull(text)?).map_err(|_| Errno::ERANGE),
    }
}

fn unsigned(text: &[u8]) -> Result<u64, Errno> {
    let (radix, digits): (u64, &[u8]) = match text {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => (16, rest),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    let mut value: u64 = 0;
    let mut overflow = false;
    let mut count = 0;
    for &byte in digits {
        let Some(digit) = char::from(byte).to_digit(16).map(u64::from).filter(|&digit| digit < radix) else {
            break;
        };
        match value.checked_mul(radix).and_then(|value| value.checked_add(digit)) {
            Some(next) => value = next,
            None => overflow = true,
        }
        count += 1;
    }
    if overflow {
        return Err(Errno::ERANGE);
    }
    match digits.get(count..) {
        _ if count == 0 => Err(Errno::EINVAL),
        Some([] | [b'\n']) => Ok(value),
        _ => Err(Errno::EINVAL),
    }
}

/// `kstrtobool()`: the first letter decides, for `on` and `off` the second.
pub(crate) fn kstrtobool(text: &[u8]) -> Result<bool, Errno> {
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

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64, signed: i64) {
            prop_assert_eq!(kstrtoull(format!("{value}").as_bytes()), Ok(value));
            prop_assert_eq!(kstrtoull(format!("{value:#x}").as_bytes()), Ok(value));
            prop_assert_eq!(kstrtoull(format!("0{value:o}").as_bytes()), Ok(value));
            prop_assert_eq!(kstrtoll(format!("{signed}\n").as_bytes()), Ok(signed));
        }
    }
}
