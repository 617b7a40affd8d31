//! The engine of today: Unicorn, with its known faults handled here and not above.
//!
//! * A panic inside a hook ends the process: hooks record and stop, nothing else.
//! * With paging off, x86_64 addresses are cut to 52 bits: the virtual TLB maps an address to its low 52 bits, and the
//!   full address is checked here. A refusal there tells the page alone, so that the exact address is computed from
//!   the instruction.
//! * 256-bit AVX is refused, 128-bit AVX executed wrongly: blocks are scanned before they run.
//! * `hlt` and `wfi` end a run without a word: seen as [`Exit::Halt`]. `wfe` is reported as undefined: run on.
//! * The instruction limit costs half the speed: blocks are counted instead.

use core::cell::Cell;
use core::cell::RefCell;
use core::fmt;
use std::rc::Rc;
use std::time::Instant;

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
use unicorn_engine::RegisterARMCP;
use unicorn_engine::RegisterX86;
use unicorn_engine::TlbEntry;
use unicorn_engine::TlbType;
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
use super::pages::Pages;
use super::vector;

/// What is left of an x86_64 address when paging is off.
const PHYSICAL_MASK: u64 = (1 << 52) - 1;
const PAGE: u64 = 4096;
/// Address at which no guest code can be, for the parameter of the emulator that ends a run.
const NOWHERE: u64 = 0xffff_fff0;
const VIOLATIONS_KEPT: usize = 256;
/// Blocks between two looks at the clock.
const CLOCK_INTERVAL: u64 = 4096;
/// Size of the direct-mapped memory of blocks already scanned for AVX; a power of two.
const SCANNED: usize = 8192;

const X86_GENERAL: [RegisterX86; 16] = [
    RegisterX86::RAX,
    RegisterX86::RCX,
    RegisterX86::RDX,
    RegisterX86::RBX,
    RegisterX86::RSP,
    RegisterX86::RBP,
    RegisterX86::RSI,
    RegisterX86::RDI,
    RegisterX86::R8,
    RegisterX86::R9,
    RegisterX86::R10,
    RegisterX86::R11,
    RegisterX86::R12,
    RegisterX86::R13,
    RegisterX86::R14,
    RegisterX86::R15,
];

const X86_ARGUMENTS: [RegisterX86; 6] = [
    RegisterX86::RDI,
    RegisterX86::RSI,
    RegisterX86::RDX,
    RegisterX86::RCX,
    RegisterX86::R8,
    RegisterX86::R9,
];

const ARM_GENERAL: [RegisterARM; 16] = [
    RegisterARM::R0,
    RegisterARM::R1,
    RegisterARM::R2,
    RegisterARM::R3,
    RegisterARM::R4,
    RegisterARM::R5,
    RegisterARM::R6,
    RegisterARM::R7,
    RegisterARM::R8,
    RegisterARM::R9,
    RegisterARM::R10,
    RegisterARM::R11,
    RegisterARM::R12,
    RegisterARM::SP,
    RegisterARM::LR,
    RegisterARM::PC,
];

/// CPSR bit: Thumb state.
const CPSR_THUMB: u64 = 1 << 5;

/// What hooks leave behind for [`Unicorn::run`].
struct Shared {
    pages: RefCell<Pages>,
    traps: RefCell<Vec<(u64, u64)>>,
    stopped: Cell<Option<Exit>>,
    refused: Cell<Option<(Attempt, u64, u32)>>,
    interrupt: Cell<Option<u32>>,
    spent: Cell<u64>,
    blocks: Cell<u64>,
    limit: Cell<u64>,
    deadline: Cell<Option<Instant>>,
    violations: RefCell<Vec<Violation>>,
    scanned: RefCell<Vec<u64>>,
}

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

fn protection(access: Access) -> Prot {
    let mut bits = Prot::NONE;
    if access.read {
        bits |= Prot::READ;
    }
    if access.write {
        bits |= Prot::WRITE;
    }
    if access.execute {
        bits |= Prot::EXEC;
    }
    bits
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
        let shared = Rc::new(Shared {
            pages: RefCell::default(),
            traps: RefCell::default(),
            stopped: Cell::new(None),
            refused: Cell::new(None),
            interrupt: Cell::new(None),
            spent: Cell::new(0),
            blocks: Cell::new(0),
            limit: Cell::new(0),
            deadline: Cell::new(None),
            violations: RefCell::default(),
            scanned: RefCell::new(vec![u64::MAX; SCANNED]),
        });
        let mut cpu = Unicorn { engine, arch, shared };
        cpu.install_hooks().map_err(engine_error)?;
        Ok(cpu)
    }

    fn install_hooks(&mut self) -> Result<(), uc_error> {
        let shared = Rc::clone(&self.shared);
        let scan = self.arch == Arch::X86_64;
        self.engine.add_block_hook(1, 0, move |engine, address, size| {
            let spent = shared.spent.get().saturating_add(u64::from(size / 4).max(1));
            shared.spent.set(spent);
            let blocks = shared.blocks.get().wrapping_add(1);
            shared.blocks.set(blocks);
            let stop = if spent > shared.limit.get() {
                Some(Exit::Limit)
            } else if blocks.is_multiple_of(CLOCK_INTERVAL)
                && shared.deadline.get().is_some_and(|end| Instant::now() > end)
            {
                Some(Exit::Deadline)
            } else if scan {
                scan_block(&shared, engine, address, size)
            } else {
                None
            };
            if stop.is_some() {
                shared.stopped.set(stop);
                let _ = engine.emu_stop();
            }
        })?;

        let shared = Rc::clone(&self.shared);
        self.engine.add_intr_hook(move |engine, number| {
            shared.interrupt.set(Some(number));
            let _ = engine.emu_stop();
        })?;

        let shared = Rc::clone(&self.shared);
        match self.arch {
            Arch::X86_64 => {
                self.engine.ctl_set_tlb_type(TlbType::VIRTUAL)?;
                self.engine.add_tlb_hook(1, 0, move |_, address, kind| {
                    // At the end of a run the emulator drops what it translated for the end address and asks for
                    // that page, too; a refusal would hide why the run ended. There is no memory behind it.
                    if address == NOWHERE & !(PAGE - 1) && kind == MemType::FETCH {
                        return Some(TlbEntry { paddr: address, perms: Prot::EXEC });
                    }
                    let attempt = match kind {
                        MemType::WRITE => Attempt::Write,
                        MemType::FETCH => Attempt::Fetch,
                        _ => Attempt::Read,
                    };
                    let access = shared.pages.try_borrow().ok()?.find(address).map(|range| range.2);
                    match access {
                        Some(access) if access.allows(attempt) => {
                            Some(TlbEntry { paddr: address & PHYSICAL_MASK, perms: protection(access) })
                        }
                        _ => {
                            let first = shared.refused.get().unwrap_or((attempt, address, 0));
                            shared.refused.set(Some(first));
                            None
                        }
                    }
                })?;
            }
            Arch::Arm => {
                self.engine.add_mem_hook(
                    HookType::MEM_READ_UNMAPPED
                        | HookType::MEM_WRITE_UNMAPPED
                        | HookType::MEM_FETCH_UNMAPPED
                        | HookType::MEM_READ_PROT
                        | HookType::MEM_WRITE_PROT
                        | HookType::MEM_FETCH_PROT,
                    1,
                    0,
                    move |_, kind, address, size, _| {
                        let attempt = match kind {
                            MemType::WRITE_UNMAPPED | MemType::WRITE_PROT => Attempt::Write,
                            MemType::FETCH_UNMAPPED | MemType::FETCH_PROT => Attempt::Fetch,
                            _ => Attempt::Read,
                        };
                        shared.refused.set(Some((attempt, address, u32::try_from(size).unwrap_or(0))));
                        false
                    },
                )?;
            }
        }
        Ok(())
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

    fn coprocessor(opc2: u32, val: u64) -> RegisterARMCP {
        RegisterARMCP { cp: 15, is64: 0, sec: 0, crn: 13, crm: 0, opc1: 0, opc2, val }
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

fn scan_block(
    shared: &Shared,
    engine: &unicorn_engine::Unicorn<'_, ()>,
    address: u64,
    size: u32,
) -> Option<Exit> {
    let mut scanned = shared.scanned.try_borrow_mut().ok()?;
    let slot = scanned.get_mut(address as usize % SCANNED)?;
    if *slot == address {
        return None;
    }
    let mut code = [0; 4096];
    // The emulator's blocks end at a page or before.
    let code = code.get_mut(..size as usize)?;
    engine.mem_read(address & PHYSICAL_MASK, code).ok()?;
    match vector::find(code, address) {
        Some(address) => Some(Exit::Unsupported { address }),
        None => {
            *slot = address;
            None
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
        let value = match self.arch {
            Arch::X86_64 => match register {
                Register::Pc => self.engine.reg_read(RegisterX86::RIP),
                Register::Sp => self.engine.reg_read(RegisterX86::RSP),
                Register::Return => self.engine.reg_read(RegisterX86::RAX),
                Register::ReturnHigh => self.engine.reg_read(RegisterX86::RDX),
                Register::Link | Register::Current => Ok(0),
                Register::Argument(n) => X86_ARGUMENTS
                    .get(usize::from(n))
                    .map_or(Ok(0), |&register| self.engine.reg_read(register)),
                Register::PerCpu => self.engine.reg_read(RegisterX86::GS_BASE),
                Register::General(n) => {
                    X86_GENERAL.get(usize::from(n)).map_or(Ok(0), |&register| self.engine.reg_read(register))
                }
                Register::Flags => self.engine.reg_read(RegisterX86::RFLAGS),
            },
            Arch::Arm => match register {
                Register::Pc => self.engine.reg_read(RegisterARM::PC),
                Register::Sp => self.engine.reg_read(RegisterARM::SP),
                Register::Return => self.engine.reg_read(RegisterARM::R0),
                Register::ReturnHigh => self.engine.reg_read(RegisterARM::R1),
                Register::Link => self.engine.reg_read(RegisterARM::LR),
                Register::Argument(n) if n < 4 => {
                    ARM_GENERAL.get(usize::from(n)).map_or(Ok(0), |&register| self.engine.reg_read(register))
                }
                Register::Argument(_) => Ok(0),
                Register::General(n) => {
                    ARM_GENERAL.get(usize::from(n)).map_or(Ok(0), |&register| self.engine.reg_read(register))
                }
                Register::PerCpu | Register::Current => {
                    let opc2 = if register == Register::PerCpu { 4 } else { 3 };
                    let mut value = Self::coprocessor(opc2, 0);
                    self.engine.reg_read_arm_coproc(&mut value).map(|()| value.val)
                }
                Register::Flags => self.engine.reg_read(RegisterARM::CPSR),
            },
        };
        let value = value.unwrap_or(0);
        if self.arch == Arch::Arm { value & 0xffff_ffff } else { value }
    }

    fn set(&mut self, register: Register, value: u64) {
        let _ = match self.arch {
            Arch::X86_64 => match register {
                Register::Pc => self.engine.reg_write(RegisterX86::RIP, value),
                Register::Sp => self.engine.reg_write(RegisterX86::RSP, value),
                Register::Return => self.engine.reg_write(RegisterX86::RAX, value),
                Register::ReturnHigh => self.engine.reg_write(RegisterX86::RDX, value),
                Register::Link | Register::Current => Ok(()),
                Register::Argument(n) => X86_ARGUMENTS
                    .get(usize::from(n))
                    .map_or(Ok(()), |&register| self.engine.reg_write(register, value)),
                Register::PerCpu => self.engine.reg_write(RegisterX86::GS_BASE, value),
                Register::General(n) => X86_GENERAL
                    .get(usize::from(n))
                    .map_or(Ok(()), |&register| self.engine.reg_write(register, value)),
                Register::Flags => self.engine.reg_write(RegisterX86::RFLAGS, value),
            },
            Arch::Arm => match register {
                // The emulator takes the low bit of a new program counter as the Thumb state.
                Register::Pc => {
                    let thumb = self.get(Register::Flags) & CPSR_THUMB != 0;
                    self.engine.reg_write(RegisterARM::PC, value | u64::from(thumb))
                }
                Register::Sp => self.engine.reg_write(RegisterARM::SP, value),
                Register::Return => self.engine.reg_write(RegisterARM::R0, value),
                Register::ReturnHigh => self.engine.reg_write(RegisterARM::R1, value),
                Register::Link => self.engine.reg_write(RegisterARM::LR, value),
                Register::Argument(n) | Register::General(n) => ARM_GENERAL
                    .get(usize::from(n))
                    .map_or(Ok(()), |&register| self.engine.reg_write(register, value)),
                Register::PerCpu => self.engine.reg_write_arm_coproc(&Self::coprocessor(4, value)),
                Register::Current => self.engine.reg_write_arm_coproc(&Self::coprocessor(3, value)),
                Register::Flags => self.engine.reg_write(RegisterARM::CPSR, value),
            },
        };
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
