//! Kernel profiles: everything in which one kernel's loader differs from another's, as data.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use lkm_link::Arch;
use lkm_link::post::PatchProfile;
use lkm_link::rules::LinkRules;
use lkm_link::rules::MemoryModel;
use lkm_module::elf::ElfRules;
use lkm_module::exports::KsymtabForm;
use lkm_module::params::ParamLayout;

use crate::OldTable;
use crate::profiles;
use crate::taint::TaintOrder;

/// One kernel, as its module loader is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name on the command line, such as `debian-6.1-amd64`.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Architecture.
    pub arch: Arch,
    /// Major and minor version.
    pub version: (u16, u16),
    /// `uname -r`
    pub release: Cow<'static, str>,
    /// `vermagic` that its modules must have.
    pub vermagic: Cow<'static, [u8]>,
    /// Validity of files.
    pub elf: ElfRules,
    /// Layout and linking.
    pub link: LinkRules,
    /// Changes of the bytes after linking.
    pub patch: PatchProfile,
    /// Build options.
    pub config: Config,
    /// Rules that changed over the versions.
    pub rules: Rules,
    /// `struct module`.
    pub module_struct: ModuleStruct,
    /// Addresses for module memory.
    pub module_area: Range<u64>,
}

/// Build options (`CONFIG_...`) that concern modules; those of the linker are in [`LinkRules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `MODVERSIONS`: exports have CRCs.
    pub modversions: bool,
    /// `MODULE_SIG`: signatures are looked at.
    pub module_sig: bool,
    /// `MODULE_SIG_FORCE`: `sig_enforce` from the start.
    pub module_sig_force: bool,
    /// `MODULE_FORCE_LOAD`
    pub force_load: bool,
    /// `MODULE_FORCE_UNLOAD`
    pub force_unload: bool,
    /// `CONSTRUCTORS` (kernels built for gcov or KASAN): the functions in `.ctors` or `.init_array` are called before init; a
    /// module with both is refused.
    pub constructors: bool,
    /// `RETPOLINE`, active (x86).
    pub retpoline: bool,
    /// `MODULE_DECOMPRESS` with the format that was chosen.
    pub decompress: Option<Decompress>,
    /// `MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS`
    pub allow_missing_namespace_imports: bool,
    /// `DYNAMIC_DEBUG`: parameter `dyndbg` is taken without a word; its query has no effect here. Without the option a
    /// line says that it is not supported.
    pub dynamic_debug: bool,
    /// `DEBUG_INFO_BTF_MODULES`, and what follows from type information that does not fit.
    pub btf: Btf,
    /// `UNUSED_SYMBOLS` (up to 5.11): the tables `__ksymtab_unused` and `__ksymtab_unused_gpl` are searched.
    pub unused_symbols: bool,
}

/// Format of modules that the kernel itself decompresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decompress {
    /// `.ko.gz`
    Gzip,
    /// `.ko.xz`
    Xz,
    /// `.ko.zst`
    Zstd,
}

/// What the kernel does about type information (`.BTF`) of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Btf {
    /// It does not look at it (without `CONFIG_DEBUG_INFO_BTF_MODULES`).
    Ignored,
    /// What is wrong makes the load fail.
    MustFit,
    /// What is wrong is only said (`CONFIG_MODULE_ALLOW_BTF_MISMATCH`, up to 6.2).
    MayDiffer,
    /// The same, and that modules differ is said once per boot (from 6.3).
    MayDifferOnce,
}

/// When the taints of a module's origin and license are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaintTiming {
    /// In `check_modinfo`, so that they stay when the load fails later (up to 6.3).
    CheckModinfo,
    /// After the module is in the list (from 6.4).
    AfterInsertion,
}

/// A symbol that has no entry in the module's `__versions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissingCrc {
    /// Accepted, with a line once per boot (from 4.9).
    AcceptOnce,
    /// Refused (up to 4.8, and Debian).
    Refuse,
}

/// `module_blacklist=`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blacklist {
    /// Not known to this kernel.
    None,
    /// Refused without a word.
    Silent,
    /// Refused with a line.
    Message,
}

/// Names of [`crate::delete_module`] that are too long for any module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LongName {
    /// Cut to the longest possible.
    Truncate,
    /// ENOENT.
    Refuse,
}

/// What happens when a module of the same name is being loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SameName {
    /// Wait for it and look again; one that goes means EEXIST (4.0 to 4.4).
    RetryGoingExists,
    /// Wait for it, also while it goes, and look again (4.9).
    Retry,
    /// Wait for it; then EEXIST or EBUSY.
    Busy,
}

/// Rules of the loader that changed over the versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// When origin and license taint.
    pub taint_timing: TaintTiming,
    /// Order of taint letters.
    pub taint_order: TaintOrder,
    /// Symbols without a CRC in `__versions`.
    pub missing_crc: MissingCrc,
    /// Use of a proprietary module's symbols is inherited (from 5.9).
    pub inherit_taint: bool,
    /// `module_blacklist=`
    pub blacklist: Blacklist,
    /// A same name is refused before anything is allocated, too (from 6.4).
    pub early_mod_check: bool,
    /// A module of the same name that is on its way.
    pub same_name: SameName,
    /// Too long names of `delete_module`.
    pub long_name: LongName,
    /// `finit_module` answers EBADF and EINVAL for what is no file (from 4.6), and ETXTBSY.
    pub kernel_read_file: bool,
    /// Flag 4 of `finit_module` exists (from 5.17).
    pub compressed_flag: bool,
    /// A file is loaded once at a time (from 6.5).
    pub idempotent: bool,
    /// A failure to set permissions ends the load (6.12; before, it goes unnoticed).
    pub protect_may_fail: bool,
    /// Form of `__ksymtab`.
    pub ksymtab: KsymtabForm,
    /// The table `__ksymtab_gpl_future` is searched, too (up to 5.11).
    pub gpl_future: bool,
    /// Bytes of a record of `__kcrctab`.
    pub kcrctab_entry: u8,
    /// `struct kernel_param` has a pointer to its module (from 4.2).
    pub kernel_param_mod: bool,
    /// Without `DYNAMIC_DEBUG` each parameter with `dyndbg` somewhere in its name counts as `dyndbg` (up to 6.0).
    pub dyndbg_anywhere: bool,
    /// `async_probe` is understood (from 4.2).
    pub async_probe: bool,
    /// A module can declare itself a test (from 6.0).
    pub test_taint: bool,
    /// Mode of `/sys/module/X/sections/*`.
    pub sections_mode: u16,
    /// Two sections of one name end the load instead of hiding the directory (6.12).
    pub duplicate_section_fatal: bool,
    /// An out-of-tree module is announced.
    pub oot_message: bool,
    /// Which signature failures are tolerated.
    pub signature_rules: SignatureRules,
}

/// How signature failures are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureRules {
    /// Only a missing key is tolerated (up to 5.2).
    Old,
    /// Unsigned, unknown algorithm and missing key are tolerated (from 5.3).
    New,
}

/// A field of `struct module` that the loader writes or reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Field {
    State,
    /// The list of modules.
    List,
    Name,
    /// `mkobj.kobj`
    Mkobj,
    /// `mkobj.mod`
    MkobjMod,
    /// `bug_list`
    BugList,
    Syms,
    Crcs,
    NumSyms,
    Kp,
    NumKp,
    NumGplSyms,
    GplSyms,
    GplCrcs,
    UsingGplonlySymbols,
    SigOk,
    AsyncProbeRequested,
    NumExentries,
    Extable,
    Init,
    CoreLayout,
    InitLayout,
    /// `mem[]`, seven of them.
    Mem,
    /// x86: `arch.num_orcs`
    NumOrcs,
    /// x86: `arch.orc_unwind_ip`
    OrcUnwindIp,
    /// x86: `arch.orc_unwind`
    OrcUnwind,
    Taints,
    NumBugs,
    BugTable,
    Kallsyms,
    CoreKallsyms,
    Args,
    Percpu,
    PercpuSize,
    NoinstrTextStart,
    NoinstrTextSize,
    NumTracepoints,
    TracepointsPtrs,
    NumSrcuStructs,
    SrcuStructPtrs,
    NumBpfRawEvents,
    BpfRawEvents,
    BtfDataSize,
    BtfData,
    BtfBaseDataSize,
    BtfBaseData,
    JumpEntries,
    NumJumpEntries,
    NumTraceBprintkFmt,
    TraceBprintkFmtStart,
    TraceEvents,
    NumTraceEvents,
    TraceEvals,
    NumTraceEvals,
    NumFtraceCallsites,
    FtraceCallsites,
    KprobesTextStart,
    KprobesTextSize,
    KprobeBlacklist,
    NumKprobeBlacklist,
    NumStaticCallSites,
    StaticCallSites,
    Klp,
    KlpAlive,
    PrintkIndexSize,
    PrintkIndexStart,
    EiFuncs,
    NumEiFuncs,
    /// ARM: `arch.core`, a `struct mod_plt_sec` (section header, first set of slots, slots in use).
    ArchCorePlt,
    /// ARM: `arch.init`, likewise.
    ArchInitPlt,
    /// The list of waiters in `param_lock`, a mutex that nobody holds.
    ParamLockWaitList,
    SourceList,
    TargetList,
    Exit,
    Refcnt,
}

/// Where the fields of `struct module` lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleStruct {
    /// `sizeof(struct module)`, if it is known.
    pub size: Option<u64>,
    /// Fields with their offsets; those that are missing are not written.
    pub fields: &'static [(Field, u16)],
    /// Bytes of each element of `mem[]` or of `core_layout`.
    pub layout_size: u16,
}

impl ModuleStruct {
    /// Offset of a field.
    pub fn offset(&self, field: Field) -> Option<u64> {
        self.fields.iter().find(|row| row.0 == field).map(|row| u64::from(row.1))
    }
}

impl Profile {
    /// All profiles.
    pub fn all() -> Vec<Profile> {
        profiles::all()
    }

    /// The profile of a name.
    pub fn by_name(name: &str) -> Option<Profile> {
        Profile::all().into_iter().find(|profile| profile.name == name)
    }

    /// The profile that fits a module best: of its architecture and with its very vermagic, else a kernel of the
    /// same distribution or the nearest version. `None` if there is none of that architecture.
    pub fn for_vermagic(arch: Arch, vermagic: &[u8]) -> Option<Profile> {
        let wanted = release_version(vermagic);
        let debian = is_debian_release(vermagic);
        let distance = |profile: &Profile| {
            let has = i32::from(profile.version.0) * 1000 + i32::from(profile.version.1);
            let version = wanted.map_or(0, |(major, minor)| {
                (has - i32::from(major) * 1000 - i32::from(minor)).unsigned_abs()
            });
            (
                u8::from(*profile.vermagic != *vermagic),
                version,
                u8::from(is_debian_release(&profile.vermagic) != debian),
                u8::from(words(&profile.vermagic).collect::<Vec<_>>() != words(vermagic).collect::<Vec<_>>()),
            )
        };
        Profile::all().into_iter().filter(|profile| profile.arch == arch).min_by_key(distance)
    }

    /// The profile that fits a module file best, by its machine and its vermagic. `None` if its architecture is none
    /// of ours.
    pub fn for_module(module: &lkm_module::Module<'_>) -> Option<Profile> {
        let header = &module.elf().header;
        let arch = Arch::from_machine(header.machine).filter(|arch| arch.class() == module.elf().class)?;
        Profile::for_vermagic(arch, module.vermagic().unwrap_or(&[]))
    }

    /// Makes the kernel one that takes modules of this vermagic: its release, and the options that a vermagic
    /// tells. For trying out modules of a kernel that is nowhere at hand.
    pub fn adopt_vermagic(&mut self, vermagic: &[u8]) {
        let release = vermagic.split(|&byte| byte == b' ').next().unwrap_or(&[]);
        self.release = Cow::Owned(alloc::string::String::from_utf8_lossy(release).into_owned());
        self.config.modversions = words(vermagic).any(|word| word == b"modversions");
        self.link.smp = words(vermagic).any(|word| word == b"SMP");
        self.link.unload = words(vermagic).any(|word| word == b"mod_unload");
        self.vermagic = Cow::Owned(vermagic.to_vec());
    }

    /// It divides module memory by type (from 6.4).
    pub const fn has_memory_types(&self) -> bool {
        matches!(self.link.memory, MemoryModel::SevenTypes)
    }

    /// The tables of exports that this kernel has beside the two of all kernels, in the order in which they are
    /// searched: kind, name, and name of the table of CRCs.
    pub(crate) fn old_tables(&self) -> impl Iterator<Item = (OldTable, &'static str, &'static str)> {
        let (future, unused) = (self.rules.gpl_future, self.config.unused_symbols);
        [
            (OldTable::GplFuture, "__ksymtab_gpl_future", "__kcrctab_gpl_future"),
            (OldTable::Unused, "__ksymtab_unused", "__kcrctab_unused"),
            (OldTable::UnusedGpl, "__ksymtab_unused_gpl", "__kcrctab_unused_gpl"),
        ]
        .into_iter()
        .filter(move |row| if row.0 == OldTable::GplFuture { future } else { unused })
    }

    /// `MODULE_NAME_LEN`: bytes for a module's name with its NUL.
    pub const fn module_name_len(&self) -> usize {
        64 - self.arch.class().pointer_size()
    }

    /// Where the fields of `struct kernel_param` lie.
    pub const fn param_layout(&self) -> ParamLayout {
        ParamLayout::of(self.arch.class(), self.rules.kernel_param_mod)
    }
}

/// The words of a vermagic behind the release.
fn words(vermagic: &[u8]) -> impl Iterator<Item = &[u8]> {
    vermagic.split(|&byte| byte == b' ').skip(1).filter(|word| !word.is_empty())
}

/// Debian releases end with a flavour, behind an ABI number (`6.1.0-56-cloud-amd64`) or a mark of the release
/// (`6.12.117+deb12-cloud-amd64`).
fn is_debian_release(vermagic: &[u8]) -> bool {
    let release = vermagic.split(|&byte| byte == b' ').next().unwrap_or(&[]);
    let mut parts = release.split(|&byte| byte == b'-');
    let version = parts.next().unwrap_or(&[]);
    let abi = parts.next().unwrap_or(&[]);
    let numbered = !abi.is_empty() && abi.iter().all(u8::is_ascii_digit);
    let marked = version.windows(4).any(|mark| mark == b"+deb" || mark == b"+bpo");
    let flavour = parts.next_back().unwrap_or(abi);
    let known = [&b"amd64"[..], b"armmp", b"arm64", b"686", b"lpae", b"pae"].contains(&flavour);
    (numbered || marked) && known
}

/// Major and minor number at the start of a vermagic.
fn release_version(vermagic: &[u8]) -> Option<(u16, u16)> {
    let mut numbers = vermagic.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        digits.iter().try_fold(0u16, |sum, digit| sum.checked_mul(10)?.checked_add(u16::from(digit - b'0')))
    });
    let major = numbers.next()??;
    let minor = numbers.next()??;
    (major > 0).then_some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let all = Profile::all();
        assert!(all.len() >= 8);
        for profile in &all {
            assert_eq!(Profile::by_name(profile.name).as_ref(), Some(profile));
            assert!(profile.vermagic.starts_with(profile.release.as_bytes()));
            assert!(profile.module_area.start < profile.module_area.end);
        }
        assert_eq!(Profile::by_name("linux-9.9"), None);
    }

    #[test]
    fn a_module_finds_its_kernel() {
        let name = |arch, vermagic: &[u8]| Profile::for_vermagic(arch, vermagic).map(|profile| profile.name);
        assert_eq!(
            name(Arch::X86_64, b"6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions "),
            Some("debian-6.1-amd64")
        );
        assert_eq!(
            name(Arch::Arm, b"6.1.0-50-armmp SMP mod_unload modversions ARMv7 p2v8 "),
            Some("debian-6.1-armmp")
        );
        assert_eq!(
            name(Arch::X86_64, b"6.12.43+deb13-amd64 SMP preempt mod_unload modversions "),
            Some("debian-6.12-amd64")
        );
        assert_eq!(name(Arch::Arm, b"4.0.0 SMP mod_unload ARMv7 p2v8 "), Some("linux-4.0-arm"));
        assert_eq!(name(Arch::X86_64, b"6.12.9 SMP preempt mod_unload "), Some("linux-6.12-x86_64"));
        assert_eq!(name(Arch::X86_64, b"6.1.99-amd64 SMP mod_unload "), Some("linux-6.1-x86_64"));
        assert!(name(Arch::X86_64, b"").is_some(), "any will do for a module that does not say");
        assert!(name(Arch::X86_64, b"99999999999999999999.1").is_some());
    }

    #[test]
    fn vermagic_can_be_adopted() {
        let mut profile = Profile::by_name("debian-6.1-amd64").expect("is there");
        profile.adopt_vermagic(b"6.1.7 preempt mod_unload ");
        assert_eq!(profile.release, "6.1.7");
        assert!(!profile.config.modversions && !profile.link.smp && profile.link.unload);
    }
}
