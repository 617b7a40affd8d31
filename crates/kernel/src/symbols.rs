//! Exports: who has a symbol, and whether a module may use it.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use lkm_link::Resolve;
use lkm_link::SymbolError;
use lkm_link::symbols::SymbolCause;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::elf::consts::STB_WEAK;

use crate::Event;
use crate::Export;
use crate::Host;
use crate::Kernel;
use crate::MODULE_REF_BASE;
use crate::MissingReason;
use crate::MissingSymbol;
use crate::ModuleId;
use crate::OldTable;
use crate::Provider;
use crate::State;
use crate::Taints;
use crate::memory::shown;
use crate::versions::VersionTable;

/// How many imports that could not be had are kept for the report.
const MISSING_MAX: usize = 1024;

/// How often a module that is still coming is waited for before the loader gives up, should the host's wait return
/// without any change.
const WAITS: usize = 64;

/// A symbol that was found: `struct find_symbol_arg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its address.
    pub address: u64,
    /// Its CRC, if the exporter has one.
    pub crc: Option<u32>,
    /// It stands in a GPL-only table.
    pub gpl_only: bool,
    /// Its namespace; empty for none.
    pub namespace: Vec<u8>,
    /// The module that exports it; `None` for the kernel image.
    pub owner: Option<ModuleId>,
    /// The table that it stands in, if it is one that only old kernels have.
    pub old_table: Option<OldTable>,
}

/// The kernel's `bsearch()` over a table: one that is not sorted hides symbols from it.
pub(crate) fn bsearch<'a>(table: &'a [Export], name: &[u8]) -> Option<&'a Export> {
    let mut rest = table;
    while !rest.is_empty() {
        let middle = rest.len() / 2;
        let pivot = rest.get(middle)?;
        match name.cmp(pivot.name.as_slice()) {
            Ordering::Equal => return Some(pivot),
            Ordering::Less => rest = rest.get(..middle)?,
            Ordering::Greater => rest = rest.get(middle + 1..)?,
        }
    }
    None
}

impl Kernel {
    /// `find_symbol()`: the kernel image first, then the modules, latest first; each plain exports before GPL-only
    /// ones, which are found with `gplok` only, and those before the tables that only old kernels have.
    pub fn find_symbol<H: Host>(&self, host: &H, name: &[u8], gplok: bool) -> Option<Found> {
        if let Some(export) = host.kernel_export(name).filter(|export| gplok || !export.gpl_only) {
            return Some(Found {
                address: export.address,
                crc: export.crc,
                gpl_only: export.gpl_only,
                namespace: export.namespace.to_vec(),
                owner: None,
                old_table: None,
            });
        }
        self.modules.iter().filter(|module| module.state != State::Unformed).find_map(|module| {
            let plain = bsearch(&module.syms, name).map(|export| (export, false, None));
            let gpl = || bsearch(&module.gpl_syms, name).filter(|_| gplok).map(|export| (export, true, None));
            let old = || {
                module.old_syms.iter().find_map(|&(table, ref syms)| {
                    let gpl_only = table == OldTable::UnusedGpl;
                    let export = bsearch(syms, name).filter(|_| gplok || !gpl_only)?;
                    Some((export, gpl_only, Some(table)))
                })
            };
            let (export, gpl_only, old_table) = plain.or_else(gpl).or_else(old)?;
            Some(Found {
                address: export.address,
                crc: export.crc,
                gpl_only,
                namespace: export.namespace.clone(),
                owner: Some(module.id),
                old_table,
            })
        })
    }

    /// `already_uses()`
    fn already_uses(&self, user: ModuleId, used: ModuleId) -> bool {
        self.module(user).is_some_and(|module| module.uses.contains(&used))
    }

    /// `ref_module()`: records that one module uses another and takes a reference. An error is EBUSY while the other
    /// is coming, ENOENT when it goes.
    pub(crate) fn ref_module(&mut self, user: ModuleId, used: ModuleId) -> Result<(), Errno> {
        if user == used || self.already_uses(user, used) {
            return Ok(());
        }
        match self.module(used).map(|module| module.state) {
            Some(State::Coming) => return Err(Errno::EBUSY),
            Some(State::Live) if self.try_module_get(used) => {}
            _ => return Err(Errno::ENOENT),
        }
        if let Some(module) = self.module_mut(user) {
            module.uses.push(used);
        }
        if let Some(module) = self.module_mut(used) {
            module.users.insert(0, user);
        }
        Ok(())
    }

    /// `module_unload_init()`: the base, and one reference that is held while init runs.
    pub(crate) fn module_unload_init(&mut self, id: ModuleId) {
        if let Some(module) = self.module_mut(id) {
            module.refcnt = MODULE_REF_BASE + 1;
        }
    }

    /// `module_unload_free()`: drops the references that a module holds on others.
    pub(crate) fn module_unload_free(&mut self, id: ModuleId) {
        let uses = self.module_mut(id).map(|module| core::mem::take(&mut module.uses)).unwrap_or_default();
        for used in uses {
            if let Some(module) = self.module_mut(used) {
                module.users.retain(|&user| user != id);
            }
            self.module_put(used);
        }
    }
}

/// Answers the linker's questions for imports, and keeps account of those that could not be had.
pub(crate) struct Resolver<'a, 'data, H> {
    pub(crate) kernel: &'a mut Kernel,
    pub(crate) host: &'a mut H,
    pub(crate) id: ModuleId,
    pub(crate) name: Vec<u8>,
    pub(crate) info: &'a lkm_link::LoadInfo<'data>,
    pub(crate) versions: VersionTable<'data>,
    /// Namespaces that modinfo imports, sorted.
    pub(crate) import_ns: Vec<&'data [u8]>,
    /// Why the last import could not be had.
    pub(crate) last: Option<MissingReason>,
    pub(crate) missing: Vec<MissingSymbol>,
}

impl<H: Host> Resolver<'_, '_, H> {
    fn taints(&self) -> Taints {
        self.kernel.module_taints(self.id).unwrap_or_default()
    }

    fn owner_name(&self, owner: ModuleId) -> Vec<u8> {
        self.kernel.module(owner).map(|module| module.name.clone()).unwrap_or_default()
    }

    /// `inherit_taint()`: whether a symbol of a proprietary module may be used, which taints the user.
    fn inherit_taint(&mut self, owner: ModuleId, symbol: &[u8]) -> bool {
        let proprietary = Taints::PROPRIETARY_MODULE;
        let of = self.kernel.module_taints(owner).unwrap_or_default();
        if !self.kernel.profile.rules.inherit_taint || !of.contains(proprietary) {
            return true;
        }
        let owner = self.owner_name(owner);
        let (name, symbol, owner) = (Text(&self.name), Text(shown(symbol)), Text(&owner));
        let Some(module) = self.kernel.module_mut(self.id) else { return false };
        if module.using_gplonly_symbols {
            self.host.log(
                Level::Err,
                format_args!(
                    "{name}: module using GPL-only symbols uses symbols {symbol} from proprietary module {owner}."
                ),
            );
            return false;
        }
        if !module.taints.contains(proprietary) {
            module.taints |= proprietary;
            self.host.log(
                Level::Warning,
                format_args!(
                    "{name}: module uses symbols {symbol} from proprietary module {owner}, inheriting taint."
                ),
            );
        }
        true
    }

    /// `verify_namespace_is_imported()`
    fn namespace_is_imported(&mut self, symbol: &[u8], namespace: &[u8]) -> bool {
        if namespace.is_empty() || self.import_ns.binary_search(&namespace).is_ok() {
            return true;
        }
        let allowed = self.kernel.profile.config.allow_missing_namespace_imports;
        let level = if allowed { Level::Warning } else { Level::Err };
        self.host.log(
            level,
            format_args!(
                "{}: module uses symbol ({}) from namespace {}, but does not import it.",
                Text(&self.name),
                Text(shown(symbol)),
                Text(shown(namespace))
            ),
        );
        allowed
    }

    /// What `check_symbol()` of old kernels says of exports that will not stay as they are.
    fn warn_of_old_table(&mut self, symbol: &[u8], table: OldTable, gplok: bool) {
        let symbol = Text(shown(symbol));
        match table {
            OldTable::GplFuture if gplok => {}
            OldTable::GplFuture => self.host.log(
                Level::Warning,
                format_args!(
                    "Symbol {symbol} is being used by a non-GPL module, which will not be allowed in the future"
                ),
            ),
            OldTable::Unused | OldTable::UnusedGpl => {
                let mut warn = |line: fmt::Arguments<'_>| self.host.log(Level::Warning, line);
                warn(format_args!("Symbol {symbol} is marked as UNUSED, however this module is using it."));
                warn(format_args!("This symbol will go away in the future."));
                warn(format_args!(
                    "Please evaluate if this is the right api to use and if it really is, submit a report to the \
                     linux kernel mailing list together with submitting your code for inclusion."
                ));
            }
        }
    }

    /// `resolve_symbol()`
    fn resolve_symbol(&mut self, symbol: &[u8]) -> Result<Found, MissingReason> {
        let gplok = !self.taints().contains(Taints::PROPRIETARY_MODULE);
        let Some(found) = self.kernel.find_symbol(self.host, symbol, gplok) else {
            let hidden = !gplok && self.kernel.find_symbol(self.host, symbol, true).is_some();
            return Err(if hidden { MissingReason::GplOnly } else { MissingReason::NotExported });
        };
        if let Some(table) = found.old_table {
            self.warn_of_old_table(symbol, table, gplok);
        }
        if found.gpl_only
            && let Some(module) = self.kernel.module_mut(self.id)
        {
            module.using_gplonly_symbols = true;
        }
        if let Some(owner) = found.owner
            && !self.inherit_taint(owner, symbol)
        {
            return Err(MissingReason::ProprietaryOwner(self.owner_name(owner)));
        }
        let mut taints = self.taints();
        let good =
            self.kernel.check_version(self.host, self.info, &mut taints, &self.versions, symbol, found.crc);
        if let Some(module) = self.kernel.module_mut(self.id) {
            module.taints = taints;
        }
        if !good {
            return Err(MissingReason::Version);
        }
        if !self.namespace_is_imported(symbol, &found.namespace) {
            return Err(MissingReason::Namespace(found.namespace));
        }
        if let Some(owner) = found.owner {
            self.kernel.ref_module(self.id, owner).map_err(|errno| match errno {
                Errno::EBUSY => MissingReason::NotReady(self.owner_name(owner)),
                _ => MissingReason::Going(self.owner_name(owner)),
            })?;
        }
        Ok(found)
    }

    /// `resolve_symbol_wait()`: a module that is still coming is waited for.
    fn resolve_symbol_wait(&mut self, symbol: &[u8]) -> Result<Found, MissingReason> {
        for _ in 0..WAITS {
            match self.resolve_symbol(symbol) {
                Err(MissingReason::NotReady(owner)) => {
                    if !self.host.wait(self.kernel, &owner) {
                        break;
                    }
                }
                answer => return answer,
            }
        }
        let answer = self.resolve_symbol(symbol);
        if let Err(MissingReason::NotReady(owner)) = &answer {
            self.host.log(
                Level::Warning,
                format_args!("{}: gave up waiting for init of module {}.", Text(&self.name), Text(owner)),
            );
        }
        answer
    }

    fn is_weak(&self, index: u32) -> bool {
        self.info.symbol(index).is_some_and(|symbol| symbol.bind() == STB_WEAK)
    }
}

impl<H: Host> Resolve for Resolver<'_, '_, H> {
    fn resolve(&mut self, index: u32, name: &[u8]) -> Result<Option<u64>, Errno> {
        match self.resolve_symbol_wait(name) {
            Ok(found) => {
                let owner = found.owner.map(|owner| self.owner_name(owner));
                let provider = owner.as_deref().map_or(Provider::Kernel, Provider::Module);
                self.host.event(&Event::Resolved { name, address: found.address, provider });
                Ok(Some(found.address))
            }
            Err(reason) => {
                if reason == MissingReason::NotExported
                    && !self.is_weak(index)
                    && let Some(address) = self.host.stand_in(name)
                {
                    self.host.event(&Event::Resolved { name, address, provider: Provider::StandIn });
                    return Ok(Some(address));
                }
                let errno = reason.errno();
                // What is there but going is an error for weak symbols, too.
                let absent = errno == Errno::ENOENT && !matches!(reason, MissingReason::Going(_));
                self.last = Some(reason);
                if absent { Ok(None) } else { Err(errno) }
            }
        }
    }

    fn refused(&mut self, error: &SymbolError<'_>) {
        let Resolver { host, name, .. } = self;
        let error = &SymbolError { name: shown(error.name), ..*error };
        error.log(name, &mut |level, line| host.log(level, line));
        if let SymbolCause::Missing { .. } | SymbolCause::Refused(_) = error.cause {
            let reason = self.last.take().unwrap_or(MissingReason::NotExported);
            if self.missing.len() < MISSING_MAX {
                self.missing.push(MissingSymbol { name: error.name.to_vec(), reason });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[&str]) -> Vec<Export> {
        let export = |name: &&str| Export {
            name: name.as_bytes().to_vec(),
            address: 0,
            crc: None,
            namespace: Vec::new(),
        };
        names.iter().map(export).collect()
    }

    #[test]
    fn a_sorted_table_shows_all() {
        for size in 0..20usize {
            let names: Vec<_> = (0..size).map(|index| alloc::format!("sym_{index:02}")).collect();
            let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
            let table = table(&names);
            assert!(names.iter().all(|name| bsearch(&table, name.as_bytes()).is_some()));
            assert!(bsearch(&table, b"sym_x").is_none());
        }
    }

    #[test]
    fn an_unsorted_table_hides_symbols() {
        let table = table(&["c", "a", "b"]);
        assert!(bsearch(&table, b"a").is_some(), "the middle one");
        assert!(bsearch(&table, b"c").is_none());
        assert!(bsearch(&table, b"b").is_some());
    }
}
