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
    /// Pointers to a variable, as many as there is room for.
    Pointers(&'static str),
    /// Pointers to a function, likewise.
    Functions(&'static str),
    /// Text.
    Text(&'static [u8]),
    /// The classes of characters: `_ctype`.
    Ctype,
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
    data("kmalloc_caches", 448, 224, Content::Pointers("lkm_cache")),
    data("lkm_cache", 256, 256, Content::Zero),
    data("init_net", 4288, 3264, Content::Zero),
    data("boot_cpu_data", 288, 0, Content::Zero),
    data("cpu_info", 288, 0, Content::Zero),
    data("pv_ops", 512, 0, Content::Functions("lkm_pv_trap")),
    data("page_offset_base", 8, 0, Content::Word(0xffff_8880_0000_0000, 0)),
    data("vmalloc_base", 8, 0, Content::Word(0xffff_c900_0000_0000, 0)),
    data("vmemmap_base", 8, 0, Content::Word(0xffff_ea00_0000_0000, 0)),
    data("phys_base", 8, 0, Content::Zero),
    data("high_memory", 8, 4, Content::Word(0xffff_8881_4000_0000, 0xef80_0000)),
    data("lkm_workqueue", 256, 256, Content::Zero),
    data("system_wq", 8, 4, Content::Pointer("lkm_workqueue")),
    data("system_highpri_wq", 8, 4, Content::Pointer("lkm_workqueue")),
    data("system_long_wq", 8, 4, Content::Pointer("lkm_workqueue")),
    data("system_unbound_wq", 8, 4, Content::Pointer("lkm_workqueue")),
    data("system_freezable_wq", 8, 4, Content::Pointer("lkm_workqueue")),
    data("system_power_efficient_wq", 8, 4, Content::Pointer("lkm_workqueue")),
    data("system_freezable_power_efficient_wq", 8, 4, Content::Pointer("lkm_workqueue")),
    data("system_state", 4, 4, Content::Int(3)),
    data("init_user_ns", 1024, 1024, Content::Zero),
    data("init_uts_ns", 1024, 1024, Content::Zero),
    data("init_pid_ns", 1024, 1024, Content::Zero),
    data("init_cred", 256, 256, Content::Zero),
    data("empty_zero_page", 4096, 4, Content::Zero),
    data("cpu_bit_bitmap", 1024, 132, Content::Zero),
    data("cpu_all_bits", 1024, 4, Content::Word(u64::MAX, 0xffff_ffff)),
    data("_ctype", 256, 256, Content::Ctype),
    data("hex_asc", 17, 17, Content::Text(b"0123456789abcdef")),
    data("hex_asc_upper", 17, 17, Content::Text(b"0123456789ABCDEF")),
    data("kernel_kobj", 8, 4, Content::Zero),
    data("fs_kobj", 8, 4, Content::Zero),
    data("platform_bus", 744, 496, Content::Zero),
    data("platform_bus_type", 256, 128, Content::Zero),
    data("pci_bus_type", 256, 128, Content::Zero),
    data("i2c_bus_type", 256, 128, Content::Zero),
    data("iomem_resource", 64, 32, Content::Zero),
    data("ioport_resource", 64, 32, Content::Zero),
    data("loops_per_jiffy", 8, 4, Content::Word(4_000_000, 4_000_000)),
    data("elf_hwcap", 0, 4, Content::Zero),
    data("arm_delay_ops", 0, 16, Content::Functions("__udelay")),
    data("outer_cache", 0, 64, Content::Functions("lkm_nothing")),
    data("__stack_chk_guard", 0, 4, Content::Word(0, CANARY & 0xffff_ffff)),
    data("__cpu_dying_mask", 1024, 4, Content::Zero),
    data("modules_disabled", 4, 4, Content::Zero),
    data("of_fwnode_ops", 0, 88, Content::Functions("lkm_nothing")),
    percpu("current_task", 8, 0, 0x1_fb80),
    percpu("this_cpu_off", 8, 0, 0x1_9168),
    percpu("cpu_number", 4, 0, 0x1_9178),
    percpu("__preempt_count", 4, 0, 0x1_fb88),
];

/// The class of a character of Latin-1 as `_ctype` has it.
fn ctype(byte: u8) -> u8 {
    const UPPER: u8 = 1;
    const LOWER: u8 = 2;
    const DIGIT: u8 = 4;
    const CONTROL: u8 = 8;
    const PUNCTUATION: u8 = 16;
    const SPACE: u8 = 32;
    const HEX: u8 = 64;
    const HARD_SPACE: u8 = 128;
    match byte {
        9..=13 => CONTROL | SPACE,
        0..=31 | 127 => CONTROL,
        b' ' | 160 => SPACE | HARD_SPACE,
        b'0'..=b'9' => DIGIT,
        b'A'..=b'F' => UPPER | HEX,
        b'G'..=b'Z' => UPPER,
        b'a'..=b'f' => LOWER | HEX,
        b'g'..=b'z' => LOWER,
        33..=126 | 161..=191 | 215 | 247 => PUNCTUATION,
        128..=159 => 0,
        192..=222 => UPPER,
        223..=255 => LOWER,
    }
}

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
            Content::Pointers(name) | Content::Functions(name) => {
                let to = machine.slots.address(name).unwrap_or(0);
                let step = machine.layout.pointer;
                for n in 0..data.size(machine.arch) / step {
                    machine.write_word(address + n * step, to);
                }
            }
            Content::Text(text) => {
                let _ = machine.cpu.write(address, text);
            }
            Content::Ctype => {
                let classes: Vec<u8> = (0..=255).map(ctype).collect();
                let _ = machine.cpu.write(address, &classes);
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
