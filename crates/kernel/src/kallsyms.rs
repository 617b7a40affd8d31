//! Symbols of loaded modules: for oopses, `%pS` and `/proc/kallsyms`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use lkm_link::LoadInfo;
use lkm_link::Symbols;
use lkm_link::kallsyms::elf_type;
use lkm_link::layout::core_symbol_sections;
use lkm_module::Text;
use lkm_module::elf::consts::SHN_UNDEF;
use lkm_module::elf::consts::STT_FUNC;

use crate::Kernel;
use crate::Module;
use crate::RegionKind;
use crate::State;
use crate::symbols::bsearch;

/// Longest symbol name with its NUL; longer ones are cut.
const KSYM_NAME_LEN: usize = 512;

/// A symbol of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    name: u32,
    value: u64,
    letter: u8,
    undefined: bool,
    core: bool,
}

/// The symbol table of a loaded module.
#[derive(Clone, Debug, Default)]
pub struct Kallsyms {
    strings: Vec<u8>,
    entries: Vec<Entry>,
    /// Init is over: only the kept symbols count.
    core_only: bool,
}

/// A symbol of [`Kallsyms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSymbol<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: u64,
    /// Its letter, in lower case except `U`.
    pub letter: u8,
}

/// What an address belongs to, as `%pS` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The module.
    pub module: Vec<u8>,
    /// The symbol.
    pub symbol: Vec<u8>,
    /// Bytes from the symbol.
    pub offset: u64,
    /// Bytes from the symbol to the next.
    pub size: u64,
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Place { module, symbol, offset, size } = self;
        write!(f, "{}+{offset:#x}/{size:#x} [{}]", Text(symbol), Text(module))
    }
}

impl Kallsyms {
    /// Keeps the symbols of a module. `core` tells of each whether it stays after init.
    pub(crate) fn new(
        info: &LoadInfo<'_>,
        symbols: &Symbols,
        thumb2: bool,
        core: impl Fn(usize) -> bool,
    ) -> Kallsyms {
        let count = info.symbol_count();
        let mut entries = Vec::with_capacity(count);
        for index in 0..count {
            let Some(symbol) = u32::try_from(index).ok().and_then(|index| info.symbol(index)) else { break };
            let mut value = symbols.values.get(index).copied().unwrap_or(symbol.value);
            if thumb2 && symbol.kind() == STT_FUNC {
                value &= !1;
            }
            entries.push(Entry {
                name: symbol.name,
                value,
                letter: elf_type(info, &symbol),
                undefined: symbol.shndx == SHN_UNDEF,
                core: core(index),
            });
        }
        Kallsyms { strings: info.strtab().to_vec(), entries, core_only: false }
    }

    /// Only the kept symbols count from here on.
    pub(crate) fn switch_to_core(&mut self) {
        self.core_only = true;
        self.entries.retain(|entry| entry.core);
        self.entries.shrink_to_fit();
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        let rest = self.strings.get(entry.name as usize..).unwrap_or(&[]);
        let rest = rest.get(..KSYM_NAME_LEN - 1).unwrap_or(rest);
        lkm_module::elf::string_at(rest, 0)
    }

    fn symbol<'a>(&'a self, entry: &Entry) -> KernelSymbol<'a> {
        KernelSymbol { name: self.name(entry), value: entry.value, letter: entry.letter }
    }

    /// The symbols in table order, without the null symbol.
    pub fn iter(&self) -> impl Iterator<Item = KernelSymbol<'_>> {
        self.entries.iter().skip(1).map(|entry| self.symbol(entry))
    }

    /// Number of symbols, with the null symbol.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// It has no symbols.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of the first defined symbol of a name.
    pub fn find(&self, name: &[u8]) -> Option<u64> {
        let defined = self.entries.iter().skip(1).filter(|entry| !entry.undefined);
        defined.into_iter().find(|entry| self.name(entry) == name).map(|entry| entry.value)
    }

    /// `find_kallsyms_symbol()`: the symbol closest before an address, with the value of the next. `end` is where
    /// the memory ends that the address lies in.
    fn closest(&self, address: u64, end: u64) -> Option<(KernelSymbol<'_>, u64)> {
        let mut best: Option<&Entry> = None;
        let mut next = end;
        for entry in self.entries.iter().skip(1).filter(|entry| !entry.undefined) {
            let name = self.name(entry);
            // ARM's marks of code and data ($a, $t, $d) are no names.
            if name.is_empty() || is_mapping_symbol(name) {
                continue;
            }
            if entry.value <= address && best.is_none_or(|best| entry.value > best.value) {
                best = Some(entry);
            }
            if entry.value > address && entry.value < next {
                next = entry.value;
            }
        }
        best.map(|best| (self.symbol(best), next))
    }
}

/// `is_mapping_symbol()`
fn is_mapping_symbol(name: &[u8]) -> bool {
    matches!(
        name,
        [b'$', b'a' | b'd' | b't' | b'x']
            | [b'$', b'a' | b'd' | b't' | b'x', b'.', ..]
            | [b'.', b'L', ..]
            | [b'L', b'0', ..]
    )
}

impl Module {
    /// End of the memory that an address of the module lies in, as far as symbols are concerned: of its code, for
    /// the core and init parts of kernels up to 6.3.
    fn end_of(&self, address: u64) -> Option<u64> {
        let memory =
            self.memory.iter().find(|memory| address.wrapping_sub(memory.base) < memory.layout.size)?;
        let size = match memory.layout.kind {
            RegionKind::Core | RegionKind::Init => memory.layout.text_size,
            _ => memory.layout.size,
        };
        Some(memory.base.wrapping_add(size))
    }
}

impl Kernel {
    /// `module_address_lookup()`: module, symbol, offset and size for an address in a module.
    pub fn module_address_lookup(&self, address: u64) -> Option<Place> {
        let module = self.module_at(address)?;
        let (symbol, next) = module.kallsyms.closest(address, module.end_of(address)?)?;
        Some(Place {
            module: module.name.clone(),
            symbol: symbol.name.to_vec(),
            offset: address.wrapping_sub(symbol.value),
            size: next.wrapping_sub(symbol.value),
        })
    }

    /// `module_kallsyms_lookup_name()`: the value of `symbol`, or of `module:symbol`.
    pub fn module_kallsyms_lookup_name(&self, name: &[u8]) -> Option<u64> {
        let formed = self.modules.iter().filter(|module| module.state != State::Unformed);
        match name.iter().position(|&byte| byte == b':') {
            Some(colon) => {
                let (module, symbol) = name.split_at(colon);
                self.find_module(module)?.kallsyms.find(symbol.get(1..)?)
            }
            None => formed.into_iter().find_map(|module| module.kallsyms.find(name)),
        }
    }

    /// The lines of `/proc/kallsyms` for modules, latest module first.
    pub fn proc_kallsyms(&self) -> String {
        let mut text = String::new();
        for module in self.modules.iter().filter(|module| module.state != State::Unformed) {
            for symbol in module.kallsyms.iter().filter(|symbol| !symbol.name.is_empty()) {
                let plain =
                    bsearch(&module.syms, symbol.name).is_some_and(|export| export.address == symbol.value);
                let letter = if plain { symbol.letter.to_ascii_uppercase() } else { symbol.letter };
                let address = self.shown_address(symbol.value);
                let (name, module) = (Text(symbol.name), Text(&module.name));
                text.push_str(&format!("{address} {} {name}\t[{module}]\n", char::from(letter)));
            }
        }
        text
    }

    /// An address as files show it (`%px`): zero to those who may not see it.
    pub(crate) fn shown_address(&self, address: u64) -> String {
        let visible = self.capabilities.syslog && self.options.kptr_restrict < 2;
        let address = if visible { address } else { 0 };
        format!("{address:0width$x}", width = 2 * self.profile.arch.class().pointer_size())
    }

    /// Which of a module's symbols stay after init (`is_core_symbol()`).
    pub(crate) fn core_symbols(&self, info: &LoadInfo<'_>) -> impl Fn(usize) -> bool + use<> {
        let sections = core_symbol_sections(info, &self.profile.link);
        let symbols: Vec<bool> = (0..info.symbol_count())
            .map(|index| {
                let symbol = u32::try_from(index).ok().and_then(|index| info.symbol(index));
                index == 0
                    || info.livepatch
                    || symbol.is_some_and(|symbol| {
                        symbol.name != 0 && sections.get(usize::from(symbol.shndx)).copied().unwrap_or(false)
                    })
            })
            .collect();
        move |index| symbols.get(index).copied().unwrap_or(false)
    }
}
