use super::render::Output;

/// How a number is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// 8, 10 or 16.
    pub base: u8,
    /// Least width; negative for none.
    pub width: i32,
    /// Least number of digits; negative for none.
    pub precision: i32,
    /// Pad on the right.
    pub left: bool,
    /// Print `+` before what is not negative.
    pub plus: bool,
    /// Print a space before what is not negative.
    pub space: bool,
    /// Print `0x` or `0`.
    pub special: bool,
    /// Pad with zeros.
    pub zero: bool,
    /// Capital digits and `0X`.
    pub upper: bool,
}

impl Style {
    /// Plain decimal.
    pub const DECIMAL: Style = Style {
        base: 10,
        width: -1,
        precision: -1,
        left: false,
        plus: false,
        space: false,
        special: false,
        zero: false,
        upper: false,
    };

    /// Lower-case hexadecimal of a fixed number of digits.
    pub const fn hex(digits: i32) -> Style {
        Style { base: 16, width: digits, zero: true, ..Style::DECIMAL }
    }

    /// The same behind `0x`, for a value of so many bytes.
    pub const fn special_hex(bytes: i32) -> Style {
        Style { special: true, ..Style::hex(2 + 2 * bytes) }
    }
}

/// Prints a number. Other than in C, `#` prints `0x` before a zero, too, and zero padding goes with a precision.
pub(super) fn number(out: &mut Output, magnitude: u64, negative: bool, signed: bool, style: Style) {
    let mut digits = Vec::with_capacity(22);
    let mut rest = magnitude;
    loop {
        let digit = (rest % u64::from(style.base)) as u8;
        digits.push(match digit {
            0..10 => b'0' + digit,
            _ if style.upper => b'A' + digit - 10,
            _ => b'a' + digit - 10,
        });
        rest /= u64::from(style.base);
        if rest == 0 {
            break;
        }
    }
    let prefix: &[u8] = match (style.special, style.base, style.upper) {
        (true, 16, false) => b"0x",
        (true, 16, true) => b"0X",
        (true, 8, _) if magnitude != 0 => b"0",
        _ => b"",
    };
    let prefix_room = prefix.len() as i64;
    let sign = match (negative, signed && style.plus, signed && style.space) {
        (true, _, _) => Some(b'-'),
        (_, true, _) => Some(b'+'),
        (_, _, true) => Some(b' '),
        _ => None,
    };
    let count = digits.len() as i64;
    let precision = i64::from(style.precision).max(count);
    let padding = i64::from(style.width) - prefix_room - i64::from(sign.is_some()) - precision;
    let padding = usize::try_from(padding).unwrap_or(0);
    if !style.zero && !style.left {
        out.repeat(b' ', padding);
    }
    if let Some(sign) = sign {
        out.push(sign);
    }
    out.extend(prefix);
    if style.zero && !style.left {
        out.repeat(b'0', padding);
    }
    out.repeat(b'0', usize::try_from(precision - count).unwrap_or(0));
    for digit in digits.into_iter().rev() {
        out.push(digit);
    }
    if style.left {
        out.repeat(b' ', padding);
    }
}
