//! The registers by their roles.

use lkm_link::Arch;
use unicorn_engine::RegisterARM;
use unicorn_engine::RegisterARMCP;
use unicorn_engine::RegisterX86;

use super::Register;
use super::Unicorn;

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
pub(super) const CPSR_THUMB: u64 = 1 << 5;

impl Unicorn {
    /// A register of the system control coprocessor that user space cannot write: what the kernel keeps per processor.
    fn coprocessor(opc2: u32, val: u64) -> RegisterARMCP {
        RegisterARMCP { cp: 15, is64: 0, sec: 0, crn: 13, crm: 0, opc1: 0, opc2, val }
    }

    pub(super) fn read_register(&self, register: Register) -> u64 {
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

    pub(super) fn write_register(&mut self, register: Register, value: u64) {
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
                    let thumb = self.read_register(Register::Flags) & CPSR_THUMB != 0;
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
}
