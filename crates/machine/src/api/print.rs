//! `printk` and everything else that formats text.

use core::cell::RefCell;

use lkm_kernel::Kernel;
use lkm_module::Level;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::int;
use crate::abi::Arguments;
use crate::abi::VaList;
use crate::books;
use crate::cpu::Cpu;
use crate::heap::Origin;
use crate::machine::Machine;
use crate::printk;
use crate::printk::Environment;
use crate::printk::Nested;
use crate::printk::Output;
use crate::printk::Source;
use crate::printk::Structures;
use crate::printk::Symbol;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("_printk", |call| {
        let format = call.word();
        let text = call.format_arguments(format, RECORD);
        Ok(call.print(&text))
    }),
    call("printk", |call| {
        let format = call.word();
        let text = call.format_arguments(format, RECORD);
        Ok(call.print(&text))
    }),
    call("_printk_deferred", |call| {
        let format = call.word();
        let text = call.format_arguments(format, RECORD);
        Ok(call.print(&text))
    }),
    call("vprintk", |call| {
        let (format, list) = (call.word(), call.word());
        let text = call.format_list(format, list, RECORD);
        Ok(call.print(&text))
    }),
    call("vprintk_emit", |call| {
        let (_, level, _) = (call.i32(), call.i32(), call.word());
        let (format, list) = (call.word(), call.word());
        let mut text = call.format_list(format, list, RECORD);
        if let Ok(level @ 0..=7) = u8::try_from(level) {
            text.splice(0..0, [1, b'0' + level]);
        }
        Ok(call.print(&text))
    }),
    call("__dynamic_pr_debug", |call| {
        // The descriptor is only called through when a query has switched it on.
        let (_, format) = (call.word(), call.word());
        let mut text = call.format_arguments(format, RECORD);
        text.splice(0..0, *b"\x017");
        Ok(call.print(&text))
    }),
    call("__printk_ratelimit", |_| Ok(1)),
    call("printk_timed_ratelimit", |_| Ok(1)),
    call("___ratelimit", |_| Ok(1)),
    call("__warn_printk", |call| {
        let format = call.word();
        call.print(b"\x014------------[ cut here ]------------\n");
        let text = call.format_arguments(format, RECORD);
        call.print(&text);
        Ok(0)
    }),
    call("warn_slowpath_fmt", |call| {
        // (file, line, taint, format, ...)
        let (file, line, _, format) = (call.word(), call.i32(), call.u32(), call.word());
        call.print(b"\x014------------[ cut here ]------------\n");
        let caller = call.site();
        let file =
            if file == 0 { String::new() } else { format!("{}:{line} ", call.machine.read_name(file)) };
        let head = format!("WARNING: CPU: 0 PID: {} at {file}{}", super::data::PID, caller.symbol);
        call.machine.printk(Level::Warning, head);
        if format != 0 {
            let text = call.format_arguments(format, RECORD);
            call.print(&text);
        }
        let from = call.machine.caller();
        call.machine.warn_trailer(call.kernel, from);
        Ok(0)
    }),
    call("panic", |call| {
        let format = call.word();
        let text = call.format_arguments(format, RECORD);
        let text = format!("Kernel panic - not syncing: {}", lkm_module::Text(&text));
        Err(call.machine.panic(call.kernel, text))
    }),
    call("dump_stack", |call| {
        let from = call.machine.caller();
        call.machine.warn_trailer(call.kernel, from);
        Ok(0)
    }),
    call("sprintf", |call| {
        let (buffer, format) = (call.word(), call.word());
        let text = call.format_arguments(format, TEXT_MAX);
        Ok(call.store_text(buffer, u64::MAX, &text, text.len() as u64))
    }),
    call("vsprintf", |call| {
        let (buffer, format, list) = (call.word(), call.word(), call.word());
        let text = call.format_list(format, list, TEXT_MAX);
        Ok(call.store_text(buffer, u64::MAX, &text, text.len() as u64))
    }),
    call("snprintf", |call| {
        let (buffer, size, format) = (call.word(), call.word(), call.word());
        let (text, length) = call.format_counted(format, None, size);
        Ok(call.store_text(buffer, size, &text, length))
    }),
    call("vsnprintf", |call| {
        let (buffer, size, format, list) = (call.word(), call.word(), call.word(), call.word());
        let (text, length) = call.format_counted(format, Some(list), size);
        Ok(call.store_text(buffer, size, &text, length))
    }),
    call("scnprintf", |call| {
        let (buffer, size, format) = (call.word(), call.word(), call.word());
        let (text, length) = call.format_counted(format, None, size);
        call.store_text(buffer, size, &text, length);
        Ok(text.len() as u64)
    }),
    call("vscnprintf", |call| {
        let (buffer, size, format, list) = (call.word(), call.word(), call.word(), call.word());
        let (text, length) = call.format_counted(format, Some(list), size);
        call.store_text(buffer, size, &text, length);
        Ok(text.len() as u64)
    }),
    call("sysfs_emit", |call| {
        let (buffer, format) = (call.word(), call.word());
        let (text, length) = call.format_counted(format, None, 4096);
        call.store_text(buffer, 4096, &text, length);
        Ok(text.len() as u64)
    }),
    call("sysfs_emit_at", |call| {
        let (buffer, at, format) = (call.word(), call.i32(), call.word());
        let Some(room) = u64::try_from(at).ok().and_then(|at| 4096_u64.checked_sub(at)) else { return Ok(0) };
        let (text, length) = call.format_counted(format, None, room);
        call.store_text(buffer.wrapping_add(4096 - room), room, &text, length);
        Ok(text.len() as u64)
    }),
    call("kasprintf", |call| {
        let (_, format) = (call.word(), call.word());
        let text = call.format_arguments(format, TEXT_MAX);
        call.duplicate(&text)
    }),
    call("kvasprintf", |call| {
        let (_, format, list) = (call.word(), call.word(), call.word());
        let text = call.format_list(format, list, TEXT_MAX);
        call.duplicate(&text)
    }),
    call("kvasprintf_const", |call| {
        let (_, format, list) = (call.word(), call.word(), call.word());
        let text = call.format_list(format, list, TEXT_MAX);
        call.duplicate(&text)
    }),
    call("devm_kasprintf", |call| {
        let (_, _, format) = (call.word(), call.word(), call.word());
        let text = call.format_arguments(format, TEXT_MAX);
        call.duplicate(&text)
    }),
    call("_dev_printk", |call| {
        let (level, device, format) = (call.word(), call.word(), call.word());
        let level = call.machine.read_string(level, 2);
        Ok(call.print_device(&level, device, format))
    }),
    call("_dev_emerg", |call| call.device_message(b'0')),
    call("_dev_alert", |call| call.device_message(b'1')),
    call("_dev_crit", |call| call.device_message(b'2')),
    call("_dev_err", |call| call.device_message(b'3')),
    call("_dev_warn", |call| call.device_message(b'4')),
    call("_dev_notice", |call| call.device_message(b'5')),
    call("_dev_info", |call| call.device_message(b'6')),
    call("dev_err_probe", |call| {
        let (device, error, format) = (call.word(), call.long(), call.word());
        let mut head = format!("error {error}: ").into_bytes();
        let text = call.format_arguments(format, RECORD);
        head.extend_from_slice(&text);
        let name = call.machine.device_name(device);
        call.print(&[b"\x013", name.as_bytes(), b": ", &head].concat());
        Ok(error.cast_unsigned())
    }),
    call("__dynamic_dev_dbg", |call| {
        let (_, device, format) = (call.word(), call.word(), call.word());
        Ok(call.print_device(b"\x017", device, format))
    }),
    call("print_hex_dump", |call| {
        let (level, prefix, kind, row, group) =
            (call.word(), call.word(), call.i32(), call.i32(), call.i32());
        let (buffer, length, ascii) = (call.word(), call.word(), call.u32());
        call.hex_dump(level, prefix, kind, row, group, buffer, length, ascii & 0xff != 0);
        Ok(0)
    }),
];

/// Bytes that one record of the log is formatted into.
const RECORD: usize = 2048;
/// Longest text that a function without a size may make.
pub(crate) const TEXT_MAX: usize = 1 << 20;

/// Arguments of the language in the machine.
struct GuestSource<'a, A> {
    arguments: A,
    cpu: &'a dyn Cpu,
}

impl<A: Arguments> Source for GuestSource<'_, A> {
    fn word(&mut self) -> u64 {
        self.arguments.word(self.cpu)
    }

    fn double_word(&mut self) -> u64 {
        self.arguments.double_word(self.cpu)
    }
}

/// The kernel that the language is rendered in. Reads of objects that are freed or too short are noted.
pub(crate) struct Guest<'a> {
    machine: &'a Machine,
    kernel: &'a Kernel,
    bad: RefCell<Vec<(u64, u64)>>,
}

impl Environment for Guest<'_> {
    fn pointer_size(&self) -> u8 {
        self.machine.layout.pointer as u8
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        if !self.machine.heap.allows(address, bytes.len() as u64) {
            // Strings are read in pieces: what matters is the part up to their end.
            let end = self
                .machine
                .cpu
                .read(address, bytes)
                .is_ok()
                .then(|| bytes.iter().position(|&byte| byte == 0));
            let used = end.flatten().map_or(bytes.len(), |end| end + 1) as u64;
            if !self.machine.heap.allows(address, used) {
                let first =
                    (0..used).find(|&n| !self.machine.heap.allows(address.wrapping_add(n), 1)).unwrap_or(0);
                self.bad.borrow_mut().push((address.wrapping_add(first), used - first));
            }
        }
        self.machine.cpu.read(address, bytes).is_ok()
    }

    fn symbol(&self, address: u64) -> Option<Symbol> {
        books::symbol(self.machine, self.kernel, address)
    }

    fn hash(&self, address: u64) -> u32 {
        // Any fixed mixing will do: the same address must give the same number, and must not be seen in it.
        let mut value = address ^ 0x9e37_79b9_7f4a_7c15;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ value >> 31) as u32
    }

    fn kptr_restrict(&self) -> u8 {
        0
    }

    fn nested(&self, address: u64) -> Option<Nested<'_>> {
        let size = self.machine.layout.pointer;
        let mut probe = [0];
        self.machine.cpu.read(address, &mut probe).ok()?;
        let format = self.machine.read_word(address);
        let list = self.machine.read_word(address.wrapping_add(size));
        let arguments = VaList::from_pointer(self.machine.arch, self.machine.cpu.as_ref(), list);
        Some(Nested {
            format: self.machine.read_string(format, TEXT_MAX),
            arguments: Box::new(GuestSource { arguments, cpu: self.machine.cpu.as_ref() }),
        })
    }

    fn structures(&self) -> &'static Structures {
        Structures::of(self.machine.arch)
    }

    fn is_device_tree(&self, operations: u64) -> bool {
        self.machine.slots.variable("of_fwnode_ops") == Some(operations)
    }
}

impl Call<'_> {
    fn render(&mut self, format: u64, limit: usize, mut arguments: impl Arguments) -> (Vec<u8>, u64) {
        let format = self.machine.read_string(format, TEXT_MAX);
        let mut out = Output::new(limit);
        let guest = Guest { machine: self.machine, kernel: self.kernel, bad: RefCell::default() };
        struct Lent<'a, A>(&'a mut A, &'a dyn Cpu);
        impl<A: Arguments> Source for Lent<'_, A> {
            fn word(&mut self) -> u64 {
                self.0.word(self.1)
            }
            fn double_word(&mut self) -> u64 {
                self.0.double_word(self.1)
            }
        }
        let mut source = Lent(&mut arguments, guest.machine.cpu.as_ref());
        printk::format(&mut out, &format, &mut source, &guest);
        let bad = guest.bad.into_inner();
        for (address, size) in bad.into_iter().take(4) {
            self.report_access(address, size, false);
        }
        for complaint in out.complaints() {
            if self.machine.log.complains(*complaint) {
                self.machine.printk(Level::Warning, "------------[ cut here ]------------");
                self.machine.printk(Level::Warning, complaint.to_string());
                let from = self.machine.caller();
                self.machine.warn_trailer(self.kernel, from);
            }
        }
        let length = out.length() as u64;
        (out.into_bytes(), length)
    }

    /// Formats with the arguments of this call that have not been taken.
    pub(crate) fn format_arguments(&mut self, format: u64, limit: usize) -> Vec<u8> {
        let arguments = self.arguments;
        self.render(format, limit, arguments).0
    }

    /// Formats with a `va_list`.
    pub(crate) fn format_list(&mut self, format: u64, list: u64, limit: usize) -> Vec<u8> {
        let arguments = VaList::from_argument(self.machine.arch, self.machine.cpu.as_ref(), list);
        self.render(format, limit, arguments).0
    }

    /// Formats for a buffer of `size` bytes with its NUL: the text that fits and the length of the whole.
    pub(crate) fn format_counted(&mut self, format: u64, list: Option<u64>, size: u64) -> (Vec<u8>, u64) {
        let limit = usize::try_from(size.saturating_sub(1)).unwrap_or(usize::MAX).min(TEXT_MAX);
        match list {
            Some(list) => {
                let arguments = VaList::from_argument(self.machine.arch, self.machine.cpu.as_ref(), list);
                self.render(format, limit, arguments)
            }
            None => {
                let arguments = self.arguments;
                self.render(format, limit, arguments)
            }
        }
    }

    /// Takes a text into the log: its length.
    pub(crate) fn print(&mut self, text: &[u8]) -> u64 {
        self.machine.log.store(self.machine.clock, text);
        text.len() as u64
    }

    /// Writes a text and a NUL to a buffer, if it has room for anything: the whole length as `int`.
    fn store_text(&mut self, buffer: u64, size: u64, text: &[u8], length: u64) -> u64 {
        if size > 0 {
            let mut bytes = text.to_vec();
            bytes.push(0);
            self.write_checked(buffer, &bytes);
        }
        int(i32::try_from(length).unwrap_or(i32::MAX))
    }

    /// A copy of a text in slab memory, with a NUL.
    pub(crate) fn duplicate(&mut self, text: &[u8]) -> Done {
        let site = self.site();
        let Some(address) = self.machine.heap.allocate(text.len() as u64 + 1, 8, Origin::Kmalloc, site)
        else {
            return Ok(0);
        };
        let _ = self.machine.cpu.write(address, text);
        let _ = self.machine.cpu.write(address.wrapping_add(text.len() as u64), &[0]);
        Ok(address)
    }

    fn device_message(&mut self, level: u8) -> Done {
        let (device, format) = (self.word(), self.word());
        self.print_device(&[1, level], device, format);
        Ok(0)
    }

    fn print_device(&mut self, level: &[u8], device: u64, format: u64) -> u64 {
        let text = self.format_arguments(format, RECORD);
        let name = self.machine.device_name(device);
        self.print(&[level, name.as_bytes(), b": ", &text].concat())
    }

    #[allow(clippy::too_many_arguments, reason = "the kernel's own parameter list")]
    fn hex_dump(
        &mut self,
        level: u64,
        prefix: u64,
        kind: i32,
        row: i32,
        group: i32,
        buffer: u64,
        length: u64,
        ascii: bool,
    ) {
        const ROWS_MAX: u64 = 4096;
        let level = self.machine.read_string(level, 2);
        let prefix = self.machine.read_string(prefix, 256);
        let row = if row == 32 { 32 } else { 16 };
        let group = usize::try_from(group).ok().filter(|group| matches!(group, 1 | 2 | 4 | 8)).unwrap_or(1);
        let mut done = 0;
        while done < length.min(ROWS_MAX * row) {
            let count = (length - done).min(row);
            let mut bytes = vec![0; count as usize];
            if !self.read_checked(buffer.wrapping_add(done), &mut bytes) {
                return;
            }
            let mut line = level.clone();
            line.extend_from_slice(&prefix);
            match kind {
                1 => line.extend_from_slice(format!("{:016x}: ", buffer.wrapping_add(done)).as_bytes()),
                2 => line.extend_from_slice(format!("{done:08x}: ").as_bytes()),
                _ => {}
            }
            let group = if (count as usize).is_multiple_of(group) { group } else { 1 };
            let words: Vec<String> = bytes
                .chunks(group)
                .map(|word| word.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>())
                .collect();
            let hex = words.join(" ");
            line.extend_from_slice(hex.as_bytes());
            if ascii {
                let width = row as usize * 2 + row as usize / group;
                line.extend(core::iter::repeat_n(b' ', (width + 1).saturating_sub(hex.len())));
                line.extend(bytes.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { byte } else { b'.' }));
            }
            line.push(b'\n');
            self.print(&line);
            done += count;
        }
    }
}

impl Machine {
    /// The driver and name of a `struct device` as its messages begin.
    pub(crate) fn device_name(&self, device: u64) -> String {
        if device == 0 {
            return String::from("(NULL device *)");
        }
        let layout = self.layout;
        let name_of = |at: u64| if at == 0 { String::new() } else { self.read_name(at) };
        // `kobj.name` is the first field; before registration there may be `init_name` only.
        let mut name = name_of(self.read_word(device));
        if name.is_empty() {
            name = name_of(self.read_word(device.wrapping_add(layout.device.init_name)));
        }
        let field = |offset: u64| self.read_word(device.wrapping_add(offset));
        // Each of these structures begins with a pointer to its name.
        let driver = [layout.device.driver, layout.device.bus, layout.device.class]
            .into_iter()
            .map(field)
            .find(|&at| at != 0)
            .map_or(String::new(), |at| name_of(self.read_word(at)));
        format!("{driver} {name}")
    }
}
