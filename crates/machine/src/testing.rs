//! Guest code for the tests of this crate: `testdata/varargs.c`.

use lkm_kernel::Kernel;
use lkm_kernel::Profile;
use lkm_link::Arch;

use crate::Config;
use crate::Machine;
use crate::cpu::Access;

/// The code, and the offset of `run` in it.
fn code(arch: Arch) -> (&'static [u8], u64) {
    match arch {
        Arch::X86_64 => (include_bytes!("testdata/varargs.x86_64.bin"), 0xc3),
        Arch::Arm => (include_bytes!("testdata/varargs.arm.bin"), 0x98),
    }
}

/// A machine with the code in it, and memory for what it prints.
pub(crate) struct Guest {
    pub(crate) kernel: Kernel,
    pub(crate) machine: Machine,
    entry: u64,
    data: u64,
}

impl Guest {
    pub(crate) fn new(arch: Arch) -> Guest {
        let profile = Profile::all().into_iter().find(|profile| profile.arch == arch).expect("profile");
        let kernel = Kernel::new(profile);
        let mut machine = Machine::new(Config::new(arch)).expect("machine");
        let base = machine.plan.modules.start;
        let (code, entry) = code(arch);
        machine.cpu.map(base, 0x1000, Access::READ_WRITE).expect("map");
        machine.cpu.write(base, code).expect("code");
        machine.cpu.protect(base, 0x1000, Access::READ_EXECUTE).expect("protect");
        let data = machine.kernel_object("test", 4096).expect("memory");
        Guest { kernel, machine, entry: base + entry, data }
    }

    /// Runs it with a format, a format for the nested case, and a buffer; `None` for one that is large enough.
    pub(crate) fn run(
        &mut self,
        which: u64,
        format: &str,
        nested: &str,
        buffer: Option<u64>,
    ) -> (u64, String) {
        let data = self.data;
        let buffer = buffer.unwrap_or(data + 64);
        let places = [data + 512, data + 1024, data + 1536];
        for (at, text) in places.into_iter().zip([format, nested, "text"]) {
            self.machine.cpu.write(at, text.as_bytes()).expect("text");
        }
        let function = |name| self.machine.slots.address(name).expect("function");
        let words = [function("vsnprintf"), function("snprintf"), buffer, places[0], places[1], places[2]];
        for (n, value) in (0..).zip(words) {
            self.machine.write_word(data + n * self.machine.layout.pointer, value);
        }
        let length = self.machine.call_guest(&mut self.kernel, self.entry, &[data, which]);
        let lines: Vec<_> = self.machine.log.lines.iter().map(|line| &line.text).collect();
        let length = length.unwrap_or_else(|_| panic!("{which}: {lines:?}"));
        (length, self.machine.read_name(buffer))
    }
}
