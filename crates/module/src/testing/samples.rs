use alloc::vec::Vec;

use super::NewExport;
use super::NewParam;
use super::ObjectBuilder;
use crate::elf::Class;
use crate::elf::Endian;
use crate::elf::consts::*;
use crate::exports::ExportTable;
use crate::exports::KsymtabForm;
use crate::params::PARAM_UNSAFE;
use crate::signature::MARKER;

/// Small module files that together have everything this crate reads, with a name each: both classes and byte
/// orders, each form of exports, parameters, versions of both forms, notes, a signature.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let (little, big) = (Endian::Little, Endian::Big);
    let form = |relative, namespace| KsymtabForm { relative, namespace };
    let mut all: Vec<_> = [
        ("x86_64-prel", Class::Elf64, little, EM_X86_64, form(true, true)),
        ("x86_64-prel-4.19", Class::Elf64, little, EM_X86_64, form(true, false)),
        ("x86_64-4.9", Class::Elf64, little, EM_X86_64, form(false, false)),
        ("i386-prel", Class::Elf32, little, EM_386, form(true, true)),
        ("arm", Class::Elf32, little, EM_ARM, form(false, true)),
        ("arm-4.0", Class::Elf32, little, EM_ARM, form(false, false)),
        ("s390x", Class::Elf64, big, EM_S390, form(false, true)),
        ("ppc", Class::Elf32, big, EM_PPC, form(false, true)),
        ("mips64el", Class::Elf64, little, EM_MIPS, form(false, true)),
    ]
    .map(|(name, class, endian, machine, form)| (name, sample(class, endian, machine, form)))
    .into();
    if let Some((_, unsigned)) = all.first() {
        let cms = include_bytes!("../signature/messages/ec.der");
        let mut signed = unsigned.clone();
        signed.extend(cms);
        signed.extend([0, 0, 2, 0, 0, 0, 0, 0]);
        signed.extend((cms.len() as u32).to_be_bytes());
        signed.extend(MARKER);
        all.push(("signed", signed));
    }
    all
}

fn sample(class: Class, endian: Endian, machine: u16, form: KsymtabForm) -> Vec<u8> {
    let mut object = ObjectBuilder::new(class, endian, machine);
    let mut note = Vec::new();
    for word in [4, 8, 3] {
        note.extend(endian.u32_bytes(word));
    }
    note.extend(b"GNU\0\x01\x02\x03\x04\x05\x06\x07\x08");
    object.section(".note.gnu.build-id", SHT_NOTE, SHF_ALLOC, 4, &note);
    let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[0; 32]);
    let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 16]);
    object.nobits(".bss", SHF_ALLOC | SHF_WRITE, 8, 64);
    object.modinfo(&[
        ("license", "GPL"),
        ("alias", "pci:v00008086d*"),
        ("depends", "one,two"),
        ("parm", "count:how many (times)"),
        ("parmtype", "count:int"),
        ("import_ns", "SPACE"),
        ("name", "sample"),
        ("vermagic", "6.1.0 SMP mod_unload modversions "),
    ]);
    let init = object.global("init_module", text, 0);
    let exit = object.global("cleanup_module", text, 16);
    let word = class.pointer_size() as u64;
    object.this_module("sample", 0x380, Some((39 * word, init)), Some((106 * word, exit)));
    object.versions(&[("module_layout", 0x0102_0304), ("_printk", 0x9258_8cb9)]);
    object.undefined("_printk");
    object.weak("maybe");
    let ops = object.undefined("param_ops_int");
    let arg = object.local("count", data, 8);
    let param = NewParam { name: "count", perm: 0o644, level: -1, flags: PARAM_UNSAFE, ops, arg };
    object.params(form.namespace, &[param]);
    let export = |name, namespace, symbol| NewExport { name, namespace, symbol, crc: Some(0xdead_beef) };
    object.exports(
        ExportTable::Plain,
        form,
        &[export("sample_one", "", init), export("sample_two", "SPACE", arg)],
    );
    object.exports(ExportTable::Gpl, form, &[export("sample_gpl", "", init)]);
    if form.namespace && class == Class::Elf64 {
        object.section("__version_ext_crcs", SHT_PROGBITS, SHF_ALLOC, 4, &[1; 8]);
        object.section("__version_ext_names", SHT_PROGBITS, SHF_ALLOC, 1, b"_printk\0maybe\0");
    }
    object.finish()
}
