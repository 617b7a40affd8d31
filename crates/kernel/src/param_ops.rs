//! The standard parameter types: `set` and `get` of the kernel's own `struct kernel_param_ops`.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;

use crate::Fault;
use crate::Host;
use crate::memory::Words;
use crate::memory::read_string;
use crate::numbers::kstrtobool;
use crate::numbers::kstrtoll;
use crate::numbers::kstrtoull;

/// The longest text of a `charp` parameter.
const CHARP_MAX: usize = 1024;

/// A standard parameter type. The kernel exports its operations as `param_ops_NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Standard {
    Byte,
    Short,
    Ushort,
    Int,
    Uint,
    Long,
    Ulong,
    Ullong,
    Hexint,
    Charp,
    Bool,
    BoolEnableOnly,
    Invbool,
    Bint,
    /// `struct kparam_array`
    Array,
    /// `struct kparam_string`
    String,
}

impl Standard {
    /// All with the symbols of their operations.
    pub const ALL: &'static [(Standard, &'static str)] = &[
        (Standard::Byte, "param_ops_byte"),
        (Standard::Short, "param_ops_short"),
        (Standard::Ushort, "param_ops_ushort"),
        (Standard::Int, "param_ops_int"),
        (Standard::Uint, "param_ops_uint"),
        (Standard::Long, "param_ops_long"),
        (Standard::Ulong, "param_ops_ulong"),
        (Standard::Ullong, "param_ops_ullong"),
        (Standard::Hexint, "param_ops_hexint"),
        (Standard::Charp, "param_ops_charp"),
        (Standard::Bool, "param_ops_bool"),
        (Standard::BoolEnableOnly, "param_ops_bool_enable_only"),
        (Standard::Invbool, "param_ops_invbool"),
        (Standard::Bint, "param_ops_bint"),
        (Standard::Array, "param_array_ops"),
        (Standard::String, "param_ops_string"),
    ];

    /// The operations at an address, if they are a standard type's.
    pub(crate) fn from_ops<H: Host>(host: &H, ops: u64) -> Option<Standard> {
        let is = |name: &str| host.kernel_export(name.as_bytes()).is_some_and(|export| export.address == ops);
        Standard::ALL.iter().find(|row| is(row.1)).map(|row| row.0)
    }

    /// A name without a value is accepted (`KERNEL_PARAM_OPS_FL_NOARG`).
    pub const fn noarg(self) -> bool {
        matches!(self, Standard::Bool | Standard::BoolEnableOnly | Standard::Bint)
    }

    /// Bytes of an integer and whether it is signed.
    const fn integer(self, words: Words) -> Option<(u8, bool)> {
        Some(match self {
            Standard::Byte => (1, false),
            Standard::Short => (2, true),
            Standard::Ushort => (2, false),
            Standard::Int | Standard::Bint => (4, true),
            Standard::Uint | Standard::Hexint => (4, false),
            Standard::Long => (words.size() as u8, true),
            Standard::Ulong => (words.size() as u8, false),
            Standard::Ullong => (8, false),
            _ => return None,
        })
    }
}

/// The kernel would have oopsed on such an access; the loader answers EFAULT.
impl From<Fault> for Errno {
    fn from(_: Fault) -> Errno {
        Errno::EFAULT
    }
}

/// Sets a variable of a standard type other than array. `charps` remembers texts in general memory.
pub(crate) fn set<H: Host>(
    host: &mut H,
    words: Words,
    charps: &mut BTreeSet<u64>,
    kind: Standard,
    name: &[u8],
    arg: u64,
    value: Option<&[u8]>,
) -> Result<(), Errno> {
    match kind {
        Standard::Bool => {
            let on = kstrtobool(value.unwrap_or(b"1"))?;
            Ok(host.write(arg, &[u8::from(on)])?)
        }
        Standard::BoolEnableOnly => {
            let on = kstrtobool(value.unwrap_or(b"1"))?;
            let mut was = [0];
            host.read(arg, &mut was)?;
            match (was != [0], on) {
                (true, false) => Err(Errno::EROFS),
                (_, true) => Ok(host.write(arg, &[1])?),
                (false, false) => Ok(()),
            }
        }
        Standard::Bint => {
            let on = kstrtobool(value.unwrap_or(b"1"))?;
            Ok(words.write_u32(host, arg, u32::from(on))?)
        }
        Standard::Invbool => {
            let on = kstrtobool(value.unwrap_or(b"1"))?;
            Ok(host.write(arg, &[u8::from(!on)])?)
        }
        Standard::Charp => set_charp(host, words, charps, name, arg, value.unwrap_or(&[])),
        Standard::String => set_string(host, words, name, arg, value.unwrap_or(&[])),
        // Arrays are taken apart before their elements come here.
        Standard::Array => Err(Errno::EINVAL),
        _ => {
            let Some((size, signed)) = kind.integer(words) else { return Err(Errno::EINVAL) };
            set_integer(host, words, size, signed, arg, value.ok_or(Errno::EINVAL)?)
        }
    }
}

fn set_integer<H: Host>(
    host: &mut H,
    words: Words,
    size: u8,
    signed: bool,
    arg: u64,
    text: &[u8],
) -> Result<(), Errno> {
    let bits = u32::from(size) * 8;
    let value = if signed {
        let value = kstrtoll(text)?;
        let limit = i64::MAX >> (64 - bits);
        if value > limit || value < -limit - 1 {
            return Err(Errno::ERANGE);
        }
        value as u64
    } else {
        let value = kstrtoull(text)?;
        if value > u64::MAX >> (64 - bits) {
            return Err(Errno::ERANGE);
        }
        value
    };
    let e = words.endian;
    match size {
        1 => host.write(arg, &[value as u8])?,
        2 => host.write(arg, &e.u16_bytes(value as u16))?,
        4 => host.write(arg, &e.u32_bytes(value as u32))?,
        _ => host.write(arg, &e.u64_bytes(value))?,
    }
    Ok(())
}

fn set_charp<H: Host>(
    host: &mut H,
    words: Words,
    charps: &mut BTreeSet<u64>,
    name: &[u8],
    arg: u64,
    text: &[u8],
) -> Result<(), Errno> {
    if text.len() > CHARP_MAX {
        host.log(Level::Err, format_args!("{}: string parameter too long", Text(name)));
        return Err(Errno::ENOSPC);
    }
    free_charp(host, words, charps, arg);
    let Some(copy) = host.kmalloc(text.len() as u64 + 1) else {
        words.write_pointer(host, arg, 0)?;
        return Err(Errno::ENOMEM);
    };
    charps.insert(copy);
    host.write(copy, text)?;
    host.write(copy.wrapping_add(text.len() as u64), &[0])?;
    Ok(words.write_pointer(host, arg, copy)?)
}

/// `maybe_kfree_parameter()`: frees the text of a `charp` variable if a parameter had set it.
fn free_charp<H: Host>(host: &mut H, words: Words, charps: &mut BTreeSet<u64>, arg: u64) {
    let Ok(text) = words.read_pointer(host, arg) else { return };
    if charps.remove(&text) {
        host.kfree(text);
    }
}

fn set_string<H: Host>(host: &mut H, words: Words, name: &[u8], arg: u64, text: &[u8]) -> Result<(), Errno> {
    let maxlen = words.read_u32(host, arg)?;
    let string = words.read_pointer(host, arg.wrapping_add(words.size()))?;
    if text.len() as u64 >= u64::from(maxlen) {
        let chars = maxlen.wrapping_sub(1);
        host.log(Level::Err, format_args!("{}: string doesn't fit in {chars} chars.", Text(name)));
        return Err(Errno::ENOSPC);
    }
    host.write(string, text)?;
    Ok(host.write(string.wrapping_add(text.len() as u64), &[0])?)
}

/// `struct kparam_array`
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParamArray {
    pub(crate) max: u32,
    pub(crate) elemsize: u32,
    /// Address of the counter; 0 for none.
    pub(crate) num: u64,
    pub(crate) ops: u64,
    pub(crate) elem: u64,
}

impl ParamArray {
    pub(crate) fn read<H: Host>(host: &mut H, words: Words, at: u64) -> Result<ParamArray, Fault> {
        let pointer = |index: u64| at.wrapping_add(8 + index * words.size());
        Ok(ParamArray {
            max: words.read_u32(host, at)?,
            elemsize: words.read_u32(host, at.wrapping_add(4))?,
            num: words.read_pointer(host, pointer(0))?,
            ops: words.read_pointer(host, pointer(1))?,
            elem: words.read_pointer(host, pointer(2))?,
        })
    }

    /// Elements that are set, as far as the module counts them.
    pub(crate) fn count<H: Host>(&self, host: &mut H, words: Words) -> Result<u32, Fault> {
        if self.num == 0 { Ok(self.max) } else { words.read_u32(host, self.num) }
    }

    /// Address of an element.
    pub(crate) fn element(&self, index: u32) -> u64 {
        self.elem.wrapping_add(u64::from(index) * u64::from(self.elemsize))
    }
}

/// A variable of a standard type other than array as text, without a newline.
pub(crate) fn get<H: Host>(host: &mut H, words: Words, kind: Standard, arg: u64) -> Result<Vec<u8>, Errno> {
    let letter = |on: bool| Vec::from(if on { &b"Y"[..] } else { b"N" });
    match kind {
        Standard::Bool | Standard::BoolEnableOnly | Standard::Invbool => {
            let mut byte = [0];
            host.read(arg, &mut byte)?;
            Ok(letter((byte != [0]) != (kind == Standard::Invbool)))
        }
        Standard::Charp => {
            let text = words.read_pointer(host, arg)?;
            if text == 0 {
                return Ok(Vec::from(&b"(null)"[..]));
            }
            Ok(read_string(host, text, 4095)?)
        }
        Standard::String => {
            let string = words.read_pointer(host, arg.wrapping_add(words.size()))?;
            Ok(read_string(host, string, 4095)?)
        }
        Standard::Array => Err(Errno::EINVAL),
        _ => {
            let Some((size, signed)) = kind.integer(words) else { return Err(Errno::EINVAL) };
            let mut bytes = [0; 8];
            let bytes = bytes.get_mut(..usize::from(size)).unwrap_or(&mut []);
            host.read(arg, bytes)?;
            let e = words.endian;
            let value = match size {
                1 => u64::from(bytes.first().copied().unwrap_or(0)),
                2 => u64::from(e.u16(bytes)),
                4 => u64::from(e.u32(bytes)),
                _ => e.u64(bytes),
            };
            let text: String = match (kind, signed) {
                (Standard::Hexint, _) => format!("{value:#08x}"),
                (_, true) => {
                    let shift = 64 - u32::from(size) * 8;
                    format!("{}", (value << shift) as i64 >> shift)
                }
                (_, false) => format!("{value}"),
            };
            Ok(text.into_bytes())
        }
    }
}
