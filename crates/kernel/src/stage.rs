//! The stages of a load and an unload, under the kernel's names.

/// A stage of [`crate::init_module`] or [`crate::delete_module`], in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The system call's own checks: permission, file, flags, size.
    Entry,
    /// The signature behind the file.
    ModuleSigCheck,
    /// ELF header and section headers.
    ElfValidityCheck,
    /// Sections known by name, the module's name.
    SetupLoadInfo,
    /// `module_blacklist=`
    Blacklisted,
    /// `sh_addr` of every section becomes its address in the temporary copy.
    RewriteSectionHeaders,
    /// The CRC of `module_layout`.
    CheckModstructVersion,
    /// A module of the same name, before anything is allocated (from 6.4).
    EarlyModCheck,
    /// vermagic and, up to 6.3, license and origin.
    CheckModinfo,
    /// PLT and GOT sizes.
    ModuleFrobArchSections,
    /// No section may be both writable and executable.
    ModuleEnforceRwxSections,
    /// Places of all sections.
    LayoutSections,
    /// Places of the symbol tables.
    LayoutSymtab,
    /// Allocation and copying.
    MoveModule,
    /// Into the list of modules.
    AddUnformedModule,
    /// License and origin (from 6.4).
    ModuleAugmentKernelTaints,
    /// Static per-cpu memory.
    PercpuModalloc,
    /// First references.
    ModuleUnloadInit,
    /// Tables that the kernel looks for by section name.
    FindModuleSections,
    /// Exports must have CRCs.
    CheckExportSymbolVersions,
    /// `version` and `srcversion`.
    SetupModinfo,
    /// Values of all symbols.
    SimplifySymbols,
    /// Relocations.
    ApplyRelocations,
    /// Sorting, per-cpu template, kallsyms, architecture.
    PostRelocation,
    /// The parameter text.
    StrndupUser,
    /// Call sites of ftrace.
    FtraceModuleInit,
    /// Duplicate exports, permissions, state COMING.
    CompleteFormation,
    /// Notifiers: jump labels, static calls and others.
    PrepareComingModule,
    /// Parameters.
    ParseArgs,
    /// `/sys/module/NAME`
    ModSysfsSetup,
    /// The init function and what follows it.
    DoInitModule,
    /// Everything is given back after a failure.
    Unwind,
    /// The checks of `delete_module()`.
    DeleteModule,
    /// The exit function.
    Exit,
    /// A removed module's memory and references are given back.
    FreeModule,
}

impl Stage {
    /// The name, as the kernel has it for a function.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Entry => "may_init_module",
            Stage::ModuleSigCheck => "module_sig_check",
            Stage::ElfValidityCheck => "elf_validity_check",
            Stage::SetupLoadInfo => "setup_load_info",
            Stage::Blacklisted => "blacklisted",
            Stage::RewriteSectionHeaders => "rewrite_section_headers",
            Stage::CheckModstructVersion => "check_modstruct_version",
            Stage::EarlyModCheck => "early_mod_check",
            Stage::CheckModinfo => "check_modinfo",
            Stage::ModuleFrobArchSections => "module_frob_arch_sections",
            Stage::ModuleEnforceRwxSections => "module_enforce_rwx_sections",
            Stage::LayoutSections => "layout_sections",
            Stage::LayoutSymtab => "layout_symtab",
            Stage::MoveModule => "move_module",
            Stage::AddUnformedModule => "add_unformed_module",
            Stage::ModuleAugmentKernelTaints => "module_augment_kernel_taints",
            Stage::PercpuModalloc => "percpu_modalloc",
            Stage::ModuleUnloadInit => "module_unload_init",
            Stage::FindModuleSections => "find_module_sections",
            Stage::CheckExportSymbolVersions => "check_export_symbol_versions",
            Stage::SetupModinfo => "setup_modinfo",
            Stage::SimplifySymbols => "simplify_symbols",
            Stage::ApplyRelocations => "apply_relocations",
            Stage::PostRelocation => "post_relocation",
            Stage::StrndupUser => "strndup_user",
            Stage::FtraceModuleInit => "ftrace_module_init",
            Stage::CompleteFormation => "complete_formation",
            Stage::PrepareComingModule => "prepare_coming_module",
            Stage::ParseArgs => "parse_args",
            Stage::ModSysfsSetup => "mod_sysfs_setup",
            Stage::DoInitModule => "do_init_module",
            Stage::Unwind => "free_copy",
            Stage::DeleteModule => "delete_module",
            Stage::Exit => "exit",
            Stage::FreeModule => "free_module",
        }
    }

    /// The stages of a load, in order.
    pub const LOAD: &'static [Stage] = &[
        Stage::Entry,
        Stage::ModuleSigCheck,
        Stage::ElfValidityCheck,
        Stage::SetupLoadInfo,
        Stage::Blacklisted,
        Stage::RewriteSectionHeaders,
        Stage::CheckModstructVersion,
        Stage::EarlyModCheck,
        Stage::CheckModinfo,
        Stage::ModuleFrobArchSections,
        Stage::ModuleEnforceRwxSections,
        Stage::LayoutSections,
        Stage::LayoutSymtab,
        Stage::MoveModule,
        Stage::AddUnformedModule,
        Stage::ModuleAugmentKernelTaints,
        Stage::PercpuModalloc,
        Stage::ModuleUnloadInit,
        Stage::FindModuleSections,
        Stage::CheckExportSymbolVersions,
        Stage::SetupModinfo,
        Stage::SimplifySymbols,
        Stage::ApplyRelocations,
        Stage::PostRelocation,
        Stage::StrndupUser,
        Stage::FtraceModuleInit,
        Stage::CompleteFormation,
        Stage::PrepareComingModule,
        Stage::ParseArgs,
        Stage::ModSysfsSetup,
        Stage::DoInitModule,
    ];
}

impl core::fmt::Display for Stage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_names_differ() {
        assert!(Stage::LOAD.windows(2).all(|pair| pair[0] < pair[1]));
        for (index, stage) in Stage::LOAD.iter().enumerate() {
            assert!(Stage::LOAD.iter().skip(index + 1).all(|other| other.name() != stage.name()));
        }
    }
}
