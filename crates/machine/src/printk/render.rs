use core::fmt;

use super::Environment;
use super::Source;
use super::number::Style;
use super::number::number;
use super::parse::Conversion;
use super::parse::Length;
use super::parse::Number;
use super::parse::Piece;
use super::parse::Spec;
use super::parse::parse;
use super::pointer::pointer;

/// Width that the kernel cuts larger ones to.
const WIDTH_MAX: i32 = (1 << 23) - 1;
/// Precision likewise.
const PRECISION_MAX: i32 = 0x7fff;
/// Depth of `%pV` in `%pV`.
const NESTED_MAX: u8 = 8;

/// What the kernel warns of once while it prints, with `WARN_ONCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// A letter that is no conversion; 0 for the end of the format.
    Unsupported(u8),
    /// A width given as argument.
    Width(i32),
    /// A precision given as argument.
    Precision(i32),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Complaint::Unsupported(letter) => {
                write!(f, "Please remove unsupported %{} in format string", char::from(*letter))
            }
            Complaint::Width(width) => write!(f, "field width {width} too large"),
            Complaint::Precision(precision) => write!(f, "precision {precision} too large"),
        }
    }
}

/// Printed bytes: kept up to a limit, counted beyond it.
#[derive(Clone, Debug)]
pub struct Output {
    bytes: Vec<u8>,
    limit: usize,
    length: usize,
    complaints: Vec<Complaint>,
}

impl Output {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Output {
        Output { bytes: Vec::new(), limit, length: 0, complaints: Vec::new() }
    }

    /// The bytes kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes kept.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes that the whole text has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What was complained of: the first of each kind.
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    fn complain(&mut self, complaint: Complaint) {
        let kind = core::mem::discriminant(&complaint);
        if self.complaints.iter().all(|other| core::mem::discriminant(other) != kind) {
            self.complaints.push(complaint);
        }
    }

    pub(super) fn push(&mut self, byte: u8) {
        if self.bytes.len() < self.limit {
            self.bytes.push(byte);
        }
        self.length = self.length.saturating_add(1);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        self.length = self.length.saturating_add(bytes.len());
    }

    pub(super) fn repeat(&mut self, byte: u8, count: usize) {
        let room = self.limit - self.bytes.len();
        self.bytes.resize(self.bytes.len() + room.min(count), byte);
        self.length = self.length.saturating_add(count);
    }

    /// Nothing more fits.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= self.limit
    }

    /// Bytes that are kept at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    fn room(&self) -> usize {
        self.limit - self.bytes.len()
    }
}

/// A conversion whose width and precision are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) left: bool,
    pub(super) plus: bool,
    pub(super) space: bool,
    pub(super) special: bool,
    pub(super) zero: bool,
    /// -1 for none.
    pub(super) width: i32,
    /// -1 for none.
    pub(super) precision: i32,
}

impl Field {
    fn style(self, base: u8, upper: bool) -> Style {
        Style {
            base,
            width: self.width,
            precision: self.precision,
            left: self.left,
            plus: self.plus,
            space: self.space,
            special: self.special,
            zero: self.zero,
            upper,
        }
    }

    /// Lower-case hexadecimal.
    pub(super) fn hex(self) -> Style {
        self.style(16, false)
    }

    /// Decimal.
    pub(super) fn decimal(self) -> Style {
        self.style(10, false)
    }

    /// Prints text cut to the precision and padded to the width.
    pub(super) fn text(self, out: &mut Output, text: &[u8]) {
        let text = match usize::try_from(self.precision) {
            Ok(precision) => text.get(..precision.min(text.len())).unwrap_or_default(),
            Err(_) => text,
        };
        let padding = usize::try_from(self.width).unwrap_or(0).saturating_sub(text.len());
        if !self.left {
            out.repeat(b' ', padding);
        }
        out.extend(text);
        if self.left {
            out.repeat(b' ', padding);
        }
    }
}

fn resolve(out: &mut Output, spec: &Spec<'_>, source: &mut dyn Source) -> Field {
    let mut left = spec.left;
    let width = match spec.width {
        Number::None => -1,
        // A width in the format is stored in 24 bits without a look, one that is an argument with one.
        Number::Given(width) => width << 8 >> 8,
        Number::Argument => {
            let width = (source.word() as u32).cast_signed();
            if width << 8 >> 8 != width {
                out.complain(Complaint::Width(width));
            }
            left |= width < 0;
            width.saturating_abs().min(WIDTH_MAX)
        }
    };
    let precision = match spec.precision {
        Number::None => -1,
        // Likewise in 16 bits. Other than in C, a negative one counts as zero.
        Number::Given(precision) => i32::from(precision as i16).max(0),
        Number::Argument => {
            let precision = (source.word() as u32).cast_signed();
            if i16::try_from(precision).is_err() {
                out.complain(Complaint::Precision(precision));
            }
            precision.clamp(0, PRECISION_MAX)
        }
    };
    Field {
        left,
        plus: spec.plus,
        space: spec.space,
        special: spec.special,
        zero: spec.zero,
        width,
        precision,
    }
}

/// An integer argument: its 64 bits, extended as its type says.
fn integer(length: Length, signed: bool, pointer_size: u8, source: &mut dyn Source) -> u64 {
    let bits = match length {
        Length::Char => 8,
        Length::Short => 16,
        Length::Int => 32,
        Length::LongLong => 64,
        Length::Long | Length::Size | Length::PtrDiff => u32::from(pointer_size) * 8,
    };
    let raw = if length == Length::LongLong { source.double_word() } else { source.word() };
    let shift = 64 - bits;
    if signed { ((raw << shift).cast_signed() >> shift).cast_unsigned() } else { raw << shift >> shift }
}

/// Prints a format.
pub fn format(out: &mut Output, format: &[u8], source: &mut dyn Source, environment: &dyn Environment) {
    nested(out, format, source, environment, 0);
}

pub(super) fn nested(
    out: &mut Output,
    format: &[u8],
    source: &mut dyn Source,
    environment: &dyn Environment,
    depth: u8,
) {
    if depth > NESTED_MAX {
        return;
    }
    for piece in parse(format) {
        let spec = match piece {
            Piece::Literal(text) => {
                out.extend(text);
                continue;
            }
            Piece::Spec(spec) => spec,
        };
        let field = resolve(out, &spec, source);
        let size = environment.pointer_size();
        match spec.conversion {
            Conversion::Percent => out.push(b'%'),
            Conversion::Char => {
                let byte = source.word() as u8;
                Field { precision: -1, ..field }.text(out, &[byte]);
            }
            Conversion::String => {
                let at = source.word();
                string(out, at, field, environment);
            }
            Conversion::Signed => {
                let value = integer(spec.length, true, size, source).cast_signed();
                number(out, value.unsigned_abs(), value < 0, true, field.decimal());
            }
            Conversion::Unsigned => {
                number(out, integer(spec.length, false, size, source), false, false, field.decimal());
            }
            Conversion::Octal => {
                number(out, integer(spec.length, false, size, source), false, false, field.style(8, false));
            }
            Conversion::HexLower => {
                number(out, integer(spec.length, false, size, source), false, false, field.hex());
            }
            Conversion::HexUpper => {
                number(out, integer(spec.length, false, size, source), false, false, field.style(16, true));
            }
            Conversion::Pointer(extension) => {
                let at = source.word();
                pointer(out, at, extension, field, environment, depth);
            }
            Conversion::Invalid(letter) => return out.complain(Complaint::Unsupported(letter)),
        }
        // The arguments of what follows no longer matter, but the length of the whole does: go on counting, unless
        // it can only be a format made to last.
        if out.is_full() && out.length > 1 << 28 {
            return;
        }
    }
}

/// A pointer value as wide as the kernel's pointers.
pub(super) fn truncate(at: u64, environment: &dyn Environment) -> u64 {
    if environment.pointer_size() == 4 { at & 0xffff_ffff } else { at }
}

/// What is printed instead of following a pointer that cannot be one.
pub(super) fn bad_pointer(at: u64, environment: &dyn Environment) -> Option<&'static [u8]> {
    match at {
        0 => Some(b"(null)"),
        at if at < 4096 || is_error(at, environment) => Some(b"(efault)"),
        _ => None,
    }
}

/// `IS_ERR_VALUE()`: the last 4095 addresses.
pub(super) fn is_error(at: u64, environment: &dyn Environment) -> bool {
    let top = if environment.pointer_size() == 4 { u64::from(u32::MAX) } else { u64::MAX };
    at > top - 4095 && at <= top
}

pub(super) fn string(out: &mut Output, at: u64, field: Field, environment: &dyn Environment) {
    let at = truncate(at, environment);
    if let Some(text) = bad_pointer(at, environment) {
        // The kernel gives its own words a precision of sixteen (eight) if there is none, which is enough for them.
        return field.text(out, text);
    }
    let limit = usize::try_from(field.precision).unwrap_or(usize::MAX);
    match read_string(at, limit, out.room().max(1 << 16), environment) {
        Some(text) => field.text(out, &text),
        None => field.text(out, b"(efault)"),
    }
}

/// A NUL-terminated string of at most `limit` bytes; what lies beyond `cap` is not looked at. `None` if memory ends
/// before it does.
pub(super) fn read_string(
    at: u64,
    limit: usize,
    cap: usize,
    environment: &dyn Environment,
) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let limit = limit.min(cap);
    let mut piece = [0; 64];
    while text.len() < limit {
        let here = at.wrapping_add(text.len() as u64);
        // Up to the next 64-byte border, so that a read never crosses into a page that the string does not reach.
        let size = (64 - (here % 64) as usize).min(limit - text.len());
        let piece = piece.get_mut(..size)?;
        if !environment.read(here, piece) {
            return None;
        }
        if let Some(end) = piece.iter().position(|&byte| byte == 0) {
            text.extend_from_slice(piece.get(..end)?);
            return Some(text);
        }
        text.extend_from_slice(piece);
    }
    Some(text)
}
