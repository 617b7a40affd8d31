//! The engine of today: Unicorn, with its known faults handled here and not above.
//!
//! * A panic inside a hook ends the process: hooks record and stop, nothing else.
//! * With paging off, x86_64 addresses are cut to 52 bits: the virtual TLB maps an address to its low 52 bits, and the
//!   full address is checked here. A refusal there tells the page alone, so that the exact address is computed from
//!   the instruction.
//! * 256-bit AVX is refused, 128-bit AVX executed wrongly: blocks are scanned before they run.
//! * `hlt` and `wfi` end a run without a word: seen as [`Exit::Halt`]. `wfe` is reported as undefined: run on.
//! * The instruction limit costs half the speed: blocks are counted instead.

use core::fmt;
use std::rc::Rc;

use iced_x86::Decoder;
use iced_x86::DecoderOptions;
use iced_x86::OpKind;
use lkm_link::Arch;
use unicorn_engine::ArmCpuModel;
use unicorn_engine::HookType;
use unicorn_engine::MemType;
use unicorn_engine::Mode;
use unicorn_engine::Prot;
use unicorn_engine::RegisterARM;
use unicorn_engine::RegisterX86;
use unicorn_engine::uc_error;

use super::Access;
use super::Attempt;
use super::Cpu;
use super::CpuError;
use super::Exit;
use super::Limits;
use super::Ran;
use super::Register;
use super::Saved;
use super::Violation;
use super::Watcher;

mod hooks;
mod registers;

use hooks::Shared;
use hooks::protection;
use registers::CPSR_THUMB;

/// What is left of an x86_64 address when paging is off.
const PHYSICAL_MASK: u64 = (1 << 52) - 1;
const PAGE: u64 = 4096;
/// Address at which no guest code can be, for the parameter of the emulator that ends a run.
const NOWHERE: u64 = 0xffff_fff0;
const VIOLATIONS_KEPT: usize = 256;

/// An engine and its memory.
pub(super) struct Unicorn {
    engine: unicorn_engine::Unicorn<'static, ()>,
    arch: Arch,
    shared: Rc<Shared>,
}

impl fmt::Debug for Unicorn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unicorn").field("arch", &self.arch).finish_non_exhaustive()
    }
}

fn engine_error(error: uc_error) -> CpuError {
    CpuError::Engine(match error {
        uc_error::NOMEM => "out of memory",
        uc_error::ARCH => "architecture not built in",
        uc_error::MAP => "mapping refused",
        uc_error::ARG => "argument refused",
        uc_error::RESOURCE => "out of resources",
        uc_error::HOOK => "hook refused",
        _ => "unexpected error",
    })
}

impl Unicorn {
    pub(super) fn new(arch: Arch) -> Result<Unicorn, CpuError> {
        super::host_check::check()?;
        let (family, mode) = match arch {
            Arch::X86_64 => (unicorn_engine::Arch::X86, Mode::MODE_64),
            Arch::Arm => (unicorn_engine::Arch::ARM, Mode::ARM),
        };
        let mut engine = unicorn_engine::Unicorn::new(family, mode).map_err(engine_error)?;
        if arch == Arch::Arm {
            engine.ctl_set_cpu_model(ArmCpuModel::MAX as i32).map_err(engine_error)?;
        }
        let shared = Rc::new(Shared::default());
        let mut cpu = Unicorn { engine, arch, shared };
        cpu.install_hooks().map_err(engine_error)?;
        Ok(cpu)
    }

    /// Where the emulator keeps the memory of a guest address.
    fn physical(&self, address: u64) -> u64 {
        match self.arch {
            Arch::X86_64 => address & PHYSICAL_MASK,
            Arch::Arm => address,
        }
    }

    fn forget_code(&mut self) {
        let _ = self.engine.ctl_flush_tb();
        if self.arch == Arch::X86_64 {
            let _ = self.engine.ctl_flush_tlb();
            self.shared.scanned.borrow_mut().fill(u64::MAX);
        }
    }

    fn is_trap(&self, address: u64) -> bool {
        self.shared.traps.borrow().iter().any(|&(base, end)| (base..end).contains(&address))
    }

    /// The address and size of the memory operand that made the instruction at the program counter fail in `page`.
    fn x86_operand(&self, attempt: Attempt, page: u64) -> (u64, u32) {
        let pc = self.get(Register::Pc);
        if attempt == Attempt::Fetch {
            // A fetch fails at the program counter, or on the next page in the middle of an instruction.
            return (if pc & !(PAGE - 1) == page { pc } else { page }, 0);
        }
        let mut code = [0; 15];
        let length = (0..code.len()).take_while(|&n| {
            self.read(pc.wrapping_add(n as u64), core::slice::from_mut(&mut code[n])).is_ok()
        });
        let length = length.count();
        let instruction =
            Decoder::with_ip(64, code.get(..length).unwrap_or_default(), pc, DecoderOptions::NONE).decode();
        let size = u32::try_from(instruction.memory_size().size()).unwrap_or(0);
        let register = |register: iced_x86::Register, _: usize, _: usize| {
            Some(match register {
                iced_x86::Register::GS => self.get(Register::PerCpu),
                register if register.is_segment_register() => 0,
                register => {
                    let full =
                        self.get(Register::General(u8::try_from(register.full_register().number()).ok()?));
                    if register.size() == 4 { full & 0xffff_ffff } else { full }
                }
            })
        };
        let in_page = |address: u64| {
            let last = address.wrapping_add(u64::from(size.max(1) - 1));
            address & !(PAGE - 1) == page || last & !(PAGE - 1) == page
        };
        for operand in 0..instruction.op_count() {
            let memory = matches!(
                instruction.op_kind(operand),
                OpKind::Memory
                    | OpKind::MemorySegSI
                    | OpKind::MemorySegESI
                    | OpKind::MemorySegRSI
                    | OpKind::MemorySegDI
                    | OpKind::MemorySegEDI
                    | OpKind::MemorySegRDI
                    | OpKind::MemoryESDI
                    | OpKind::MemoryESEDI
                    | OpKind::MemoryESRDI
            );
            if memory
                && let Some(address) = instruction.virtual_address(operand, 0, register)
                && in_page(address)
            {
                return (address, size);
            }
        }
        // push, call and their like: the place below the stack pointer.
        let sp = self.get(Register::Sp);
        for address in [sp, sp.wrapping_sub(8)] {
            if address & !(PAGE - 1) == page {
                return (address, 8);
            }
        }
        (page, size)
    }

    fn refusal(&self, (attempt, address, size): (Attempt, u64, u32)) -> Exit {
        let (address, size) = match self.arch {
            Arch::X86_64 => self.x86_operand(attempt, address),
            Arch::Arm => (address, size),
        };
        if attempt == Attempt::Fetch && self.is_trap(address) {
            return Exit::Trap(address);
        }
        let mapped = self.shared.pages.borrow().find(address).is_some();
        Exit::Fault { attempt, address, size, mapped }
    }

    /// What an exception number of the emulator means.
    fn interrupt(&self, number: u32) -> Exit {
        match (self.arch, number) {
            (Arch::X86_64, 0) => Exit::DivideError,
            (Arch::X86_64, 3) | (Arch::Arm, 7) => Exit::Breakpoint,
            (Arch::X86_64, 6) | (Arch::Arm, 1) => Exit::Undefined,
            _ => Exit::Exception(number),
        }
    }

    /// ARM: the run ended behind a `wfe`, which the emulator takes for undefined and which may return at any time.
    fn passed_wfe(&self, started: u64) -> bool {
        let pc = self.get(Register::Pc);
        if self.arch != Arch::Arm || pc == started {
            return false;
        }
        let mut word = [0; 4];
        if self.get(Register::Flags) & CPSR_THUMB != 0 {
            let mut half = [0; 2];
            return self.read(pc.wrapping_sub(2), &mut half).is_ok() && u16::from_le_bytes(half) == 0xbf20;
        }
        self.read(pc.wrapping_sub(4), &mut word).is_ok()
            && u32::from_le_bytes(word) & 0x0fff_ffff == 0x0320_f002
    }

    fn run_once(&mut self) -> Exit {
        let shared = Rc::clone(&self.shared);
        shared.stopped.set(None);
        shared.refused.set(None);
        shared.interrupt.set(None);
        let pc = self.get(Register::Pc);
        if self.is_trap(pc) {
            return Exit::Trap(pc);
        }
        let thumb = self.arch == Arch::Arm && self.get(Register::Flags) & CPSR_THUMB != 0;
        let result = self.engine.emu_start(pc | u64::from(thumb), NOWHERE, 0, 0);
        if let Some(refused) = shared.refused.get() {
            return self.refusal(refused);
        }
        if let Some(number) = shared.interrupt.get() {
            return self.interrupt(number);
        }
        if let Some(exit) = shared.stopped.get() {
            return exit;
        }
        match result {
            Ok(()) => Exit::Halt,
            Err(uc_error::INSN_INVALID) => Exit::Undefined,
            Err(uc_error::FETCH_UNMAPPED | uc_error::FETCH_UNALIGNED) => Exit::Fault {
                attempt: Attempt::Fetch,
                address: self.get(Register::Pc),
                size: 0,
                mapped: false,
            },
            Err(uc_error::EXCEPTION) => Exit::Exception(u32::MAX),
            Err(_) => Exit::Emulator("the emulator stopped with an error of its own"),
        }
    }
}

impl Cpu for Unicorn {
    fn map(&mut self, base: u64, size: u64, access: Access) -> Result<(), CpuError> {
        if !base.is_multiple_of(PAGE)
            || !size.is_multiple_of(PAGE)
            || !self.shared.pages.borrow_mut().insert(base, size, access)
        {
            return Err(CpuError::Engine("mapping refused"));
        }
        let rights = match self.arch {
            Arch::X86_64 => Prot::ALL,
            Arch::Arm => protection(access),
        };
        let result = self.engine.mem_map(self.physical(base), size, rights);
        if result.is_err() {
            self.shared.pages.borrow_mut().remove(base, size);
        }
        result.map_err(engine_error)
    }

    fn unmap(&mut self, base: u64, size: u64) -> Result<(), CpuError> {
        self.shared.pages.borrow_mut().remove(base, size);
        let result = self.engine.mem_unmap(self.physical(base), size).map_err(engine_error);
        self.forget_code();
        result
    }

    fn protect(&mut self, base: u64, size: u64, access: Access) -> Result<(), CpuError> {
        self.shared.pages.borrow_mut().protect(base, size, access);
        if self.arch == Arch::Arm {
            self.engine.mem_protect(base, size, protection(access)).map_err(engine_error)?;
        }
        self.forget_code();
        Ok(())
    }

    fn access(&self, address: u64) -> Option<Access> {
        self.shared.pages.borrow().find(address).map(|range| range.2)
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), u64> {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let last = self.shared.pages.borrow().find(at).ok_or(at)?.1;
            let size = usize::try_from(last - at).unwrap_or(usize::MAX).saturating_add(1).min(rest.len());
            let (piece, others) = rest.split_at_mut(size);
            self.engine.mem_read(self.physical(at), piece).map_err(|_| at)?;
            rest = others;
            at = at.wrapping_add(size as u64);
        }
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), u64> {
        let mut code = false;
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (_, last, access) = self.shared.pages.borrow().find(at).ok_or(at)?;
            code |= access.execute;
            let size = usize::try_from(last - at).unwrap_or(usize::MAX).saturating_add(1).min(rest.len());
            let (piece, others) = rest.split_at(size);
            let physical = self.physical(at);
            self.engine.mem_write(physical, piece).map_err(|_| at)?;
            rest = others;
            at = at.wrapping_add(size as u64);
        }
        if code {
            self.forget_code();
        }
        Ok(())
    }

    fn trap_range(&mut self, base: u64, end: u64) {
        self.shared.traps.borrow_mut().push((base, end));
    }

    fn watch(&mut self, base: u64, size: u64, watcher: Rc<dyn Watcher>) -> Result<(), CpuError> {
        let shared = Rc::clone(&self.shared);
        let begin = self.physical(base);
        let high = base - begin;
        let arch = self.arch;
        let hook = move |engine: &mut unicorn_engine::Unicorn<'_, ()>,
                         kind: MemType,
                         address: u64,
                         size: usize,
                         _| {
            let write = kind == MemType::WRITE;
            let address = address.wrapping_add(high);
            if !watcher.allows(address, size as u64, write)
                && let Ok(mut violations) = shared.violations.try_borrow_mut()
                && violations.len() < VIOLATIONS_KEPT
            {
                let sp = match arch {
                    Arch::X86_64 => engine.reg_read(RegisterX86::RSP),
                    Arch::Arm => engine.reg_read(RegisterARM::SP),
                };
                violations.push(Violation {
                    pc: engine.pc_read().unwrap_or(0),
                    sp: sp.unwrap_or(0),
                    address,
                    size: size as u64,
                    write,
                });
            }
            true
        };
        let end = begin.saturating_add(size).saturating_sub(1);
        self.engine
            .add_mem_hook(HookType::MEM_READ | HookType::MEM_WRITE, begin, end, hook)
            .map(|_| ())
            .map_err(engine_error)
    }

    fn violations(&mut self) -> Vec<Violation> {
        core::mem::take(&mut *self.shared.violations.borrow_mut())
    }

    fn get(&self, register: Register) -> u64 {
        self.read_register(register)
    }

    fn set(&mut self, register: Register, value: u64) {
        self.write_register(register, value);
    }

    fn run(&mut self, limits: Limits) -> Ran {
        self.shared.spent.set(0);
        self.shared.limit.set(limits.instructions);
        self.shared.deadline.set(limits.deadline);
        loop {
            let started = self.get(Register::Pc);
            let exit = self.run_once();
            if exit == Exit::Undefined && self.passed_wfe(started) {
                continue;
            }
            return Ran { exit, spent: self.shared.spent.get() };
        }
    }

    fn save(&self) -> Saved {
        let mut values: Vec<u64> = (0..16).map(|n| self.get(Register::General(n))).collect();
        values.push(self.get(Register::Flags));
        values.push(self.get(Register::Pc));
        Saved(values)
    }

    fn restore(&mut self, saved: &Saved) {
        if let Some(&flags) = saved.0.get(16) {
            self.set(Register::Flags, flags);
        }
        for (n, &value) in (0..16).zip(&saved.0) {
            self.set(Register::General(n), value);
        }
        if let Some(&pc) = saved.0.get(17) {
            self.set(Register::Pc, pc);
        }
    }
}
