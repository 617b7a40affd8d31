//! The fixture modules, with what readelf and modinfo show of them.

use std::fs;
use std::path::Path;

use lkm_module::Module;
use lkm_module::elf::ArchCheck;
use lkm_module::elf::Class;
use lkm_module::elf::ElfGeneration;
use lkm_module::elf::ElfRules;
use lkm_module::elf::Endian;
use lkm_module::elf::elf_validity_check;
use lkm_module::exports::ExportTable;

fn fixture(architecture: &str, name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let path = root.join(architecture).join(name).with_extension("ko");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(bytes: Option<&[u8]>) -> &str {
    std::str::from_utf8(bytes.expect("the tag is there")).unwrap()
}

#[test]
fn modinfo_of_hello() {
    for (architecture, magic) in [
        ("x86_64", "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions "),
        ("arm", "6.1.0-50-armmp SMP mod_unload modversions ARMv7 p2v8 "),
    ] {
        let file = fixture(architecture, "hello");
        let module = Module::parse(&file).unwrap();
        assert_eq!(text(module.name()), "hello");
        assert_eq!(text(module.vermagic()), magic);
        assert_eq!(text(module.license()), "GPL");
        assert_eq!(text(module.version()), "1.0");
        assert_eq!(text(module.srcversion()).len(), 23);
        assert_eq!(text(module.description()), "Greets, as often as asked");
        assert_eq!(module.authors().collect::<Vec<_>>(), [b"lkm"]);
        assert_eq!(module.depends().count(), 0);
        assert!(!module.is_intree());
        assert_eq!(module.build_id().map(<[u8]>::len), Some(20));
        assert_eq!(module.signature(), Ok(None));
        let parameters = module.parameters().unwrap();
        let mut parameters: Vec<_> = parameters
            .iter()
            .map(|parameter| (text(Some(parameter.name)), text(parameter.description), text(parameter.kind)))
            .collect();
        parameters.sort_unstable();
        assert_eq!(
            parameters,
            [("count", "how many times to greet", "int"), ("who", "whom to greet", "charp")]
        );
    }
}

#[test]
fn struct_module_has_the_size_and_fields_of_its_kernel() {
    for (architecture, size, init, exit) in [("x86_64", 0x380, 0x138, 0x350), ("arm", 0x240, 0xcc, 0x230)] {
        let place = |name| {
            let file = fixture(architecture, name);
            let module = Module::parse(&file).unwrap();
            let this = module.this_module().unwrap();
            assert_eq!((this.size, text(Some(this.name))), (size, name));
            (this.init.map(|target| target.place), this.exit.map(|target| target.place))
        };
        assert_eq!(place("hello"), (Some(init), Some(exit)));
        assert_eq!(place("no_exit"), (Some(init), None));
        assert_eq!(place("no_init"), (None, None));
    }
}

#[test]
fn exports_of_each_kind() {
    for architecture in ["x86_64", "arm"] {
        let file = fixture(architecture, "exporter");
        let module = Module::parse(&file).unwrap();
        let exports = module.exports().unwrap();
        let exports: Vec<_> = exports
            .iter()
            .map(|export| {
                assert_eq!(export.name, export.value.name);
                let section = &module.elf().sections[export.value.section().unwrap()];
                let section = text(Some(module.elf().section_name(section)));
                let namespace = export.namespace.map(|name| text(Some(name)));
                (text(Some(export.name)), export.table, namespace, export.crc.unwrap(), section)
            })
            .collect();
        // The CRCs are the words of __kcrctab and __kcrctab_gpl; the importer was built against the same.
        assert_eq!(
            exports,
            [
                ("exporter_calls", ExportTable::Plain, None, 0x889c_09f3, ".bss"),
                ("exporter_plain", ExportTable::Plain, None, 0x45d4_638c, ".text"),
                ("exporter_spaced", ExportTable::Plain, Some("FIXTURE"), 0x1add_f545, ".text"),
                ("exporter_gpl", ExportTable::Gpl, None, 0xc131_da00, ".text"),
                ("exporter_spaced_gpl", ExportTable::Gpl, Some("FIXTURE_GPL"), 0xe9eb_0f00, ".text"),
            ]
        );
    }
}

#[test]
fn imports_and_their_versions() {
    for (architecture, layout) in [("x86_64", 0xa351_f379), ("arm", 0x8c18_23f3)] {
        let file = fixture(architecture, "user");
        let module = Module::parse(&file).unwrap();
        assert_eq!(module.versions().get(b"module_layout"), Some(layout));
        let mut namespaces: Vec<_> = module.import_namespaces().collect();
        namespaces.sort_unstable();
        assert_eq!(namespaces, [&b"FIXTURE"[..], b"FIXTURE_GPL"]);
        assert_eq!(module.depends().collect::<Vec<_>>(), [b"exporter"]);

        let imports = module.imports();
        assert_eq!(imports.len(), 9);
        let import = |name: &[u8]| *imports.iter().find(|import| import.name == name).unwrap();
        assert_eq!(import(b"_printk").crc, Some(0x9299_7ed8));
        let symbol = module.symbol_table().unwrap().get(import(b"_printk").symbol).unwrap();
        assert_eq!((symbol.name, symbol.is_undefined()), (&b"_printk"[..], true));
        let absent = import(b"exporter_absent");
        assert!(absent.weak && absent.crc.is_none());

        let exporter = fixture(architecture, "exporter");
        for export in Module::parse(&exporter).unwrap().exports().unwrap() {
            let import = import(export.name);
            assert_eq!((import.crc, import.weak), (export.crc.map(u64::from), false));
        }
    }
}

#[test]
fn parameters_of_every_type() {
    for (architecture, size) in [("x86_64", 40), ("arm", 20)] {
        let file = fixture(architecture, "params");
        let module = Module::parse(&file).unwrap();
        let table = module.kernel_params().unwrap();
        assert_eq!((table.layout.size, table.entries.len()), (size, 23));
        let find = |name: &[u8]| *table.entries.iter().find(|entry| entry.name == Some(name)).unwrap();
        for (name, perm, flags, ops) in [
            ("p_bool", 0o644, 0, "param_ops_bool"),
            ("p_invbool", 0o644, 0, "param_ops_invbool"),
            ("p_enable_only", 0o644, 0, "param_ops_bool_enable_only"),
            ("p_byte", 0o644, 0, "param_ops_byte"),
            ("p_ullong", 0o644, 0, "param_ops_ullong"),
            ("p_charp", 0o644, 0, "param_ops_charp"),
            ("p_string", 0o644, 0, "param_ops_string"),
            ("p_array", 0o644, 0, "param_array_ops"),
            ("p_bytes", 0o444, 0, "param_array_ops"),
            ("p_outside", 0o444, 0, "param_ops_int"),
            ("p_hidden", 0, 0, "param_ops_int"),
            ("p_unsafe", 0o644, 1, "param_ops_int"),
        ] {
            let entry = find(name.as_bytes());
            assert_eq!((entry.perm, entry.level, entry.flags), (perm, -1, flags), "{name}");
            assert_eq!(
                (text(entry.ops.map(|ops| ops.name)), entry.ops.unwrap().section()),
                (ops, None),
                "{name}"
            );
            assert!(entry.arg.unwrap().section().is_some(), "{name}");
        }
        // Its own operations lie in the module; the argument is a variable, not the parameter of p_flag, which has none.
        assert!(find(b"p_even").ops.unwrap().section().is_some());
        assert!(find(b"p_flag").ops.unwrap().section().is_some());
        assert_eq!(find(b"p_flag").arg, None);
    }
}

#[test]
fn every_kernel_generation_accepts_them() {
    let arm = ArchCheck::Arm { thumb: true, vfp: true, apcs26: false };
    for (architecture, arch, class, size) in
        [("x86_64", ArchCheck::X86_64, Class::Elf64, 0x380), ("arm", arm, Class::Elf32, 0x240)]
    {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(architecture);
        let mut count = 0;
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "ko") {
                continue;
            }
            let file = fs::read(&path).unwrap();
            for generation in
                [ElfGeneration::V4, ElfGeneration::V6_1, ElfGeneration::V6_12, ElfGeneration::V6_14]
            {
                let rules = ElfRules {
                    this_module_size: Some(size),
                    debian: true,
                    ..ElfRules::new(generation, arch, class, Endian::Little)
                };
                let elf = elf_validity_check(&file, &rules).unwrap();
                assert_eq!(elf.sections, Module::parse(&file).unwrap().elf().sections);
                let other = if class == Class::Elf64 { arm } else { ArchCheck::X86_64 };
                assert!(elf_validity_check(&file, &ElfRules { arch: other, ..rules }).is_err());
            }
            count += 1;
        }
        assert!(count >= 18, "{architecture} has {count} modules");
    }
}
