//! Symbol versions: `check_version()` and the rule for loading by force.

use alloc::collections::BTreeMap;

use lkm_link::LoadInfo;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::versions::Versions;

use crate::Host;
use crate::Kernel;
use crate::Taints;
use crate::memory::shown;
use crate::profile::MissingCrc;
use crate::taint::Lockdep;

/// The versions that a module records, ready for many look-ups: of two entries for one name the first counts.
#[derive(Debug, Default)]
pub(crate) struct VersionTable<'data> {
    basic: Option<BTreeMap<&'data [u8], u64>>,
    extended: Option<BTreeMap<&'data [u8], u64>>,
}

impl<'data> VersionTable<'data> {
    pub(crate) fn new(info: &LoadInfo<'data>) -> VersionTable<'data> {
        let contents = |index: usize| (index != 0).then(|| info.contents(index));
        let index = &info.index;
        let extended = contents(index.vers_ext_crc).zip(contents(index.vers_ext_name));
        let versions = Versions::new(info.elf.class, info.elf.endian, contents(index.vers), extended);
        let mut table = VersionTable::default();
        if versions.has_basic() {
            let map = table.basic.get_or_insert_default();
            versions.basic().for_each(|version| _ = map.entry(version.name).or_insert(version.crc));
        }
        if versions.has_extended() {
            let map = table.extended.get_or_insert_default();
            versions.extended().for_each(|version| _ = map.entry(version.name).or_insert(version.crc));
        }
        table
    }
}

impl Kernel {
    /// `try_to_force_load()`: taints the kernel and the module, or refuses.
    pub(crate) fn try_to_force_load<H: Host>(
        &mut self,
        host: &mut H,
        name: &[u8],
        taints: &mut Taints,
        reason: &[u8],
    ) -> bool {
        if !self.profile.config.force_load {
            return false;
        }
        self.log_first(
            host,
            Taints::FORCED_MODULE,
            format_args!("{}: {}: kernel tainted.", Text(name), Text(shown(reason))),
        );
        self.add_taint_module(host, taints, Taints::FORCED_MODULE, Lockdep::NowUnreliable);
        true
    }

    /// `check_version()`: whether a module may use a symbol whose CRC is `crc` here.
    pub(crate) fn check_version<H: Host>(
        &mut self,
        host: &mut H,
        info: &LoadInfo<'_>,
        taints: &mut Taints,
        versions: &VersionTable<'_>,
        symbol: &[u8],
        crc: Option<u32>,
    ) -> bool {
        let Some(crc) = crc.filter(|_| self.profile.config.modversions) else { return true };
        let (name_text, symbol_text) = (Text(shown(info.name)), Text(shown(symbol)));
        let recorded = if let Some(extended) = &versions.extended {
            let recorded = extended.get(symbol).copied();
            if recorded.is_none() {
                if self.once.first_missing_version() {
                    host.log(
                        Level::Warning,
                        format_args!("{name_text}: no extended symbol version for {symbol_text}"),
                    );
                }
                return true;
            }
            recorded
        } else if let Some(basic) = &versions.basic {
            basic.get(symbol).copied()
        } else {
            return self.try_to_force_load(host, info.module_name, taints, symbol);
        };
        match recorded {
            Some(recorded) if recorded == u64::from(crc) => true,
            Some(_) => {
                host.log(
                    Level::Warning,
                    format_args!("{name_text}: disagrees about version of symbol {symbol_text}"),
                );
                false
            }
            None => {
                let refuse = self.profile.rules.missing_crc == MissingCrc::Refuse;
                if refuse || self.once.first_missing_version() {
                    host.log(
                        Level::Warning,
                        format_args!("{name_text}: no symbol version for {symbol_text}"),
                    );
                }
                !refuse
            }
        }
    }
}
