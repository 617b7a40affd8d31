//! Module parameters: `parse_args()`, and the files below `/sys/module/X/parameters`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::params::PARAM_HARDWARE;
use lkm_module::params::PARAM_UNSAFE;

use crate::Callee;
use crate::Event;
use crate::Host;
use crate::Kernel;
use crate::Lockdown;
use crate::ModuleId;
use crate::Param;
use crate::ParamOps;
use crate::Standard;
use crate::Taints;
use crate::args::Arg;
use crate::args::Args;
use crate::memory::Words;
use crate::numbers::kstrtobool;
use crate::param::fold;
use crate::param_ops;
use crate::param_ops::ParamArray;
use crate::taint::Lockdep;

/// Calls of `free` functions in one unload.
const FREES_MAX: usize = 1 << 16;
/// What a file of sysfs can hold.
const PAGE: usize = 4096;

/// `parse_args()` for a module: sets what the text in general memory says. Every error is logged, the last returned.
pub(crate) fn parse_args<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    text: &[u8],
) -> Result<usize, Errno> {
    let Some(module) = kernel.module(id) else { return Ok(0) };
    let (doing, base) = (module.name.clone(), module.args);
    let mut known = BTreeMap::new();
    for param in &module.params {
        // Of two parameters of one name the first counts.
        known.entry(fold(&param.name)).or_insert_with(|| param.clone());
    }
    let mut args = Args::new(text);
    let mut result = Ok(0);
    let mut count = 0;
    while let Some(arg) = args.next_arg() {
        if arg.value.is_none() && args.text(arg.name) == b"--" {
            if result.is_ok() {
                let rest = args.text(args.rest());
                host.log(
                    Level::Warning,
                    format_args!("{}: parameters '{}' after `--' ignored", Text(&doing), Text(rest)),
                );
            }
            break;
        }
        count += 1;
        let param = known.get(&fold(args.text(arg.name)));
        let set = parse_one(kernel, host, id, param, &mut args, base, arg);
        let (name, value) = (args.text(arg.name), arg.value.map(|value| args.text(value)));
        host.event(&Event::Parameter { name, value, result: set });
        let (doing, name, value) = (Text(&doing), Text(name), Text(value.unwrap_or(&[])));
        match set {
            Ok(()) => continue,
            Err(Errno::ENOENT) => host.log(Level::Err, format_args!("{doing}: Unknown parameter `{name}'")),
            Err(Errno::ENOSPC) => {
                host.log(Level::Err, format_args!("{doing}: `{value}' too large for parameter `{name}'"));
            }
            Err(_) => {
                host.log(Level::Err, format_args!("{doing}: `{value}' invalid for parameter `{name}'"));
            }
        }
        result = set.map(|()| 0);
    }
    if let Some(base) = base {
        // The text is taken apart in place; whoever keeps a pointer into it sees that.
        let _ = host.write(base, args.bytes());
    }
    result.map(|_| count)
}

fn parse_one<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    param: Option<&Param>,
    args: &mut Args,
    base: Option<u64>,
    arg: Arg,
) -> Result<(), Errno> {
    let Some(param) = param else {
        unknown(kernel, host, id, args.text(arg.name), arg.value.map(|value| args.text(value)));
        return Ok(());
    };
    if arg.value.is_none() && !param.ops.noarg() {
        return Err(Errno::EINVAL);
    }
    check_unsafe(kernel, host, param)?;
    let ParamOps::Standard(Standard::Array) = param.ops else {
        let value = arg.value.map(|value| args.text(value));
        let address = base.zip(arg.value).map(|(base, value)| base.wrapping_add(value as u64));
        if let ParamOps::Custom { .. } = param.ops {
            mirror(host, args, base, arg.name, args.rest())?;
        }
        return set_one(kernel, host, id, param, param.ops, param.arg, value, address);
    };
    set_array(kernel, host, id, param, args, base, arg.value.ok_or(Errno::EINVAL)?)
}

/// Copies a part of the text into memory, where a function of the module will read it.
fn mirror<H: Host>(
    host: &mut H,
    args: &Args,
    base: Option<u64>,
    from: usize,
    to: usize,
) -> Result<(), Errno> {
    if let (Some(base), Some(part)) = (base, args.bytes().get(from..to.min(args.bytes().len()))) {
        host.write(base.wrapping_add(from as u64), part)?;
    }
    Ok(())
}

/// A name that the module has no parameter for.
fn unknown<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId, name: &[u8], value: Option<&[u8]>) {
    let (async_probe, dyndbg) = (kernel.profile.rules.async_probe, kernel.profile.config.dynamic_debug);
    let anywhere = kernel.profile.rules.dyndbg_anywhere;
    let Some(module) = kernel.module_mut(id) else { return };
    if async_probe && name == b"async_probe" {
        module.async_probe_requested = value.and_then(|value| kstrtobool(value).ok()).unwrap_or(true);
        return;
    }
    let mut name = name;
    if !dyndbg && (name == b"dyndbg" || anywhere && name.windows(6).any(|part| part == b"dyndbg")) {
        host.log(
            Level::Warning,
            format_args!("dyndbg param is supported only in CONFIG_DYNAMIC_DEBUG builds"),
        );
        return;
    }
    if dyndbg {
        // `ddebug_dyndbg_param_cb()` takes what stands before a dot for a module and cuts it off in place: the line
        // below shows that part.
        let mut halves = name.splitn(2, |&byte| byte == b'.');
        name = halves.next().unwrap_or(name);
        if halves.next().unwrap_or(name) == b"dyndbg" {
            return;
        }
    }
    host.log(
        Level::Warning,
        format_args!("{}: unknown parameter '{}' ignored", Text(&module.name), Text(name)),
    );
}

/// `param_check_unsafe()`
fn check_unsafe<H: Host>(kernel: &mut Kernel, host: &mut H, param: &Param) -> Result<(), Errno> {
    if param.flags & PARAM_HARDWARE != 0 && kernel.options.lockdown >= Lockdown::Integrity {
        kernel.log_lockdown(host, "unsafe module parameters");
        return Err(Errno::EPERM);
    }
    if param.flags & PARAM_UNSAFE != 0 {
        host.log(
            Level::Notice,
            format_args!("Setting dangerous option {} - tainting kernel", Text(&param.name)),
        );
        kernel.add_taint(host, Taints::USER, Lockdep::StillOk);
    }
    Ok(())
}

/// Calls `set` once. `address` is where the value stands in memory, for functions of the module.
#[allow(clippy::too_many_arguments)]
fn set_one<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    param: &Param,
    ops: ParamOps,
    arg: u64,
    value: Option<&[u8]>,
    address: Option<u64>,
) -> Result<(), Errno> {
    let words = Words::of(kernel.profile.arch);
    match ops {
        ParamOps::Standard(standard) => {
            // Nothing that a standard type does can reach the books.
            let mut charps =
                kernel.module_mut(id).map(|module| mem::take(&mut module.charps)).unwrap_or_default();
            let result = param_ops::set(host, words, &mut charps, standard, &param.name, arg, value);
            if let Some(module) = kernel.module_mut(id) {
                module.charps = charps;
            }
            result
        }
        ParamOps::Custom { set: 0, .. } => Err(Errno::EPERM),
        ParamOps::Custom { set, .. } => with_record(kernel, host, param, arg, |kernel, host, record| {
            let value = host.call(kernel, Callee::ParamSet, set, &[address.unwrap_or(0), record]);
            match value.map(|value| value as u32 as i32) {
                Ok(value) if value >= 0 => Ok(()),
                Ok(value) => Err(errno(value)),
                Err(_) => Err(Errno::EFAULT),
            }
        }),
    }
}

/// An error as a negative return value.
fn errno(value: i32) -> Errno {
    u16::try_from(value.unsigned_abs()).map_or(Errno::EINVAL, Errno::from_raw)
}

/// Runs code that wants a `struct kernel_param` whose `arg` may differ from that of the record: elements of arrays
/// get a copy of it.
fn with_record<H: Host, T>(
    kernel: &mut Kernel,
    host: &mut H,
    param: &Param,
    arg: u64,
    run: impl FnOnce(&mut Kernel, &mut H, u64) -> Result<T, Errno>,
) -> Result<T, Errno> {
    if arg == param.arg {
        return run(kernel, host, param.at);
    }
    let words = Words::of(kernel.profile.arch);
    let form = kernel.profile.param_layout();
    let mut record = [0; 64];
    let record = record.get_mut(..form.size).unwrap_or(&mut []);
    host.read(param.at, record)?;
    let copy = host.kmalloc(record.len() as u64).ok_or(Errno::ENOMEM)?;
    let written = host
        .write(copy, record)
        .and_then(|()| words.write_pointer(host, copy.wrapping_add(form.arg as u64), arg));
    let result = match written {
        Ok(()) => run(kernel, host, copy),
        Err(fault) => Err(fault.into()),
    };
    host.kfree(copy);
    result
}

/// `param_array_set()`: the value is cut at its commas, one element at a time.
fn set_array<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    param: &Param,
    args: &mut Args,
    base: Option<u64>,
    value: usize,
) -> Result<(), Errno> {
    let words = Words::of(kernel.profile.arch);
    let array = ParamArray::read(host, words, param.arg)?;
    let ops = ParamOps::read(host, words, array.ops);
    let mut at = value;
    let mut count = 0;
    let set_count = |host: &mut H, count: u32| match array.num {
        0 => Ok(()),
        num => words.write_u32(host, num, count),
    };
    set_count(host, 0)?;
    loop {
        if count == array.max {
            host.log(
                Level::Err,
                format_args!("{}: can only take {} arguments", Text(&param.name), array.max as i32),
            );
            return Err(Errno::EINVAL);
        }
        let (end, last) = args.cut_at_comma(at);
        if let ParamOps::Custom { .. } = ops {
            mirror(host, args, base, at, end + 1)?;
        }
        let address = base.map(|base| base.wrapping_add(at as u64));
        let text = args.text(at);
        set_one(kernel, host, id, param, ops, array.element(count), Some(text), address)?;
        count += 1;
        set_count(host, count)?;
        if last {
            return Ok(());
        }
        at = end + 1;
    }
}

/// `destroy_params()`: the `free` function of every parameter that has one, and the texts of `charp` parameters.
pub(crate) fn destroy_params<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId) {
    let Some(module) = kernel.module_mut(id) else { return };
    let params = mem::take(&mut module.params);
    let words = Words::of(kernel.profile.arch);
    let mut frees = 0;
    for param in &params {
        let (ops, array) = match param.ops {
            ParamOps::Standard(Standard::Array) => {
                let Ok(array) = ParamArray::read(host, words, param.arg) else { continue };
                (ParamOps::read(host, words, array.ops), Some(array))
            }
            ops => (ops, None),
        };
        let ParamOps::Custom { free: free @ 1.., .. } = ops else { continue };
        let count = array.map_or(1, |array| array.count(host, words).unwrap_or(0).min(array.max));
        for index in 0..count {
            frees += 1;
            if frees > FREES_MAX {
                break;
            }
            let arg = array.map_or(param.arg, |array| array.element(index));
            let _ = host.call(kernel, Callee::ParamFree, free, &[arg]);
        }
    }
    // A text whose variable the module has overwritten is lost in the kernel; here it is given back too.
    if let Some(module) = kernel.module_mut(id) {
        for text in mem::take(&mut module.charps) {
            host.kfree(text);
        }
    }
}

/// Reads a parameter as its file in sysfs shows it. Only functions of a module can leave the newline out.
pub(crate) fn show<H: Host>(kernel: &mut Kernel, host: &mut H, param: &Param) -> Result<Vec<u8>, Errno> {
    let words = Words::of(kernel.profile.arch);
    let mut text = match param.ops {
        ParamOps::Standard(Standard::Array) => {
            let array = ParamArray::read(host, words, param.arg)?;
            let ops = ParamOps::read(host, words, array.ops);
            let mut text = Vec::new();
            for index in 0..array.count(host, words)? {
                // The comma takes the place of the newline before it.
                if let Some(last) = text.last_mut() {
                    *last = b',';
                }
                text.extend(show_one(kernel, host, param, ops, array.element(index))?);
                if text.len() >= PAGE {
                    break;
                }
            }
            text
        }
        ops => show_one(kernel, host, param, ops, param.arg)?,
    };
    text.truncate(PAGE - 1);
    Ok(text)
}

fn show_one<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    param: &Param,
    ops: ParamOps,
    arg: u64,
) -> Result<Vec<u8>, Errno> {
    match ops {
        ParamOps::Standard(standard) => {
            let mut text = param_ops::get(host, Words::of(kernel.profile.arch), standard, arg)?;
            text.push(b'\n');
            Ok(text)
        }
        ParamOps::Custom { get: 0, .. } => Err(Errno::EPERM),
        ParamOps::Custom { get, .. } => {
            let page = host.kmalloc(PAGE as u64).ok_or(Errno::ENOMEM)?;
            let result = with_record(kernel, host, param, arg, |kernel, host, record| {
                let value = host.call(kernel, Callee::ParamGet, get, &[page, record]);
                match value.map(|value| value as u32 as i32) {
                    Ok(value) if value < 0 => Err(errno(value)),
                    Ok(size) => {
                        let size = usize::try_from(size).unwrap_or(0).min(PAGE);
                        let mut text = alloc::vec![0; size];
                        host.read(page, &mut text)?;
                        Ok(text)
                    }
                    Err(_) => Err(Errno::EFAULT),
                }
            });
            host.kfree(page);
            result
        }
    }
}

/// Writes a parameter's file in sysfs.
pub(crate) fn store<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    param: &Param,
    text: &[u8],
) -> Result<(), Errno> {
    let settable = match param.ops {
        ParamOps::Standard(_) => true,
        ParamOps::Custom { set, .. } => set != 0,
    };
    if !settable {
        return Err(Errno::EPERM);
    }
    check_unsafe(kernel, host, param)?;
    let text: Vec<u8> = text.iter().copied().take(PAGE - 1).take_while(|&byte| byte != 0).collect();
    let copy = host.kmalloc(text.len() as u64 + 1).ok_or(Errno::ENOMEM)?;
    let mut with_nul = text.clone();
    with_nul.push(0);
    let result = match host.write(copy, &with_nul) {
        Err(fault) => Err(fault.into()),
        Ok(()) => match param.ops {
            ParamOps::Standard(Standard::Array) => {
                // Blanks are no separators here, so that the text goes in as one value.
                let mut args = Args::whole(&text);
                set_array(kernel, host, id, param, &mut args, Some(copy), 0)
            }
            ops => set_one(kernel, host, id, param, ops, param.arg, Some(&text), Some(copy)),
        },
    };
    host.kfree(copy);
    result
}
