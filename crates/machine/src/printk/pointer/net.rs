//! Addresses of networks: `%pM`, `%pI`; features of their devices: `%pNF`.

use super::Environment;
use super::Field;
use super::Output;
use super::number;
use super::read;
use super::scalar;
use super::unreadable;

/// `%pNF`
pub(super) fn features(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    match extension.get(1) {
        Some(b'F') => scalar(out, at, 8, field, environment),
        _ => field.text(out, b"(%pN?)"),
    }
}

/// `%pM` `%pm`, R reversed, F for FDDI.
pub(super) fn mac(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    let Some(mut bytes) = read::<6>(at, environment) else { return unreadable(out, field) };
    let separator = match extension.get(1) {
        Some(b'F') => '-',
        second => {
            if second == Some(&b'R') {
                bytes.reverse();
            }
            ':'
        }
    };
    let mut text = String::new();
    for (n, byte) in bytes.iter().enumerate() {
        if n > 0 && extension.first() == Some(&b'M') {
            text.push(separator);
        }
        text.push_str(&format!("{byte:02x}"));
    }
    field.text(out, text.as_bytes());
}

/// The letter tells the byte order that the address is in.
fn ipv4(bytes: [u8; 4], order: Option<&u8>, leading_zeros: bool) -> String {
    let [a, b, c, d] = match order {
        Some(b'h' | b'l') => [bytes[3], bytes[2], bytes[1], bytes[0]],
        _ => bytes,
    };
    if leading_zeros { format!("{a:03}.{b:03}.{c:03}.{d:03}") } else { format!("{a}.{b}.{c}.{d}") }
}

fn ipv6_compressed(bytes: [u8; 16]) -> String {
    let mut words = [0_u16; 8];
    for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
        *word = u16::from_be_bytes([pair[0], pair[1]]);
    }
    // IPv4-mapped, and ISATAP by its interface identifier.
    let mapped = words[..5] == [0; 5] && words[5] == 0xffff;
    let isatap = words[4] & !0x0200 == 0 && words[5] == 0x5efe;
    let range = if mapped || isatap { 6 } else { 8 };
    let (mut best, mut longest) = (usize::MAX, 1);
    for start in 0..range {
        let length = words[start..range].iter().take_while(|&&word| word == 0).count();
        if length > longest {
            (best, longest) = (start, length);
        }
    }
    let mut text = String::new();
    let mut colon = false;
    let mut n = 0;
    while n < range {
        if n == best {
            if colon || n == 0 {
                text.push(':');
            }
            text.push(':');
            colon = false;
            n += longest;
            continue;
        }
        if colon {
            text.push(':');
        }
        text.push_str(&format!("{:x}", words[n]));
        colon = true;
        n += 1;
    }
    if mapped || isatap {
        if colon {
            text.push(':');
        }
        text.push_str(&ipv4([bytes[12], bytes[13], bytes[14], bytes[15]], None, false));
    }
    text
}

fn ipv6(bytes: [u8; 16], separator: &str) -> String {
    let words: Vec<String> =
        bytes.chunks_exact(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1])).collect();
    words.join(separator)
}

/// `%pI4` `%pi4` `%pI6` `%pi6` `%pI6c` `%pIS` `%piS` with p, f, s, c.
pub(super) fn internet(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    let small = extension.first() == Some(&b'i');
    let text = match extension.get(1) {
        Some(b'4') => read(at, environment).map(|bytes| ipv4(bytes, extension.get(2), small)),
        Some(b'6') => read(at, environment).map(|bytes| match (extension.get(2), small) {
            (Some(b'c'), false) => ipv6_compressed(bytes),
            (_, small) => ipv6(bytes, if small { "" } else { ":" }),
        }),
        Some(b'S') => socket_address(at, extension, small, field, environment),
        _ if small => Some("(%pi?)".to_owned()),
        _ => Some("(%pI?)".to_owned()),
    };
    match text {
        Some(text) => field.text(out, text.as_bytes()),
        None => unreadable(out, field),
    }
}

fn socket_address(
    at: u64,
    extension: &[u8],
    small: bool,
    field: Field,
    environment: &dyn Environment,
) -> Option<String> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let options = extension.get(2..).unwrap_or_default();
    let count = options.iter().take_while(|letter| letter.is_ascii_alphabetic()).count();
    let options = options.get(..count).unwrap_or_default();
    let has = |letter| options.contains(&letter);
    // The kernel prints these numbers with the width that was meant for the whole.
    let figure = |value: u32| {
        let mut text = Output::new(1 << 16);
        number(&mut text, u64::from(value), false, false, field.decimal());
        String::from_utf8_lossy(text.bytes()).into_owned()
    };
    let family = u16::from_le_bytes(read(at, environment)?);
    let port = || Some(figure(u32::from(u16::from_be_bytes(read(at.wrapping_add(2), environment)?))));
    match family {
        AF_INET => {
            let order = options.iter().rfind(|letter| b"hnbl".contains(letter));
            let mut text = ipv4(read(at.wrapping_add(4), environment)?, order, small);
            if has(b'p') {
                text.push_str(&format!(":{}", port()?));
            }
            Some(text)
        }
        AF_INET6 => {
            let bytes = read(at.wrapping_add(8), environment)?;
            let mut text = if has(b'c') && !small {
                ipv6_compressed(bytes)
            } else {
                ipv6(bytes, if small { "" } else { ":" })
            };
            if has(b'p') || has(b'f') || has(b's') {
                text = format!("[{text}]");
            }
            if has(b'p') {
                text.push_str(&format!(":{}", port()?));
            }
            if has(b'f') {
                let flow = u32::from_be_bytes(read(at.wrapping_add(4), environment)?) & 0x0fff_ffff;
                text.push_str(&format!("/{}", figure(flow)));
            }
            if has(b's') {
                let scope = u32::from_le_bytes(read(at.wrapping_add(24), environment)?);
                text.push_str(&format!("%{}", figure(scope)));
            }
            Some(text)
        }
        _ => Some("(einval)".to_owned()),
    }
}
