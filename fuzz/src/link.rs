//! The linker, from the file to relocated bytes.

use std::hint::black_box;
use std::sync::LazyLock;

use lkm_link::Arch;
use lkm_link::LinkError;
use lkm_link::LinkRules;
use lkm_link::LoadInfo;
use lkm_link::Resolve;
use lkm_link::SymbolError;
use lkm_module::Errno;
use lkm_module::elf::Elf;
use lkm_module::elf::Endian;

const PAGE: u64 = 4096;
/// The host has this much memory for a module.
const MEMORY: u64 = 64 << 20;

static X86_64: LazyLock<LinkRules> = LazyLock::new(|| rules(Arch::X86_64));
static ARM: LazyLock<LinkRules> = LazyLock::new(|| rules(Arch::Arm));

/// Rules with everything on that the architecture has.
fn rules(arch: Arch) -> LinkRules {
    let mut rules = LinkRules { kallsyms_all: true, ..LinkRules::debian_6_1(arch) };
    if let Some(plt) = &mut rules.arm_plt {
        plt.fixed = vec![0xc010_0000, 0xc010_0010];
    }
    rules
}

/// Exports whatever is asked for, near the module or far from it.
struct Imports {
    first: u64,
}

impl Resolve for Imports {
    fn resolve(&mut self, index: u32, name: &[u8]) -> Result<Option<u64>, Errno> {
        match name.first() {
            None => Ok(None),
            Some(b'!') => Err(Errno::EINVAL),
            Some(_) => Ok(Some(self.first.wrapping_add(u64::from(index) * 16))),
        }
    }

    fn refused(&mut self, error: &SymbolError<'_>) {
        black_box(error.to_string());
    }
}

/// Links for x86_64.
pub fn link_x86_64(data: &[u8]) {
    link(data, Arch::X86_64, &X86_64, 0xffff_ffff_c000_0000, 0xffff_ffff_8100_0000);
}

/// Links for 32-bit ARM, with the exports out of the reach of branches.
pub fn link_arm(data: &[u8]) {
    link(data, Arch::Arm, &ARM, 0xf000_0000, 0xc020_0000);
}

fn link(data: &[u8], arch: Arch, rules: &LinkRules, base: u64, exports: u64) {
    let Ok(elf) = Elf::parse_as(data, arch.class(), Endian::Little) else { return };
    if let Err(error) = link_elf(elf, arch, rules, base, exports) {
        black_box(error.to_string());
    }
}

fn link_elf(elf: Elf<'_>, arch: Arch, rules: &LinkRules, base: u64, exports: u64) -> Result<(), LinkError> {
    let mut info = LoadInfo::setup(elf, arch, 0xf800_0000, rules, true)?;
    info.rewrite_section_headers();
    lkm_link::module_frob_arch_sections(&mut info, rules)?;
    lkm_link::module_enforce_rwx_sections(&info, rules)?;
    let mut layouts = lkm_link::layout_sections(&mut info, rules);
    lkm_link::layout_symtab(&mut info, rules, &mut layouts);
    let mut next = base;
    let mut image = lkm_link::move_module(&mut info, &layouts, |_, size| {
        let length = usize::try_from(size).ok().filter(|_| size <= MEMORY)?;
        let start = next;
        next = next.wrapping_add(size.next_multiple_of(PAGE) + PAGE);
        Some((start, vec![0u8; length]))
    })
    .map_err(|failure| failure.error)?;
    let symbols = lkm_link::simplify_symbols(&info, rules, Some(0x34000), &mut Imports { first: exports })?;
    lkm_link::write_symtab(&info, &symbols, &mut image);
    lkm_link::apply_relocations(&info, rules, &symbols, &mut image, &mut ())?;
    let _ = black_box(lkm_link::add_kallsyms(&info, rules, &symbols, &mut image));
    Ok(())
}
