//! Points in time: `%pt`.

use super::Environment;
use super::Field;
use super::Output;
use super::Style;
use super::number;
use super::read;
use super::unreadable;

/// `%ptR` `%ptT` with d, t for a part, r for raw values, s for a space between.
pub(super) fn time(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    let parts = match extension.get(1) {
        Some(b'R') => broken_down_time(at, environment),
        Some(b'T') => read(at, environment).map(|bytes| from_seconds(i64::from_le_bytes(bytes))),
        _ => return field.text(out, b"(%pt?)"),
    };
    let Some([second, minute, hour, day, month, year]) = parts else { return unreadable(out, field) };
    let options = extension.get(2..).unwrap_or_default();
    let (date, clock) = match options.first() {
        Some(b'd') => (true, false),
        Some(b't') => (false, true),
        _ => (true, true),
    };
    let rest = options.get(usize::from(!(date && clock))..).unwrap_or_default();
    let rest: Vec<u8> = rest.iter().copied().take_while(|letter| b"rs".contains(letter)).collect();
    let raw = rest.contains(&b'r');
    // The kernel prints each part as if it were unsigned and 64 bits wide.
    let part = |out: &mut Output, value: i64, digits: i32| {
        let style = Style { width: digits, zero: true, ..Style::DECIMAL };
        number(out, value.cast_unsigned(), false, false, style);
    };
    let separator = if rest.contains(&b's') { b' ' } else { b'T' };
    if date {
        let (year, month) =
            if raw { (year, month) } else { (year.wrapping_add(1900), month.wrapping_add(1)) };
        part(out, year, 4);
        out.push(b'-');
        part(out, month, 2);
        out.push(b'-');
        part(out, day, 2);
    }
    if date && clock {
        out.push(separator);
    }
    if clock {
        part(out, hour, 2);
        out.push(b':');
        part(out, minute, 2);
        out.push(b':');
        part(out, second, 2);
    }
}

fn broken_down_time(at: u64, environment: &dyn Environment) -> Option<[i64; 6]> {
    let mut parts = [0; 6];
    for (n, part) in parts.iter_mut().enumerate() {
        *part = i64::from(i32::from_le_bytes(read(at.wrapping_add(4 * n as u64), environment)?));
    }
    Some(parts)
}

/// Seconds since 1970 as the fields of `struct rtc_time`.
fn from_seconds(seconds: i64) -> [i64; 6] {
    let days = seconds.div_euclid(86400);
    let rest = seconds.rem_euclid(86400);
    // Counting from 1 March of the year 0 puts the leap day at the end of the year.
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    [rest % 60, rest / 60 % 60, rest / 3600, day, month - 1, year - 1900]
}
