//! 32-bit ARM: `SHT_REL`, ARM and Thumb-2 instructions, PLTs for branches that reach too far.

use core::ops::DerefMut;

use super::RelocSection;
use crate::LinkError;
use crate::image::Image;
use crate::info::LoadInfo;
use crate::relocate::RelocObserver;
use crate::relocate::RelocStats;
use crate::rules::LinkRules;
use crate::symbols::Symbols;

mod plt;

pub(crate) use plt::PltPlan;
pub(crate) use plt::module_frob_arch_sections;

/// `module_init_section()`: init code's unwind tables belong to the init part too.
pub fn module_init_section(name: &[u8]) -> bool {
    [&b".init"[..], b".ARM.extab.init", b".ARM.exidx.init"].iter().any(|prefix| name.starts_with(prefix))
}

/// `module_exit_section()`
pub fn module_exit_section(name: &[u8]) -> bool {
    [&b".exit"[..], b".ARM.extab.exit", b".ARM.exidx.exit"].iter().any(|prefix| name.starts_with(prefix))
}

/// Name of a relocation type that the kernel knows.
pub fn reloc_name(_kind: u32) -> Option<&'static str> {
    None
}

pub(crate) fn apply_relocate<B: DerefMut<Target = [u8]>, O: RelocObserver>(
    _info: &LoadInfo<'_>,
    _rules: &LinkRules,
    _symbols: &Symbols,
    _relocs: RelocSection<'_>,
    _image: &mut Image<B>,
    _observer: &mut O,
    _stats: &mut RelocStats,
) -> Result<(), LinkError> {
    Ok(())
}
