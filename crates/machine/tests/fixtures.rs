//! The fixture modules in the machine, on both architectures.

use lkm_kernel::Kernel;
use lkm_kernel::LoadError;
use lkm_kernel::ModuleId;
use lkm_kernel::Profile;
use lkm_link::Arch;
use lkm_machine::Config;
use lkm_machine::Machine;
use lkm_module::Level;

const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Arm];

struct Bench {
    kernel: Kernel,
    machine: Machine,
}

fn fixture(arch: Arch, name: &str) -> Vec<u8> {
    let directory = if arch == Arch::Arm { "arm" } else { "x86_64" };
    let path = format!("{}/../../fixtures/{directory}/{name}.ko", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn vermagic(file: &[u8]) -> &[u8] {
    const KEY: &[u8] = b"vermagic=";
    let at = file.windows(KEY.len()).position(|window| window == KEY).expect("vermagic") + KEY.len();
    file[at..].split(|&byte| byte == 0).next().expect("end")
}

impl Bench {
    fn new(arch: Arch) -> Bench {
        let file = fixture(arch, "hello");
        let profile = Profile::for_vermagic(arch, vermagic(&file)).expect("profile");
        let mut config = Config::new(arch);
        config.module_area = Some(profile.module_area.clone());
        Bench { kernel: Kernel::new(profile), machine: Machine::new(config).expect("machine") }
    }

    fn load(&mut self, name: &str, args: &str) -> Result<ModuleId, LoadError> {
        let file = fixture(self.machine.arch(), name);
        lkm_kernel::init_module(&mut self.kernel, &mut self.machine, &file, Some(args.as_bytes()))
    }

    fn unload(&mut self, name: &str) {
        lkm_kernel::delete_module(&mut self.kernel, &mut self.machine, Some(name.as_bytes()), 0)
            .unwrap_or_else(|error| panic!("{name}: {error:?}\n{}", self.dump()));
    }

    fn dump(&self) -> String {
        self.machine.log_lines().iter().map(|line| format!("{:?} {}\n", line.level, line.text)).collect()
    }

    #[track_caller]
    fn logged(&self, level: Level, text: &str) {
        let found = self.machine.log_lines().iter().any(|line| line.level == level && line.text == text);
        assert!(found, "{text} is not in\n{}", self.dump());
    }

    #[track_caller]
    fn clean(&self) {
        assert!(self.machine.leaks().is_empty(), "{:#?}", self.machine.leaks());
        assert!(self.machine.registrations().is_empty(), "{:#?}", self.machine.registrations());
        assert!(self.machine.heap_reports().is_empty(), "{:#?}", self.machine.heap_reports());
        assert!(self.machine.oopses().is_empty() && self.machine.stops().is_empty(), "{}", self.dump());
    }
}

#[test]
fn hello_greets_and_leaves() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench
            .load("hello", "who=reader count=2")
            .unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        bench.logged(Level::Info, "hello: Hello, reader!");
        bench.unload("hello");
        bench.logged(Level::Info, "hello: Goodbye, reader.");
        bench.clean();
        assert_eq!(bench.machine.calls(), [("_printk".to_owned(), 3)]);
    }
}
