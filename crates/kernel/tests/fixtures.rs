//! The committed modules, loaded and removed on a host that keeps books only.

use std::path::Path;

use lkm_kernel::Bookkeeper;
use lkm_kernel::Callee;
use lkm_kernel::Kernel;
use lkm_kernel::LoadError;
use lkm_kernel::ModuleId;
use lkm_kernel::O_TRUNC;
use lkm_kernel::Permissions;
use lkm_kernel::Profile;
use lkm_kernel::Reason;
use lkm_kernel::Stage;
use lkm_kernel::Standard;
use lkm_kernel::State;
use lkm_kernel::Taints;
use lkm_kernel::delete_module;
use lkm_kernel::delete_module_by_id;
use lkm_kernel::init_module;
use lkm_module::Errno;
use lkm_module::elf::Elf;
use lkm_module::elf::SymbolTable;
use lkm_module::elf::consts::SHN_UNDEF;

const ARCHES: [(&str, &str); 2] = [("x86_64", "debian-6.1-amd64"), ("arm", "debian-6.1-armmp")];

fn fixture(arch: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(arch).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A kernel of one of the two architectures with a host whose kernel image exports whatever the modules import, but
/// for the symbols of the fixture `exporter`.
struct World {
    arch: &'static str,
    kernel: Kernel,
    host: Bookkeeper,
}

impl World {
    fn boot((arch, profile): (&'static str, &str)) -> World {
        let profile = Profile::by_name(profile).expect("a known profile");
        let mut host = Bookkeeper::new(&profile);
        for (index, (_, name)) in Standard::ALL.iter().enumerate() {
            host.export(name.as_bytes(), 0x6000_0000 + 64 * index as u64, None, false, b"");
        }
        World { arch, kernel: Kernel::new(profile), host }
    }

    fn try_load(&mut self, name: &str, args: &str) -> Result<ModuleId, LoadError> {
        let file = fixture(self.arch, &format!("{name}.ko"));
        let elf = Elf::parse(&file).expect("an ELF file");
        let symbols = SymbolTable::of(&elf).expect("a symbol table");
        let mut next = 0x6100_0000;
        for symbol in symbols.iter().skip(1).filter(|symbol| symbol.raw.shndx == SHN_UNDEF) {
            let known = Standard::ALL.iter().any(|row| row.1.as_bytes() == symbol.name);
            if !known && !symbol.name.starts_with(b"exporter_") {
                self.host.export(symbol.name, next, None, false, b"");
                next += 64;
            }
        }
        init_module(&mut self.kernel, &mut self.host, &file, Some(args.as_bytes()))
    }

    fn load(&mut self, name: &str, args: &str) -> ModuleId {
        match self.try_load(name, args) {
            Ok(id) => id,
            Err(error) => panic!("{}/{name}: {error}\n{}", self.arch, self.host.log_text()),
        }
    }

    fn remove(&mut self, name: &str, flags: u32) -> Result<(), Errno> {
        delete_module(&mut self.kernel, &mut self.host, Some(name.as_bytes()), flags)
            .map_err(|error| error.errno())
    }

    fn read(&mut self, path: &str) -> Result<String, Errno> {
        let bytes = self.kernel.sysfs_read(&mut self.host, path.as_bytes())?;
        Ok(String::from_utf8(bytes).expect("text"))
    }

    fn param(&mut self, name: &str) -> String {
        self.read(&format!("params/parameters/{name}")).expect("a readable parameter")
    }

    fn log(&mut self) -> String {
        let text = self.host.log_text();
        self.host.lines.clear();
        text
    }
}

fn everywhere(test: impl Fn(World)) {
    ARCHES.into_iter().for_each(|arch| test(World::boot(arch)));
}

#[test]
fn hello_comes_and_goes() {
    everywhere(|mut world| {
        let id = world.load("hello", "");
        let module = world.kernel.module(id).expect("is loaded");
        assert_eq!(module.name, b"hello");
        assert_eq!((module.refcount(), module.init_size()), (0, 0));
        let init = module.init.expect("has an init function");
        let core = module.core_address();
        assert_eq!(world.host.calls, [(Callee::Init, init, vec![])]);
        assert_eq!(world.host.permissions(core), Some(Permissions::ReadExecute));
        let width = if world.arch == "arm" { 8 } else { 16 };
        let size = module.core_size();
        assert_eq!(world.kernel.proc_modules(), format!("hello {size} 0 - Live 0x{core:0width$x} (OE)\n"));
        assert_eq!(world.read("hello/initstate").as_deref(), Ok("live\n"));
        assert_eq!(world.read("hello/taint").as_deref(), Ok("OE\n"));

        assert_eq!(world.remove("hello", 0), Ok(()));
        assert!(matches!(world.host.calls.last(), Some((Callee::Exit, _, _))));
        assert_eq!(world.kernel.proc_modules(), "");
        assert!(world.host.is_clean());
        assert_eq!(world.kernel.modules_linked_in(), "Modules linked in: [last unloaded: hello(OE)]");
    });
}

#[test]
fn the_stages_run_in_the_kernels_order() {
    everywhere(|mut world| {
        world.load("hello", "");
        let mut expected: Vec<_> =
            Stage::LOAD.iter().filter(|&&stage| stage != Stage::EarlyModCheck).copied().collect();
        // 6.1 looks at modinfo before the layout; there is no early check of the name.
        expected.sort_by_key(|stage| *stage as u8);
        let ran: Vec<_> = world.host.stages.iter().map(|(stage, _)| *stage).collect();
        assert_eq!(ran, expected);
        assert!(world.host.stages.iter().all(|(_, errno)| *errno == 0));
    });
}

#[test]
fn parameters_have_their_defaults() {
    everywhere(|mut world| {
        world.load("params", "");
        for (name, text) in [
            ("p_bool", "N"),
            ("p_invbool", "N"),
            ("p_bint", "0"),
            ("p_enable_only", "N"),
            ("p_byte", "1"),
            ("p_short", "-2"),
            ("p_ushort", "3"),
            ("p_int", "-4"),
            ("p_uint", "5"),
            ("p_long", "-6"),
            ("p_ulong", "7"),
            ("p_ullong", "8"),
            ("p_hexint", "0x0000ff"),
            ("p_charp", "default"),
            ("p_string", "short"),
            ("p_array", "10,20"),
            ("p_bytes", "0,0,0"),
            ("p_names", "first,second"),
            ("p_outside", "9"),
        ] {
            assert_eq!(world.param(name), format!("{text}\n"), "{name}");
        }
        assert_eq!(world.read("params/parameters/p_hidden"), Err(Errno::ENOENT));
        assert_eq!(world.read("params/parameters/p_flag"), Err(Errno::EACCES));
        assert_eq!(world.remove("params", 0), Ok(()));
        assert!(world.host.is_clean());
    });
}

#[test]
fn parameters_are_set() {
    everywhere(|mut world| {
        let args = "p_bool p-invbool=1 p_bint=on p_byte=0xff p_short=-32768 p_ushort=65535 p_int=-0x10 \
                    p_long=-1 p_ullong=18446744073709551615 p_hexint=10 p_charp=\"two words\" p_string=1234567 \
                    p_array=1,2,3 p_names=a,b p_outside=-7 p_hidden=1";
        world.load("params", args);
        for (name, text) in [
            ("p_bool", "Y"),
            ("p_invbool", "Y"),
            ("p_bint", "1"),
            ("p_byte", "255"),
            ("p_short", "-32768"),
            ("p_ushort", "65535"),
            ("p_int", "-16"),
            ("p_long", "-1"),
            ("p_ullong", "18446744073709551615"),
            ("p_hexint", "0x00000a"),
            ("p_charp", "two words"),
            ("p_string", "1234567"),
            ("p_array", "1,2,3"),
            ("p_names", "a,b"),
            ("p_outside", "-7"),
        ] {
            assert_eq!(world.param(name), format!("{text}\n"), "{name}");
        }
        assert_eq!(world.remove("params", 0), Ok(()));
        assert!(world.host.is_clean(), "the copies of texts are freed");
    });
}

#[test]
fn wrong_values_are_refused_with_the_kernels_words() {
    for (args, errno, lines) in [
        ("p_byte=256", Errno::ERANGE, "<3>params: `256' invalid for parameter `p_byte'\n"),
        ("p_int=x", Errno::EINVAL, "<3>params: `x' invalid for parameter `p_int'\n"),
        ("p_int", Errno::EINVAL, "<3>params: `' invalid for parameter `p_int'\n"),
        ("p_invbool", Errno::EINVAL, "<3>params: `' invalid for parameter `p_invbool'\n"),
        ("p_uint=-1", Errno::EINVAL, "<3>params: `-1' invalid for parameter `p_uint'\n"),
        (
            "p_string=12345678",
            Errno::ENOSPC,
            "<3>p_string: string doesn't fit in 7 chars.\n\
             <3>params: `12345678' too large for parameter `p_string'\n",
        ),
        (
            "p_array=1,2,3,4,5",
            Errno::EINVAL,
            "<3>p_array: can only take 4 arguments\n<3>params: `1' invalid for parameter `p_array'\n",
        ),
        ("p_array=1,b", Errno::EINVAL, "<3>params: `1' invalid for parameter `p_array'\n"),
        (
            "p_int=q p_byte=999 p_bool=2",
            Errno::EINVAL,
            "<3>params: `q' invalid for parameter `p_int'\n<3>params: `999' invalid for parameter `p_byte'\n\
             <3>params: `2' invalid for parameter `p_bool'\n",
        ),
    ] {
        everywhere(|mut world| {
            let error = world.try_load("params", args).expect_err(args);
            assert_eq!((error.stage, error.errno()), (Stage::ParseArgs, errno), "{args}");
            let log = world.log();
            assert!(log.ends_with(lines), "{args}: {log}");
            assert!(world.host.is_clean(), "{args}");
            assert_eq!(world.kernel.proc_modules(), "");
        });
    }
}

#[test]
fn a_long_text_is_refused() {
    everywhere(|mut world| {
        let text = "x".repeat(1025);
        let error = world.try_load("params", &format!("p_charp={text}")).expect_err("too long");
        assert_eq!(error.errno(), Errno::ENOSPC);
        assert!(world.log().contains("<3>p_charp: string parameter too long\n"));
        let text = "x".repeat(1024);
        world.load("params", &format!("p_charp={text}"));
        assert_eq!(world.param("p_charp"), format!("{text}\n"));
    });
}

#[test]
fn unknown_parameters_are_only_warned_of() {
    everywhere(|mut world| {
        let args = "nonsense=1 p_int=3 params.p_int=5 dyndbg x.dyndbg=+p async_probe -- p_int=4 more";
        world.load("params", args);
        let log = world.log();
        assert!(log.contains("<4>params: unknown parameter 'params' ignored\n"), "cut at the dot: {log}");
        assert_eq!(log.matches("unknown parameter").count(), 2, "{log}");
        assert!(log.contains("<4>params: unknown parameter 'nonsense' ignored\n"), "{log}");
        assert!(log.contains("<4>params: parameters 'p_int=4 more' after `--' ignored\n"), "{log}");
        assert_eq!(world.param("p_int"), "3\n");
    });
}

#[test]
fn a_dangerous_parameter_taints() {
    everywhere(|mut world| {
        world.load("params", "p_unsafe=1");
        assert!(world.kernel.taints.contains(Taints::USER));
        assert!(world.log().contains("<5>Setting dangerous option p_unsafe - tainting kernel\n"));
    });
}

#[test]
fn a_parameter_of_the_modules_own_runs_its_code() {
    everywhere(|mut world| {
        // EDOM from the module's function passes through.
        world.host.results = vec![Some((-33i32) as u32 as u64)];
        let error = world.try_load("params", "p_even=13").expect_err("13 has an error of its own");
        assert_eq!(error.errno(), Errno::EDOM);
        assert!(world.log().ends_with("<3>params: `13' invalid for parameter `p_even'\n"));
        let (callee, _, arguments) = world.host.calls.first().expect("the function was called");
        assert_eq!((*callee, arguments.len()), (Callee::ParamSet, 2));

        world.load("params", "p_even=12 p_flag");
        let flag = world.host.calls.iter().rfind(|call| call.0 == Callee::ParamSet).expect("p_flag");
        assert_eq!(flag.2.first(), Some(&0), "no value is a null pointer");
        assert!(world.host.calls.iter().any(|call| call.0 == Callee::Init));
    });
}

#[test]
fn files_of_parameters_are_written() {
    everywhere(|mut world| {
        world.load("params", "");
        let mut write = |name: &str, text: &str| {
            let path = format!("params/parameters/{name}");
            world.kernel.sysfs_write(&mut world.host, path.as_bytes(), text.as_bytes())
        };
        assert_eq!(write("p_int", "77\n"), Ok(()));
        assert_eq!(write("p_array", "5,6,7,8"), Ok(()));
        assert_eq!(write("p_enable_only", "Y"), Ok(()));
        assert_eq!(write("p_enable_only", "N"), Err(Errno::EROFS));
        assert_eq!(write("p_outside", "1"), Err(Errno::EACCES));
        assert_eq!(write("p_byte", "300"), Err(Errno::ERANGE));
        assert_eq!(write("absent", "1"), Err(Errno::ENOENT));
        assert_eq!(write("p_charp", "new text"), Ok(()));
        assert_eq!(world.param("p_int"), "77\n");
        assert_eq!(world.param("p_array"), "5,6,7,8\n");
        assert_eq!(world.param("p_enable_only"), "Y\n");
        assert_eq!(world.param("p_charp"), "new text\n");
        assert_eq!(world.remove("params", 0), Ok(()));
        assert!(world.host.is_clean());
    });
}

#[test]
fn users_hold_what_they_use() {
    everywhere(|mut world| {
        let error = world.try_load("user", "").expect_err("exporter is not there");
        assert_eq!((error.stage, error.errno()), (Stage::SimplifySymbols, Errno::ENOENT));
        let Reason::Symbols { missing, .. } = &error.reason else { panic!("{error:?}") };
        assert_eq!(missing.len(), 5, "all are listed: {missing:?}");
        let log = world.log();
        assert!(log.contains("<4>user: Unknown symbol exporter_plain (err -2)\n"), "{log}");
        assert!(world.host.is_clean());

        world.load("exporter", "");
        world.load("user", "");
        let table = world.kernel.proc_modules();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(' ').collect()).collect();
        assert_eq!(lines[0][0], "user", "the latest first");
        assert_eq!((lines[1][0], lines[1][2], lines[1][3]), ("exporter", "1", "user,"));
        let holders = world.kernel.sysfs_list(b"exporter/holders").expect("a directory");
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].name, b"user");

        assert_eq!(world.remove("exporter", 0), Err(Errno::EAGAIN));
        assert_eq!(world.remove("exporter", O_TRUNC), Err(Errno::EAGAIN), "force does not override users");
        assert!(!world.kernel.taints.contains(Taints::FORCED_RMMOD));
        assert_eq!(world.remove("user", 0), Ok(()));
        assert_eq!(world.read("exporter/refcnt").as_deref(), Ok("0\n"));
        assert_eq!(world.remove("exporter", 0), Ok(()));
        assert!(world.host.is_clean());
    });
}

#[test]
fn namespaces_and_licences_are_respected() {
    everywhere(|mut world| {
        world.load("exporter", "");
        world.log();
        let error = world.try_load("user_nons", "").expect_err("the namespace is not imported");
        assert_eq!(error.errno(), Errno::EINVAL);
        let log = world.log();
        assert!(
            log.contains(
                "<3>user_nons: module uses symbol (exporter_spaced) from namespace FIXTURE, but does not import it.\n\
                 <4>user_nons: Unknown symbol exporter_spaced (err -22)\n"
            ),
            "{log}"
        );
        let error = world.try_load("user_proprietary", "").expect_err("GPL only");
        assert_eq!(error.errno(), Errno::ENOENT);
        assert!(world.kernel.taints.contains(Taints::PROPRIETARY_MODULE), "the taint stays with 6.1");
        let log = world.log();
        assert!(
            log.contains(
                "<4>user_proprietary: module license 'Proprietary' taints kernel.\n\
                 <4>Disabling lock debugging due to kernel taint\n"
            ),
            "{log}"
        );
        assert_eq!(world.read("exporter/refcnt").as_deref(), Ok("0\n"), "no reference is left");
    });
}

#[test]
fn a_name_is_loaded_once() {
    everywhere(|mut world| {
        world.load("hello", "");
        let error = world.try_load("hello", "").expect_err("loaded already");
        assert_eq!((error.stage, error.errno()), (Stage::AddUnformedModule, Errno::EEXIST));
        assert_eq!(world.kernel.modules().count(), 1);
        assert_eq!(world.remove("hello", 0), Ok(()));
        assert!(world.host.is_clean());
    });
}

#[test]
fn kallsyms_shows_plain_exports_in_upper_case() {
    everywhere(|mut world| {
        let id = world.load("exporter", "");
        let text = world.kernel.proc_kallsyms();
        let letter = |name: &str| {
            let line = text.lines().find(|line| line.ends_with(&format!(" {name}\t[exporter]")));
            line.and_then(|line| line.split(' ').nth(1)).unwrap_or_else(|| panic!("{name}: {text}"))
        };
        assert_eq!(letter("exporter_plain"), "T");
        assert_eq!(letter("exporter_gpl"), "t");
        assert_eq!(letter("exporter_spaced_gpl"), "t");
        assert!(!text.contains(" exporter_init\t"), "init symbols are gone");

        let plain = world.kernel.module_kallsyms_lookup_name(b"exporter:exporter_plain").expect("a symbol");
        let place = world.kernel.module_address_lookup(plain + 4).expect("a place");
        assert_eq!((place.symbol.as_slice(), place.offset), (&b"exporter_plain"[..], 4));
        let module = world.kernel.module(id).expect("is loaded");
        assert!(module.syms.iter().any(|export| export.name == b"exporter_plain" && export.address == plain));
        assert_eq!(module.syms.len(), 3);
        assert_eq!(module.gpl_syms.len(), 2);
        assert!(module.gpl_syms.iter().any(|export| export.namespace == b"FIXTURE_GPL"));
        assert!(module.syms.iter().all(|export| export.crc.is_some()));
    });
}

#[test]
fn an_init_function_that_fails_leaves_nothing() {
    everywhere(|mut world| {
        world.host.results = vec![Some((-22i32) as u32 as u64)];
        let error = world.try_load("init_einval", "").expect_err("init refuses");
        assert_eq!(error.reason, Reason::Init(-22));
        assert_eq!((error.stage, error.errno(), error.returned()), (Stage::DoInitModule, Errno::EINVAL, -22));
        assert!(world.host.is_clean());
        assert_eq!(world.kernel.modules().count(), 0);

        // A number that is no errno is passed through.
        world.host.results = vec![Some((-4096i32) as u32 as u64)];
        assert_eq!(world.try_load("init_einval", "").expect_err("refuses").returned(), -4096);
        world.host.results = vec![None];
        assert_eq!(world.try_load("init_einval", "").expect_err("dies").reason, Reason::InitDied);
        assert!(world.host.is_clean());
    });
}

#[test]
fn a_positive_value_of_init_is_success() {
    everywhere(|mut world| {
        world.host.results = vec![Some(5)];
        let id = world.load("init_positive", "");
        assert_eq!(world.kernel.module(id).map(|module| module.state), Some(State::Live));
        assert!(world.log().ends_with(
            "<4>do_init_module: 'init_positive'->init suspiciously returned 5, it should follow 0/-E convention\n\
             do_init_module: loading module anyway...\n"
        ));
    });
}

#[test]
fn a_module_without_exit_stays_unless_forced() {
    everywhere(|mut world| {
        let id = world.load("no_exit", "");
        assert!(
            world.kernel.proc_modules_line(id).is_some_and(|line| line.contains(" 0 [permanent], Live "))
        );
        assert_eq!(world.remove("no_exit", 0), Err(Errno::EBUSY));
        assert_eq!(world.remove("no_exit", O_TRUNC), Ok(()));
        assert!(world.kernel.taints.contains(Taints::FORCED_RMMOD));
        assert!(world.host.is_clean());
    });
}

#[test]
fn a_module_without_init_comes_and_goes() {
    everywhere(|mut world| {
        world.load("no_init", "");
        assert!(world.host.calls.is_empty());
        assert_eq!(world.remove("no_init", 0), Ok(()));
        assert!(world.host.is_clean());
    });
}

#[test]
fn references_keep_a_module() {
    everywhere(|mut world| {
        let id = world.load("hello", "");
        assert!(world.kernel.try_module_get(id));
        assert_eq!(world.read("hello/refcnt").as_deref(), Ok("1\n"));
        assert_eq!(world.remove("hello", 0), Err(Errno::EAGAIN));
        assert_eq!(world.read("hello/refcnt").as_deref(), Ok("1\n"), "as before");
        assert!(world.kernel.module_put(id));
        assert_eq!(world.remove("hello", 0), Ok(()));
        assert!(!world.kernel.try_module_get(id));
    });
}

#[test]
fn per_cpu_data_is_reserved_and_given_back() {
    everywhere(|mut world| {
        let id = world.load("percpu", "");
        assert!(world.kernel.module(id).is_some_and(|module| module.percpu.is_some()));
        assert_eq!(world.remove("percpu", 0), Ok(()));
        assert!(world.host.is_clean());
    });
}

#[test]
fn a_failure_of_each_stage_and_of_each_allocation_leaves_the_state_before() {
    for name in ["hello", "params", "percpu", "exporter"] {
        for &stage in Stage::LOAD {
            everywhere(|mut world| {
                world.load("no_init", "");
                let (before, taints) = (world.kernel.proc_modules(), world.kernel.taints);
                world.host.stop = Some(stage);
                let error = match world.try_load(name, "p_charp=text p_names=a,b") {
                    Err(error) => error,
                    Ok(_) => {
                        assert_eq!(stage, Stage::EarlyModCheck, "6.1 has no such stage");
                        return;
                    }
                };
                assert_eq!((error.stage, error.reason), (stage, Reason::Stopped));
                assert_eq!(world.kernel.proc_modules(), before, "{stage}");
                assert!(world.kernel.sysfs_list(name.as_bytes()).is_none());
                assert!(world.kernel.taints.contains(taints));
                world.host.stop = None;
                assert_eq!(world.remove("no_init", 0), Ok(()));
                assert!(world.host.is_clean(), "{name}: {stage}");
            });
        }
        everywhere(|mut world| {
            let mut fails = 0;
            loop {
                world.host.allocations = 0;
                world.host.fail_allocation = Some(fails);
                match world.try_load(name, "p_charp=text p_names=a,b") {
                    Err(error) => assert_eq!(error.errno(), Errno::ENOMEM, "{name}: allocation {fails}"),
                    Ok(_) => break,
                }
                assert!(world.host.is_clean(), "{name}: allocation {fails}");
                assert_eq!(world.kernel.modules().count(), 0);
                fails += 1;
            }
            assert!(fails >= 3, "core, init and the parameter text at least: {fails}");
        });
    }
}

#[test]
fn struct_module_is_filled_in() {
    let mut world = World::boot(ARCHES[0]);
    let id = world.load("exporter", "");
    let module = world.kernel.module(id).expect("is loaded").clone();
    let at = |offset: u64, size: usize| {
        world.host.bytes(module.this_module + offset, size).expect("module memory").to_vec()
    };
    let word = |offset| u64::from_le_bytes(at(offset, 8).try_into().expect("eight bytes"));
    let half = |offset| u32::from_le_bytes(at(offset, 4).try_into().expect("four bytes"));
    assert_eq!(half(0), 0, "state LIVE");
    assert_eq!(at(24, 9), b"exporter\0");
    let section =
        |name: &[u8]| module.sections.iter().find(|section| section.name == name).expect("a section").address;
    assert_eq!((word(208), half(224)), (section(b"__ksymtab"), 3));
    assert_eq!((word(280), half(276)), (section(b"__ksymtab_gpl"), 2));
    assert_eq!(word(216), section(b"__kcrctab"));
    assert_eq!(word(320), module.core_address());
    assert_eq!(u64::from(half(328)), module.core_size());
    assert_eq!((word(400), half(408)), (0, 0), "the init part is gone");
    assert_eq!(word(544), module.this_module + 552, "kallsyms are the kept ones");
    assert_eq!(half(856), 1, "only the base reference");
    assert_eq!(Some(word(312)), module.init);
    assert_eq!(word(504), Taints::OOT_MODULE.union(Taints::UNSIGNED_MODULE).bits());
}

#[test]
fn struct_module_is_filled_in_on_arm() {
    let mut world = World::boot(ARCHES[1]);
    let id = world.load("exporter", "");
    let module = world.kernel.module(id).expect("is loaded").clone();
    let word = |offset: u64| {
        let bytes = world.host.bytes(module.this_module + offset, 4).expect("module memory");
        u64::from(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    let section = |name: &[u8]| {
        module.sections.iter().find(|section| section.name == name).map_or(0, |section| section.address)
    };
    assert_eq!((word(140), word(148)), (section(b"__ksymtab"), 3));
    assert_eq!((word(184), word(180)), (section(b"__ksymtab_gpl"), 2));
    assert_eq!(Some(word(204)), module.init);
    assert_eq!((word(256), word(260)), (module.core_address(), module.core_size()));
    assert_eq!((word(304), word(308)), (0, 0), "the init part is gone");
    assert_eq!(word(408), module.this_module + 412, "kallsyms are the kept ones");
    assert_eq!(word(524), section(b"__mcount_loc"));
    assert_eq!((word(0), word(564)), (0, 1), "LIVE, with the base reference");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(150))]

    #[test]
    fn any_parameter_text_leaves_nothing(
        words in proptest::collection::vec(
            proptest::prop_oneof![
                "p_[a-z]{3,8}(=[-+0-9a-fxYN,\"]{0,12})?",
                "(p_array|p_names|p_bytes|p_charp|p_string|p_even|p_flag)=[0-9a-z,]{0,20}",
                "[ -~]{0,12}",
            ],
            0..8,
        ),
        rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20),
    ) {
        let mut text = words.join(" ").into_bytes();
        text.extend(rest);
        for arch in ARCHES {
            let mut world = World::boot(arch);
            world.host.stand_ins = true;
            let file = fixture(arch.0, "params.ko");
            let loaded = init_module(&mut world.kernel, &mut world.host, &file, Some(&text));
            match loaded {
                Ok(_) => proptest::prop_assert_eq!(world.remove("params", 0), Ok(())),
                Err(error) => proptest::prop_assert_eq!(error.stage, Stage::ParseArgs),
            }
            proptest::prop_assert!(world.host.is_clean());
            proptest::prop_assert_eq!(world.kernel.modules().count(), 0);
        }
    }

    #[test]
    fn damaged_fixtures_leave_nothing(
        name in proptest::sample::select(vec!["hello", "params", "exporter", "percpu", "user"]),
        changes in proptest::collection::vec((0usize..1 << 20, proptest::prelude::any::<u8>()), 1..8),
        cut in 0usize..40,
    ) {
        for arch in ARCHES {
            let mut file = fixture(arch.0, &format!("{name}.ko"));
            for &(at, value) in &changes {
                let at = at % file.len();
                file[at] = value;
            }
            if cut < 4 {
                file.truncate(file.len() / (cut + 1));
            }
            let mut world = World::boot(arch);
            world.host.stand_ins = true;
            let loaded = init_module(&mut world.kernel, &mut world.host, &file, Some(b"p_charp=x p_names=a,b"));
            if let Ok(id) = loaded {
                let _ = world.kernel.proc_kallsyms();
                if delete_module_by_id(&mut world.kernel, &mut world.host, id, O_TRUNC).is_err() {
                    continue;
                }
            }
            proptest::prop_assert!(world.host.is_clean());
            proptest::prop_assert_eq!(world.kernel.modules().count(), 0);
        }
    }
}
