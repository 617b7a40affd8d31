//! Variables of the kernel image that modules refer to, with what they hold.

use lkm_link::Arch;

use crate::cpu::Register;
use crate::machine::Machine;

/// Process id of the task that loads modules.
pub(crate) const PID: u32 = 100;
/// The stack protector's secret. A real kernel's is random with a zero byte at its low end.
const CANARY: u64 = 0x5bd1_e995_7f4a_7c00;

/// What a variable holds at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// Zeros.
    Zero,
    /// A value as wide as a pointer.
    Word(u64, u64),
    /// 32 bits.
    Int(u32),
    /// The address of another variable.
    Pointer(&'static str),
    /// A list that is empty: two pointers to itself.
    List,
}

/// A variable of the kernel.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) name: &'static str,
    /// Bytes on x86_64 and on ARM; 0 where it does not exist.
    sizes: (u64, u64),
    content: Content,
    /// Offset in the per-cpu area, if it is there.
    pub(crate) percpu: Option<u64>,
}

impl Data {
    pub(crate) fn size(&self, arch: Arch) -> u64 {
        match arch {
            Arch::X86_64 => self.sizes.0,
            Arch::Arm => self.sizes.1,
        }
    }
}

const fn data(name: &'static str, wide: u64, narrow: u64, content: Content) -> Data {
    Data { name, sizes: (wide, narrow), content, percpu: None }
}

const fn percpu(name: &'static str, wide: u64, narrow: u64, offset: u64) -> Data {
    Data { name, sizes: (wide, narrow), content: Content::Zero, percpu: Some(offset) }
}

const fn ops(name: &'static str) -> Data {
    data(name, 32, 16, Content::Zero)
}

/// All variables.
pub(crate) static DATA: &[Data] = &[
    ops("param_ops_byte"),
    ops("param_ops_short"),
    ops("param_ops_ushort"),
    ops("param_ops_int"),
    ops("param_ops_uint"),
    ops("param_ops_long"),
    ops("param_ops_ulong"),
    ops("param_ops_ullong"),
    ops("param_ops_hexint"),
    ops("param_ops_charp"),
    ops("param_ops_bool"),
    ops("param_ops_bool_enable_only"),
    ops("param_ops_invbool"),
    ops("param_ops_bint"),
    ops("param_ops_string"),
    ops("param_array_ops"),
    data("jiffies", 8, 4, Content::Zero),
    data("jiffies_64", 8, 8, Content::Zero),
    data("nr_cpu_ids", 4, 4, Content::Int(1)),
    data("__cpu_possible_mask", 1024, 4, Content::Int(1)),
    data("__cpu_online_mask", 1024, 4, Content::Int(1)),
    data("__cpu_present_mask", 1024, 4, Content::Int(1)),
    data("__cpu_active_mask", 1024, 4, Content::Int(1)),
    data("__num_online_cpus", 4, 4, Content::Int(1)),
    data("__per_cpu_offset", 65536, 32, Content::Zero),
    data("init_task", 9728, 2752, Content::Zero),
    percpu("current_task", 8, 0, 0x1_fb80),
    percpu("this_cpu_off", 8, 0, 0x1_9168),
    percpu("cpu_number", 4, 0, 0x1_9178),
    percpu("__preempt_count", 4, 0, 0x1_fb88),
];

/// Writes the variables and the registers that point to them.
pub(crate) fn install(machine: &mut Machine) {
    let variables: Vec<(u64, &'static Data)> = machine.slots.variables().collect();
    for (address, data) in variables {
        match data.content {
            Content::Zero => {}
            Content::Word(wide, narrow) => {
                let value = if machine.arch == Arch::X86_64 { wide } else { narrow };
                machine.write_word(address, value);
            }
            Content::Int(value) => machine.write_u32(address, value),
            Content::Pointer(name) => {
                let to = machine.slots.variable(name).unwrap_or(0);
                machine.write_word(address, to);
            }
            Content::List => {
                machine.write_word(address, address);
                machine.write_word(address + machine.layout.pointer, address);
            }
        }
    }
    let percpu = machine.plan.percpu.start;
    let task = machine.slots.variable("init_task").unwrap_or(0);
    let layout = &machine.layout.task;
    let comm = machine.config.comm.clone();
    let comm = comm.as_bytes().get(..15.min(comm.len())).unwrap_or_default();
    let _ = machine.cpu.write(task + layout.comm, comm);
    machine.write_u32(task + layout.pid, PID);
    machine.write_u32(task + layout.tgid, PID);
    machine.write_word(task + layout.stack_canary, machine.word(CANARY));
    if let Some(offsets) = machine.slots.variable("__per_cpu_offset") {
        let offset = machine.word(machine.plan.percpu_offset);
        machine.write_word(offsets, offset);
    }
    match machine.arch {
        Arch::X86_64 => {
            machine.cpu.set(Register::PerCpu, percpu);
            machine.write_word(percpu + 0x28, CANARY);
            machine.write_word(percpu + 0x1_fb80, task);
            machine.write_word(percpu + 0x1_9168, percpu);
        }
        Arch::Arm => {
            machine.cpu.set(Register::PerCpu, machine.word(machine.plan.percpu_offset));
            machine.cpu.set(Register::Current, task);
        }
    }
}

/// Nanoseconds of a jiffy: 250 Hz.
pub(crate) const JIFFY: u64 = 4_000_000;
/// `INITIAL_JIFFIES`: five minutes before the counter wraps.
const INITIAL_JIFFIES: u64 = (-300_i64 * 250) as u32 as u64;

impl Machine {
    /// The number of jiffies.
    pub(crate) fn jiffies(&self) -> u64 {
        INITIAL_JIFFIES + self.clock / JIFFY
    }

    /// Brings the variables that show the time up to date.
    pub(crate) fn tick(&mut self) {
        let jiffies = self.jiffies();
        if self.state.jiffies == jiffies {
            return;
        }
        self.state.jiffies = jiffies;
        if let Some(address) = self.slots.variable("jiffies") {
            self.write_word(address, jiffies);
        }
        if let Some(address) = self.slots.variable("jiffies_64") {
            let _ = self.cpu.write(address, &jiffies.to_le_bytes());
        }
    }
}
