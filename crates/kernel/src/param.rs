//! The `__param` table: what parameters a module has.

use alloc::vec::Vec;

use lkm_module::params::ParamLayout;

use crate::Fault;
use crate::Host;
use crate::Kernel;
use crate::Standard;
use crate::memory::Words;
use crate::memory::read_string;

/// `KERNEL_PARAM_OPS_FL_NOARG`
const OPS_NOARG: u32 = 1;
/// Longest parameter name that is read.
const NAME_MAX: usize = 1024;
/// Bytes of all parameter names of a module together.
const NAMES_MAX: usize = 4 << 20;

/// The operations of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamOps {
    /// The kernel's own.
    Standard(Standard),
    /// A module's own `struct kernel_param_ops`: addresses of its functions, 0 for none.
    Custom {
        /// `KERNEL_PARAM_OPS_FL_NOARG` is set.
        noarg: bool,
        /// `set`
        set: u64,
        /// `get`
        get: u64,
        /// `free`
        free: u64,
    },
}

impl ParamOps {
    pub(crate) fn read<H: Host>(host: &mut H, words: Words, ops: u64) -> ParamOps {
        if let Some(standard) = Standard::from_ops(host, ops) {
            return ParamOps::Standard(standard);
        }
        let mut function =
            |index: u64| words.read_pointer(host, ops.wrapping_add(index * words.size())).unwrap_or(0);
        let (set, get, free) = (function(1), function(2), function(3));
        let noarg = words.read_u32(host, ops).is_ok_and(|flags| flags & OPS_NOARG != 0);
        ParamOps::Custom { noarg, set, get, free }
    }

    pub(crate) const fn noarg(&self) -> bool {
        match self {
            ParamOps::Standard(standard) => standard.noarg(),
            ParamOps::Custom { noarg, .. } => *noarg,
        }
    }
}

/// A record of `__param`: `struct kernel_param`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name.
    pub name: Vec<u8>,
    /// Operations.
    pub ops: ParamOps,
    /// Mode of its file; 0 for no file.
    pub perm: u16,
    /// Flags: 1 unsafe, 2 hardware.
    pub flags: u8,
    /// Address of the variable, or of a `struct kparam_array` or `kparam_string`.
    pub arg: u64,
    /// Address of the record.
    pub at: u64,
}

/// A parameter name with `-` and `_` the same.
pub(crate) fn fold(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect()
}

/// `parameq()`: names are equal, with `-` and `_` the same.
pub fn parameq(a: &[u8], b: &[u8]) -> bool {
    fold(a) == fold(b)
}

/// Reads a module's `__param` table. Records that cannot be read are left out.
pub(crate) fn read_params<H: Host>(kernel: &Kernel, host: &mut H, table: (u64, u64)) -> Vec<Param> {
    let words = Words::of(kernel.profile.arch);
    let form = kernel.profile.param_layout();
    let mut params: Vec<Param> = Vec::new();
    let mut names: usize = 0;
    for index in 0..table.1 {
        let at = table.0.wrapping_add(index.wrapping_mul(form.size as u64));
        let Ok(param) = read_param(host, words, form, at) else { continue };
        // Many records of one long name are no honest table.
        names = names.saturating_add(param.name.len());
        if names > NAMES_MAX {
            break;
        }
        params.push(param);
    }
    params
}

fn read_param<H: Host>(host: &mut H, words: Words, form: ParamLayout, at: u64) -> Result<Param, Fault> {
    let mut record = [0; 64];
    let record = record.get_mut(..form.size).unwrap_or(&mut []);
    host.read(at, record)?;
    let bytes = |offset: usize| record.get(offset..).unwrap_or(&[]);
    let pointer = |offset| words.class.pointer(words.endian, bytes(offset));
    let byte = |offset| bytes(offset).first().copied().unwrap_or(0);
    let (name, ops, arg) = (pointer(0), pointer(form.ops), pointer(form.arg));
    let (perm, flags) = (words.endian.u16(bytes(form.perm)), byte(form.flags));
    Ok(Param {
        name: read_string(host, name, NAME_MAX)?,
        ops: ParamOps::read(host, words, ops),
        perm,
        flags,
        arg,
        at,
    })
}
