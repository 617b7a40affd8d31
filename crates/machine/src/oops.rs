//! Exceptions in guest code: warnings that the kernel survives, fix-ups, and oopses in the architecture's own words.

use iced_x86::Decoder;
use iced_x86::DecoderOptions;
use iced_x86::Formatter;
use iced_x86::NasmFormatter;
use lkm_kernel::Kernel;
use lkm_link::Arch;
use lkm_module::Level;
use yaxpeax_arch::Decoder as _;
use yaxpeax_arch::LengthedInstruction as _;
use yaxpeax_arch::U8Reader;

use crate::api::data::PID;
use crate::books;
use crate::cpu::Attempt;
use crate::cpu::Exit;
use crate::cpu::Register;
use crate::machine::Machine;
use crate::report::Oops;
use crate::report::Stop;
use crate::report::StopKind;

/// Return addresses shown.
const BACKTRACE_MAX: usize = 16;
/// Bytes of stack that are searched for them.
const SCAN: u64 = 2048;
/// Oopses kept.
const OOPSES_MAX: usize = 64;

const X86_NAMES: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];
const ARM_NAMES: [&str; 16] =
    ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "fp", "ip", "sp", "lr", "pc"];

/// An entry of `__bug_table`.
struct Bug {
    file: String,
    line: u16,
    warning: bool,
    /// The line of dashes has been printed by the code itself.
    no_cut_here: bool,
    /// It is said once, and has been.
    silent: bool,
}

impl Machine {
    /// What the kernel does about an exception: go on, or oops.
    pub(crate) fn exception(&mut self, kernel: &mut Kernel, exit: Exit) -> Result<(), Stop> {
        let pc = self.cpu.get(Register::Pc);
        if exit == Exit::Undefined {
            if let Some(bug) = self.find_bug(kernel, pc) {
                return self.bug(kernel, pc, &bug);
            }
        } else if matches!(exit, Exit::Fault { attempt: Attempt::Read | Attempt::Write, .. })
            && let Some(fixup) = self.fixup(kernel, pc)
        {
            self.cpu.set(Register::Pc, fixup);
            return Ok(());
        }
        if let Exit::Fault { attempt: Attempt::Read | Attempt::Write, address, .. } = exit
            && let Some(n) = self.slots.stand_in_at(address)
        {
            let name = lkm_module::Text(self.slots.stand_in_name(n)).to_string();
            return Err(self.stop(kernel, StopKind::UnknownVariable { name }));
        }
        let (title, details) = self.words(exit);
        Err(self.oops(kernel, title, details))
    }

    /// A fault inside a kernel function, at whose first instruction the processor stands.
    pub(crate) fn fault_in_kernel(&mut self, kernel: &mut Kernel, exit: Exit) -> Stop {
        let (title, details) = self.words(exit);
        self.oops(kernel, title, details)
    }

    /// `panic()` and what ends in it.
    pub(crate) fn panic(&mut self, kernel: &mut Kernel, title: String) -> Stop {
        // The processor stands in the function that was called: show the caller.
        self.oops(kernel, title, Vec::new())
    }

    /// The entry of a module's `__bug_table` for an address. Linux 6.1: x86_64 has 12 bytes with offsets from the
    /// entry's own fields, ARM 12 bytes with addresses.
    fn find_bug(&mut self, kernel: &Kernel, pc: u64) -> Option<Bug> {
        const SIZE: u64 = 12;
        const WARNING: u16 = 1;
        const ONCE: u16 = 2;
        const DONE: u16 = 4;
        const NO_CUT_HERE: u16 = 8;
        let (table, size) = books::section(kernel, pc, b"__bug_table")?;
        let code: &[u8] = match self.arch {
            Arch::X86_64 => &[0x0f, 0x0b],
            Arch::Arm => &[0xf2, 0x01, 0xf0, 0xe7],
        };
        let mut found = [0; 4];
        let found = found.get_mut(..code.len())?;
        self.cpu.read(pc, found).ok()?;
        if found != code {
            return None;
        }
        let relative = self.arch == Arch::X86_64;
        let field = |machine: &Machine, at: u64| {
            let value = machine.read_u32(at);
            if relative {
                at.wrapping_add(i64::from(value.cast_signed()).cast_unsigned())
            } else {
                u64::from(value)
            }
        };
        let entry = (0..size / SIZE).map(|n| table + n * SIZE).find(|&entry| field(self, entry) == pc)?;
        let words = self.read_u32(entry + 8);
        let (line, flags) = (words as u16, (words >> 16) as u16);
        let once = flags & ONCE != 0 && flags & WARNING != 0;
        if once {
            let words = u32::from(line) | u32::from(flags | DONE) << 16;
            let _ = self.cpu.write(entry + 8, &words.to_le_bytes());
        }
        Some(Bug {
            file: self.read_name(field(self, entry + 4)),
            line,
            warning: flags & WARNING != 0,
            no_cut_here: flags & NO_CUT_HERE != 0,
            silent: once && flags & DONE != 0,
        })
    }

    fn bug(&mut self, kernel: &mut Kernel, pc: u64, bug: &Bug) -> Result<(), Stop> {
        if !bug.warning {
            self.printk(Level::Crit, "------------[ cut here ]------------");
            self.printk(Level::Crit, format!("kernel BUG at {}:{}!", bug.file, bug.line));
            let title = match self.arch {
                Arch::X86_64 => "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
                Arch::Arm => "Internal error: Oops - BUG: 0 [#1] SMP ARM",
            };
            return Err(self.oops(kernel, title.to_owned(), Vec::new()));
        }
        if !bug.silent {
            if !bug.no_cut_here {
                self.printk(Level::Warning, "------------[ cut here ]------------");
            }
            let at = self.describe(kernel, pc);
            let head = format!("WARNING: CPU: 0 PID: {PID} at {}:{} {at}", bug.file, bug.line);
            self.printk(Level::Warning, head);
            self.warn_trailer(kernel, pc);
        }
        let size = if self.arch == Arch::X86_64 { 2 } else { 4 };
        self.cpu.set(Register::Pc, pc.wrapping_add(size));
        Ok(())
    }

    /// Registers and callers, as `__warn()` shows them.
    pub(crate) fn warn_trailer(&mut self, kernel: &mut Kernel, from: u64) {
        let linked = books::modules_linked_in(kernel);
        self.printk(Level::Warning, linked);
        self.printk(Level::Warning, self.task_line());
        let at = self.describe(kernel, from);
        self.printk(Level::Warning, format!("Call Trace: {at}"));
        for symbol in self.backtrace(kernel) {
            self.printk(Level::Warning, format!(" {symbol}"));
        }
        self.printk(Level::Warning, "---[ end trace 0000000000000000 ]---");
    }

    /// What `dump_stack()` shows while the loader itself runs, which is no code of the guest.
    pub(crate) fn show_loader(&mut self, kernel: &Kernel) {
        let tainted = kernel.taints.print_tainted();
        let (comm, release) = (&self.config.comm, &self.config.release);
        let task = format!("CPU: 0 PID: {PID} Comm: {comm} {tainted} {release} #1");
        for line in [task.as_str(), "Call Trace:", " load_module"] {
            self.printk(Level::Warning, line);
        }
    }

    /// Where a module's exception table continues after a fault: x86_64 has entries of three offsets, ARM of two
    /// addresses.
    fn fixup(&self, kernel: &Kernel, pc: u64) -> Option<u64> {
        let (table, count) = books::exception_table(kernel, pc)?;
        let relative = self.arch == Arch::X86_64;
        let size = if relative { 12 } else { 8 };
        let field = |at: u64| {
            let value = self.read_u32(at);
            if relative {
                at.wrapping_add(i64::from(value.cast_signed()).cast_unsigned())
            } else {
                u64::from(value)
            }
        };
        let entry = (0..count.min(1 << 20)).map(|n| table + n * size).find(|&entry| field(entry) == pc)?;
        Some(field(entry + 4))
    }

    /// The kernel's words for an exception: the first line and those that follow it.
    fn words(&self, exit: Exit) -> (String, Vec<String>) {
        match self.arch {
            Arch::X86_64 => x86_words(exit),
            Arch::Arm => arm_words(exit),
        }
    }

    fn task_line(&self) -> String {
        format!("CPU: 0 PID: {PID} Comm: {} {} #1", self.config.comm, self.config.release)
    }

    fn registers(&self) -> Vec<(&'static str, u64)> {
        let names = match self.arch {
            Arch::X86_64 => X86_NAMES,
            Arch::Arm => ARM_NAMES,
        };
        let mut registers: Vec<_> =
            (0_u8..).zip(names).map(|(n, name)| (name, self.cpu.get(Register::General(n)))).collect();
        if self.arch == Arch::X86_64 {
            registers.push(("RIP", self.cpu.get(Register::Pc)));
            registers.push(("EFLAGS", self.cpu.get(Register::Flags)));
        } else {
            registers.push(("psr", self.cpu.get(Register::Flags)));
        }
        registers
    }

    /// Return addresses on the stack, as far as they belong to modules.
    fn backtrace(&self, kernel: &Kernel) -> Vec<String> {
        let mut found = Vec::new();
        let mut addresses = Vec::new();
        if self.arch == Arch::Arm {
            addresses.push(self.cpu.get(Register::Link));
        }
        let sp = self.cpu.get(Register::Sp);
        let step = self.layout.pointer;
        let end = sp.saturating_add(SCAN).min(self.plan.stack.end);
        let mut at = sp & !(step - 1);
        while at < end && self.plan.stack.contains(&at) {
            addresses.push(self.read_word(at));
            at += step;
        }
        for address in addresses {
            // A return address stands behind a call, never at the start of a function.
            if let Some(symbol) = books::module_symbol(kernel, address)
                && symbol.offset > 0
                && self.cpu.access(address).is_some_and(|access| access.execute)
            {
                found.push(self.describe(kernel, address));
            }
            if found.len() >= BACKTRACE_MAX {
                break;
            }
        }
        found
    }

    /// The instruction at an address in the syntax of its field's assembler.
    fn disassemble(&self, pc: u64) -> Option<String> {
        let mut code = [0; 15];
        let length = (0..code.len())
            .take_while(|&n| {
                code.get_mut(n..=n).is_some_and(|byte| self.cpu.read(pc.wrapping_add(n as u64), byte).is_ok())
            })
            .count();
        let code = code.get(..length)?;
        match self.arch {
            Arch::X86_64 => {
                let instruction = Decoder::with_ip(64, code, pc, DecoderOptions::NONE).decode();
                if instruction.is_invalid() {
                    return None;
                }
                let mut text = String::new();
                NasmFormatter::new().format(&instruction, &mut text);
                Some(text)
            }
            Arch::Arm => {
                // What BUG() is made of has no mnemonic in the decoder.
                let word = u32::from_le_bytes(*code.first_chunk::<4>()?);
                if word & 0xfff0_00f0 == 0xe7f0_00f0 {
                    return Some(format!("udf #{}", word >> 4 & 0xfff0 | word & 0xf));
                }
                let decoder = yaxpeax_arm::armv7::InstDecoder::armv7();
                let instruction = decoder.decode(&mut U8Reader::new(code)).ok()?;
                let _ = instruction.len();
                Some(instruction.to_string())
            }
        }
    }

    fn code_line(&self, pc: u64) -> String {
        let mut text = String::from("Code:");
        match self.arch {
            Arch::X86_64 => {
                // 43 bytes before the instruction, as the kernel shows them, and 20 behind.
                for at in pc.wrapping_sub(43)..pc.wrapping_add(21) {
                    let mut byte = [0];
                    let shown = match self.cpu.read(at, &mut byte) {
                        Ok(()) => format!("{:02x}", byte[0]),
                        Err(_) => String::from("??"),
                    };
                    text.push_str(&if at == pc { format!(" <{shown}>") } else { format!(" {shown}") });
                }
            }
            Arch::Arm => {
                for n in 0..5 {
                    let at = pc.wrapping_sub(16).wrapping_add(n * 4);
                    let mut word = [0; 4];
                    let shown = match self.cpu.read(at, &mut word) {
                        Ok(()) => format!("{:08x}", u32::from_le_bytes(word)),
                        Err(_) => String::from("bad PC value"),
                    };
                    text.push_str(&if n == 4 { format!(" ({shown})") } else { format!(" {shown}") });
                }
            }
        }
        text
    }

    /// Writes an oops to the log, keeps it and ends what runs in the guest. The machine itself goes on.
    fn oops(&mut self, kernel: &mut Kernel, title: String, details: Vec<String>) -> Stop {
        let pc = self.cpu.get(Register::Pc);
        let oops = Oops {
            title: title.clone(),
            pc,
            at: self.describe(kernel, pc),
            instruction: self.disassemble(pc),
            registers: self.registers(),
            backtrace: self.backtrace(kernel),
        };
        self.printk(Level::Alert, title);
        let mut lines = details;
        let linked = books::modules_linked_in(kernel);
        let register = |name: &str| oops.registers.iter().find(|row| row.0 == name).map_or(0, |row| row.1);
        match self.arch {
            Arch::X86_64 => {
                lines.push(self.task_line());
                lines.push(format!("RIP: 0010:{}", oops.at));
                lines.push(self.code_line(pc));
                lines.push(format!("RSP: 0018:{:016x} EFLAGS: {:08x}", register("RSP"), register("EFLAGS")));
                for row in [
                    ["RAX", "RBX", "RCX"],
                    ["RDX", "RSI", "RDI"],
                    ["RBP", "R8", "R9"],
                    ["R10", "R11", "R12"],
                    ["R13", "R14", "R15"],
                ] {
                    let row = row.map(|name| {
                        let shown = if name.len() == 2
                            && name.starts_with('R')
                            && name.as_bytes()[1].is_ascii_digit()
                        {
                            format!("R0{}", &name[1..])
                        } else {
                            name.to_owned()
                        };
                        format!("{shown}: {:016x}", register(name))
                    });
                    lines.push(row.join(" "));
                }
                lines.push(String::from("Call Trace:"));
                lines.push(String::from(" <TASK>"));
                lines.extend(oops.backtrace.iter().map(|symbol| format!(" {symbol}")));
                lines.push(String::from(" </TASK>"));
                lines.push(linked);
            }
            Arch::Arm => {
                lines.push(linked);
                lines.push(self.task_line());
                lines.push(format!("PC is at {}", oops.at));
                let lr = self.cpu.get(Register::Link);
                lines.push(format!("LR is at {}", self.describe(kernel, lr)));
                lines.push(format!("pc : [<{pc:08x}>]    lr : [<{lr:08x}>]    psr: {:08x}", register("psr")));
                lines.push(format!(
                    "sp : {:08x}  ip : {:08x}  fp : {:08x}",
                    register("sp"),
                    register("ip"),
                    register("fp")
                ));
                for row in [&["r10", "r9", "r8"][..], &["r7", "r6", "r5", "r4"], &["r3", "r2", "r1", "r0"]] {
                    let row: Vec<String> =
                        row.iter().map(|name| format!("{name:<3}: {:08x}", register(name))).collect();
                    lines.push(row.join("  "));
                }
                let stack = self.plan.stack.start;
                lines.push(format!("Process {} (pid: {PID}, stack limit = 0x{stack:08x})", self.config.comm));
                lines.extend(oops.backtrace.iter().map(|symbol| format!(" {symbol}")));
                lines.push(self.code_line(pc));
            }
        }
        lines.push(String::from("---[ end trace 0000000000000000 ]---"));
        for line in lines {
            self.printk(Level::Warning, line);
        }
        if self.oopses.len() < OOPSES_MAX {
            self.oopses.push(oops);
        }
        self.stop(kernel, StopKind::Oops)
    }
}

fn x86_words(exit: Exit) -> (String, Vec<String>) {
    match exit {
        Exit::Fault { attempt, address, mapped, .. } => {
            let canonical = (address.cast_signed() << 16 >> 16).cast_unsigned() == address;
            if !canonical && attempt != Attempt::Fetch {
                let text = format!(
                    "general protection fault, probably for non-canonical address {address:#x}: 0000 [#1] PREEMPT SMP NOPTI"
                );
                return (text, Vec::new());
            }
            let title = match (address, attempt) {
                (0..4096, _) => format!("BUG: kernel NULL pointer dereference, address: {address:016x}"),
                _ => format!("BUG: unable to handle page fault for address: {address:016x}"),
            };
            let (what, code) = match attempt {
                Attempt::Read => ("read access", 0),
                Attempt::Write => ("write access", 2),
                Attempt::Fetch => ("instruction fetch", 0x10),
            };
            let code = code | u32::from(mapped);
            let why = if mapped { "permissions violation" } else { "not-present page" };
            let lines = vec![
                format!("#PF: supervisor {what} in kernel mode"),
                format!("#PF: error_code(0x{code:04x}) - {why}"),
                format!("Oops: {code:04x} [#1] PREEMPT SMP NOPTI"),
            ];
            (title, lines)
        }
        Exit::DivideError => (String::from("divide error: 0000 [#1] PREEMPT SMP NOPTI"), Vec::new()),
        Exit::Undefined => (String::from("invalid opcode: 0000 [#1] PREEMPT SMP NOPTI"), Vec::new()),
        Exit::Breakpoint => (String::from("int3: 0000 [#1] PREEMPT SMP NOPTI"), Vec::new()),
        _ => (String::from("general protection fault: 0000 [#1] PREEMPT SMP NOPTI"), Vec::new()),
    }
}

fn arm_words(exit: Exit) -> (String, Vec<String>) {
    match exit {
        Exit::Fault { attempt, address, mapped, .. } => {
            let what = match address {
                0..4096 => "NULL pointer dereference",
                _ => "paging request",
            };
            let (when, write) = match attempt {
                Attempt::Read => ("read", 0),
                Attempt::Write => ("write", 0x800),
                Attempt::Fetch => ("execute", 0x8000_0000_u32),
            };
            // A translation fault is 5 at the first level, a permission fault on a page is 15.
            let code = write | if mapped { 0xf } else { 5 };
            let lines = vec![
                format!("[{address:08x}] *pgd=00000000"),
                format!("Internal error: Oops: {code:x} [#1] SMP ARM"),
            ];
            (format!("Unable to handle kernel {what} at virtual address {address:08x} when {when}"), lines)
        }
        Exit::Undefined => {
            (String::from("Internal error: Oops - undefined instruction: 0 [#1] SMP ARM"), Vec::new())
        }
        _ => (String::from("Internal error: Oops - bad mode: 0 [#1] SMP ARM"), Vec::new()),
    }
}
