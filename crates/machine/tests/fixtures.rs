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
        Bench::with(arch, |_| {})
    }

    fn with(arch: Arch, change: impl FnOnce(&mut Config)) -> Bench {
        let file = fixture(arch, "hello");
        let profile = Profile::for_vermagic(arch, vermagic(&file)).expect("profile");
        let mut config = Config::new(arch);
        config.module_area = Some(profile.module_area.clone());
        change(&mut config);
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

#[test]
fn parameters_of_every_type_are_seen_by_the_code() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        let args =
            "p_int=-5 p_ullong=18446744073709551615 p_charp=\"two words\" p_array=1,2,3 p_even=8 p_flag";
        bench.load("params", args).unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        let dump = bench.dump();
        for part in
            ["int=-5", "ullong=18446744073709551615", "charp=two words", "array[2]=3", "even=8 flag=1"]
        {
            assert!(dump.contains(part), "{part} is not in\n{dump}");
        }
        bench.unload("params");
        bench.clean();
    }
}

#[test]
fn exports_are_called_across_modules() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("exporter", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        bench.load("user", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        bench.unload("user");
        bench.unload("exporter");
        bench.logged(Level::Info, "exporter: ready");
        bench.clean();
    }
}

#[test]
fn init_that_fails_leaves_nothing() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        let error = bench.load("init_einval", "").expect_err("init fails");
        assert_eq!(error.errno(), lkm_module::Errno::EINVAL);
        bench.logged(Level::Err, "init_einval: no device");
        bench.clean();
        assert_eq!(bench.kernel.modules().count(), 0);
    }
}

#[test]
fn init_may_return_a_positive_number() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("init_positive", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        bench.unload("init_positive");
        bench.logged(Level::Info, "init_positive: gone");
        bench.clean();
    }
}

#[test]
fn leaks_are_named() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("leak", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        bench.unload("leak");
        let mut leaks: Vec<_> = bench
            .machine
            .leaks()
            .into_iter()
            .map(|leak| (leak.size, leak.allocated_by, leak.module))
            .collect();
        leaks.sort();
        assert_eq!(leaks.iter().map(|leak| leak.0).collect::<Vec<_>>(), [40, 3000, 10000]);
        for (_, by, module) in leaks {
            assert!(
                (by.starts_with("leak_init+") || by.starts_with("init_module+")) && by.ends_with(" [leak]"),
                "{by}"
            );
            assert_eq!(module, "leak");
        }
    }
}

#[test]
fn every_misuse_of_memory_is_found_where_it_happens() {
    use lkm_machine::HeapErrorKind::*;
    let bugs = [
        ("over", OutOfBounds, true),
        ("under", OutOfBounds, true),
        ("far", OutOfBounds, false),
        ("uaf", UseAfterFree, false),
        ("uaf-write", UseAfterFree, true),
        ("double-free", DoubleFree, false),
        ("wild-free", InvalidFree, false),
    ];
    for arch in ARCHES {
        for (bug, kind, write) in bugs {
            let mut bench = Bench::new(arch);
            bench
                .load("memory", &format!("bug={bug}"))
                .unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
            bench.logged(Level::Info, &format!("memory: done with {bug}"));
            let [report] = bench.machine.heap_reports() else {
                panic!("{arch:?} {bug}: {:#?}", bench.machine.heap_reports())
            };
            assert_eq!((report.kind, report.write), (kind, write), "{arch:?} {bug}");
            assert!(report.at.ends_with(" [memory]") && report.at.contains("init"), "{report:?}");
            let object = report.object.as_ref().expect("object");
            assert_eq!(object.size, 40);
            assert!(object.allocated_by.ends_with(" [memory]"));
            assert_eq!(object.freed_by.is_some(), matches!(kind, UseAfterFree | DoubleFree), "{bug}");
            bench.unload("memory");
            assert!(bench.machine.leaks().is_empty());
        }
        let mut bench = Bench::new(arch);
        bench.load("memory", "").expect("no bug");
        bench.unload("memory");
        bench.clean();
    }
}

#[test]
fn faults_end_init_and_the_machine_goes_on() {
    let faults = [
        ("null", "kernel NULL pointer dereference", "kernel NULL pointer dereference", "fault_read+"),
        ("wild", "general protection fault", "paging request", "fault_read+"),
        ("bug", "invalid opcode", "Oops - BUG", "init"),
        ("text", "unable to handle page fault", "paging request", "fault_write+"),
        ("exec", "unable to handle page fault", "paging request", "data+0x0/"),
    ];
    for arch in ARCHES {
        for (how, x86, arm, at) in faults {
            let mut bench = Bench::new(arch);
            let error = bench.load("oops", &format!("how={how}"));
            assert!(error.is_err(), "{how}\n{}", bench.dump());
            let [oops] = bench.machine.oopses() else { panic!("{how}: {}", bench.dump()) };
            let title = if arch == Arch::Arm { arm } else { x86 };
            let title = if arch == Arch::Arm && how == "null" { "NULL pointer dereference" } else { title };
            assert!(oops.title.contains(title), "{how}: {}", oops.title);
            assert!(oops.at.contains(at) && oops.at.ends_with(" [oops]"), "{how}: {}", oops.at);
            // The others are reached by a tail call, which leaves nothing behind.
            if matches!(how, "text" | "exec") {
                assert!(
                    oops.backtrace.iter().any(|symbol| symbol.contains("init")),
                    "{how}: {:?}",
                    oops.backtrace
                );
            }
            assert!(oops.instruction.is_some() || how == "exec", "{how}");
            // The machine is as good as before.
            bench.load("hello", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
            bench.unload("hello");
        }
    }
}

#[test]
fn warnings_are_survived() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("oops", "how=warn").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        let dump = bench.dump();
        assert!(dump.contains("oops: warned") && dump.contains("WARNING: CPU: 0 PID: 100 at "), "{dump}");
        assert!(dump.contains("oops.c:"), "{dump}");
        bench.logged(Level::Info, "oops: survived warn");
        bench.unload("oops");
        bench.clean();
    }
}

#[test]
fn an_endless_loop_is_ended_by_either_budget() {
    use lkm_machine::Budget;
    use lkm_machine::Spent;
    use lkm_machine::StopKind;
    let large = u64::MAX;
    let budgets = [
        (Budget { instructions: 1_000_000, calls: large, time: None }, Spent::Instructions),
        (
            Budget { instructions: large, calls: large, time: Some(std::time::Duration::from_millis(50)) },
            Spent::Time,
        ),
    ];
    for arch in ARCHES {
        for (budget, spent) in budgets {
            let mut bench = Bench::with(arch, |config| config.budget = budget);
            bench.load("oops", "how=loop").expect_err("endless");
            assert_eq!(bench.machine.stops().len(), 1);
            assert_eq!(bench.machine.stops()[0].kind, StopKind::Budget(spent));
            assert!(bench.machine.stops()[0].at.ends_with(" [oops]"), "{:?}", bench.machine.stops());
        }
        let mut bench = Bench::with(arch, |config| config.budget.calls = 5);
        bench.load("hello", "count=100").expect_err("too many calls");
        assert_eq!(bench.machine.stops()[0].kind, StopKind::Budget(Spent::Calls));
    }
}

#[test]
fn an_import_without_an_implementation_is_named_with_its_caller() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("rare", "").expect_err("stopped");
        bench.logged(Level::Info, "rare: before");
        let [stop] = bench.machine.stops() else { panic!("{}", bench.dump()) };
        let name = "zlib_inflate_workspacesize".to_owned();
        assert_eq!(stop.kind, lkm_machine::StopKind::UnknownFunction { name });
        assert!(stop.at.contains("init") && stop.at.ends_with(" [rare]"), "{}", stop.at);
        assert!(bench.machine.oopses().is_empty());
    }
}

#[test]
fn per_cpu_data_has_its_template() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("percpu", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        bench.logged(Level::Info, "percpu: cpu 0 has tally 7");
        bench.logged(Level::Info, "percpu: sum 7, this cpu now 8");
        bench.unload("percpu");
        bench.logged(Level::Info, "percpu: this cpu had 8");
        bench.clean();
    }
}

#[test]
fn a_proc_file_is_read_and_written_through_the_module() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("procfile", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        let Bench { kernel, machine } = &mut bench;
        let paths: Vec<_> = machine.files().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["/proc/procfile", "/proc/procfile/message"]);
        let id = kernel.find_module(b"procfile").expect("module").id;
        let file = machine.open_file(kernel, "/proc/procfile/message").expect("open");
        assert_eq!(kernel.module(id).expect("module").refcount(), 1);
        assert_eq!(machine.read_whole_file(kernel, file).expect("read"), b"message: nothing yet\nend\n");
        assert_eq!(machine.write_file(kernel, file, b"changed\n").expect("write"), 8);
        machine.close_file(kernel, file).expect("close");
        let file = machine.open_file(kernel, "/proc/procfile/message").expect("open");
        assert_eq!(machine.read_file(kernel, file, 9).expect("read"), b"message: ");
        assert_eq!(machine.read_file(kernel, file, 100).expect("read"), b"changed\nend\n");
        assert_eq!(machine.seek_file(kernel, file, 9).expect("seek"), 9);
        assert_eq!(machine.read_file(kernel, file, 4).expect("read"), b"chan");
        machine.close_file(kernel, file).expect("close");
        assert_eq!(kernel.module(id).expect("module").refcount(), 0);
        let missing = machine.open_file(kernel, "/proc/none").expect_err("missing");
        assert_eq!(missing, lkm_machine::FileError::Errno(lkm_module::Errno::ENOENT));
        bench.unload("procfile");
        assert!(bench.machine.files().is_empty());
        bench.clean();
    }
}

#[test]
fn a_character_device_is_used_through_the_module() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("chardev", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        let kinds: Vec<_> = bench.machine.registrations().iter().map(|item| item.kind).collect();
        assert_eq!(kinds, ["device numbers", "character device", "class", "device"]);
        let Bench { kernel, machine } = &mut bench;
        assert_eq!(machine.files()[0].path, "/dev/chardev0");
        let file = machine.open_file(kernel, "/dev/chardev0").expect("open");
        assert_eq!(machine.read_whole_file(kernel, file).expect("read"), b"empty\n");
        machine.seek_file(kernel, file, 0).expect("seek");
        assert_eq!(machine.write_file(kernel, file, b"new content").expect("write"), 11);
        machine.seek_file(kernel, file, 4).expect("seek");
        assert_eq!(machine.read_whole_file(kernel, file).expect("read"), b"content");
        // _IOR('k', 1, u32)
        let mut length = [0; 4];
        assert_eq!(machine.ioctl_file(kernel, file, 0x8004_6b01, &mut length).expect("ioctl"), 0);
        assert_eq!(u32::from_le_bytes(length), 11);
        let error = machine.ioctl_file(kernel, file, 1, &mut []).expect_err("unknown");
        assert_eq!(error, lkm_machine::FileError::Errno(lkm_module::Errno::ENOTTY));
        machine.close_file(kernel, file).expect("close");
        assert!(machine.read_file(kernel, file, 1).is_err());
        bench.logged(Level::Info, "chardev: opened, minor 0");
        bench.logged(Level::Info, "chardev: closed");
        bench.unload("chardev");
        bench.clean();
    }
}

#[test]
fn a_misc_device_counts() {
    for arch in ARCHES {
        let mut bench = Bench::new(arch);
        bench.load("miscdev", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        let Bench { kernel, machine } = &mut bench;
        let file = machine.open_file(kernel, "/dev/miscdev").expect("open");
        assert_eq!(machine.read_whole_file(kernel, file).expect("read"), b"0\n");
        assert_eq!(machine.write_file(kernel, file, b"0x10\n").expect("write"), 5);
        let error = machine.write_file(kernel, file, b"ten").expect_err("no number");
        assert_eq!(error, lkm_machine::FileError::Errno(lkm_module::Errno::EINVAL));
        machine.close_file(kernel, file).expect("close");
        let file = machine.open_file(kernel, "/dev/miscdev").expect("open");
        assert_eq!(machine.read_whole_file(kernel, file).expect("read"), b"16\n");
        machine.close_file(kernel, file).expect("close");
        bench.unload("miscdev");
        bench.clean();
    }
}

/// Numbers that look random and are the same in every run.
fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn code_that_is_damaged_does_no_harm() {
    use lkm_machine::Budget;
    let mut state = 0x1234_5678_9abc_def1;
    let names = ["hello", "params", "memory", "procfile", "chardev", "miscdev", "percpu", "oops"];
    for arch in ARCHES {
        let mut ended = 0;
        for round in 0..60 {
            let name = names[round % names.len()];
            let mut file = fixture(arch, name);
            // Somewhere in the code: sections begin behind the ELF header, and code comes first.
            for _ in 0..8 {
                let at = 64 + noise(&mut state) as usize % (file.len() / 8);
                file[at] = noise(&mut state) as u8;
            }
            let budget = Budget { instructions: 200_000, calls: 2000, time: None };
            let mut bench = Bench::with(arch, |config| config.budget = budget);
            if lkm_kernel::init_module(&mut bench.kernel, &mut bench.machine, &file, Some(b"")).is_ok() {
                let _ = lkm_kernel::delete_module(
                    &mut bench.kernel,
                    &mut bench.machine,
                    Some(name.as_bytes()),
                    0,
                );
            }
            ended += usize::from(!bench.machine.stops().is_empty());
        }
        assert!(ended > 0, "no damage was felt at all");
    }
}

/// `formats.log` is what Debian's own kernels printed for the same file.
#[test]
fn formats_are_printed_as_real_kernels_do() {
    for arch in ARCHES {
        let directory = if arch == Arch::Arm { "arm" } else { "x86_64" };
        let path = format!("{}/../../fixtures/{directory}/formats.log", env!("CARGO_MANIFEST_DIR"));
        let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut bench = Bench::new(arch);
        bench.load("formats", "").unwrap_or_else(|error| panic!("{error:?}\n{}", bench.dump()));
        let lines = bench.machine.log_lines();
        let ours: Vec<&str> = lines.iter().filter_map(|line| line.text.strip_prefix("formats: ")).collect();
        let theirs: Vec<&str> = expected.lines().collect();
        let different: Vec<String> = ours
            .iter()
            .zip(&theirs)
            .filter(|(ours, theirs)| ours != theirs)
            .map(|(ours, theirs)| format!("ours   {ours}\nkernel {theirs}\n"))
            .collect();
        assert!(
            different.is_empty(),
            "{arch:?}, {} of {}:\n{}",
            different.len(),
            theirs.len(),
            different.concat()
        );
        assert_eq!(ours.len(), theirs.len());
        // The kernel's own lines between those are not in the file; what it complains of, it does once.
        let complaints: Vec<&str> = lines
            .iter()
            .map(|line| line.text.as_str())
            .filter(|text| text.starts_with("Please") || text.ends_with("too large"))
            .collect();
        assert_eq!(complaints, ["Please remove unsupported %. in format string"]);
        assert!(theirs.len() > 600, "{}", theirs.len());
        bench.unload("formats");
        bench.clean();
    }
}
