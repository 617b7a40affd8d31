//! Module PLTs (`CONFIG_ARM_MODULE_PLTS`).

use alloc::vec::Vec;

use crate::LinkError;
use crate::info::LoadInfo;
use crate::rules::LinkRules;

/// What `module_frob_arch_sections` found and counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct PltPlan {
    /// Sections `.plt` and `.init.plt`; 0 without PLTs.
    pub(crate) sections: [usize; 2],
    /// Relocation sections that were sorted, with their records.
    pub(crate) sorted: Vec<(usize, Vec<u64>)>,
}

pub(crate) fn module_frob_arch_sections(
    _info: &mut LoadInfo<'_>,
    _rules: &LinkRules,
) -> Result<(), LinkError> {
    Ok(())
}
