//! Who needs whom.

use std::path::Path;
use std::path::PathBuf;

use super::hash::MODULE_BUCKETS;
use super::hash::sort_as_table;
use super::kernel_symbols::KernelSymbols;
use super::names::Names;
use super::names::Seeds;
use super::note::Note;
use super::part::WEAK;
use super::scan::Facts;
use super::walk::Found;

/// No module: the symbol is the kernel's own.
pub(super) const KERNEL: u32 = u32::MAX;

/// Order in which modules are written: those of `modules.order` as it has them, then the others as kmod's table of
/// modules has them, which is the order in which a stable sort leaves them.
pub(super) fn order(found: &mut Vec<Found>, modules_order: Option<&[u8]>) {
    let mut list: Vec<Found> = std::mem::take(found);
    list = {
        let mut indexed: Vec<usize> = (0..list.len()).collect();
        sort_as_table(&mut indexed, MODULE_BUCKETS, |index| {
            list.get(*index).map_or(&[][..], |found| &found.name)
        });
        let mut slots: Vec<Option<Found>> = list.into_iter().map(Some).collect();
        indexed.into_iter().filter_map(|index| slots.get_mut(index)?.take()).collect()
    };
    if let Some(text) = modules_order {
        let lines: std::collections::HashMap<&[u8], usize> =
            text.split(|byte| *byte == b'\n').enumerate().map(|(number, line)| (line, number)).collect();
        list.sort_by_cached_key(|found| lines.get(found.plain_path()).copied().unwrap_or(usize::MAX));
    }
    *found = list;
}

/// A symbol and who has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// The module, or [`KERNEL`].
    pub(super) owner: u32,
    crc: u64,
}

/// Modules, what they need directly, and an order in which nobody precedes those that need it.
pub(super) struct Graph {
    /// Symbols by number.
    pub(super) names: Names,
    pub(super) symbols: Vec<Symbol>,
    /// Bounds in `needs` of what each module needs.
    bounds: Vec<usize>,
    needs: Vec<u32>,
    /// Place of each module, the one nobody needs first.
    ranks: Vec<u32>,
}

/// What is looked at beside dependencies.
pub(super) struct Look<'a> {
    pub(super) kernel: Option<&'a KernelSymbols>,
    pub(super) prefix: Option<u8>,
    /// Tell of symbols that nobody has, or has in another version.
    pub(super) unresolved: bool,
    /// Tell who needs whom.
    pub(super) needs: bool,
}

/// Modules that need each other.
pub(super) struct Cycles;

impl Graph {
    /// Matches what modules need with what they have. Modules are in the order in which they are written.
    pub(super) fn new(
        root: &Path,
        found: &[Found],
        facts: &Facts,
        seeds: Seeds,
        look: &Look<'_>,
        note: &mut dyn FnMut(Note),
    ) -> Result<Graph, Cycles> {
        let (names, symbols) = collect_symbols(facts, found.len(), seeds, look);
        // Each name is looked up once for each part, however many modules use it.
        let numbers: Vec<Vec<Option<u32>>> = facts
            .parts
            .iter()
            .map(|part| {
                let lookup = |number| {
                    let name = part.names.get(number);
                    // Function descriptors of 64-bit PowerPC are `name`, their code is `.name`.
                    let stripped = name.strip_prefix(b".").unwrap_or(name);
                    let stripped =
                        look.prefix.and_then(|prefix| stripped.strip_prefix(&[prefix])).unwrap_or(stripped);
                    let hash = if stripped.len() == name.len() {
                        part.names.hash(number)
                    } else {
                        seeds.string(stripped).1
                    };
                    names.find(stripped, hash)
                };
                (0..part.names.len() as u32).map(lookup).collect()
            })
            .collect();

        let path = |module: usize| -> PathBuf {
            found.get(module).map_or_else(PathBuf::new, |found| {
                root.join(std::ffi::OsStr::new(
                    <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&found.path),
                ))
            })
        };
        let mut bounds = vec![0];
        let mut needs: Vec<u32> = Vec::new();
        let mut users = vec![0_u32; found.len()];
        // The module that was last seen to need each one.
        let mut last = vec![u32::MAX; found.len()];
        let check_crcs = look.kernel.is_some_and(KernelSymbols::has_crcs);
        for module in 0..found.len() {
            if let Some((part, record)) = facts.of(module) {
                let table = facts
                    .places
                    .get(module)
                    .and_then(|place| numbers.get(place.0))
                    .map_or(&[][..], Vec::as_slice);
                for (index, import) in part.imports(record).iter().enumerate() {
                    let is_weak = import & WEAK != 0;
                    let number = import & !WEAK;
                    let name = || String::from_utf8_lossy(part.names.get(number)).into_owned();
                    let symbol = table.get(number as usize).copied().flatten();
                    let Some(symbol) = symbol.and_then(|symbol| symbols.get(symbol as usize)) else {
                        if look.unresolved && !is_weak {
                            note(Note::UnknownSymbol(path(module), name()));
                        }
                        continue;
                    };
                    if check_crcs
                        && look.unresolved
                        && !is_weak
                        && symbol.crc != part.import_crc(record, index)
                    {
                        note(Note::SymbolDisagrees(path(module), name()));
                    }
                    if let Some(seen) = last.get_mut(symbol.owner as usize)
                        && *seen != module as u32
                    {
                        *seen = module as u32;
                        needs.push(symbol.owner);
                        if let Some(count) = users.get_mut(symbol.owner as usize) {
                            *count += 1;
                        }
                        if look.needs {
                            let name = symbol_name(&names, table, number);
                            note(Note::Needs(path(module), name, path(symbol.owner as usize)));
                        }
                    }
                }
            }
            bounds.push(needs.len());
        }
        let mut graph = Graph { names, symbols, bounds, needs, ranks: Vec::new() };
        graph.rank(users);
        if graph.ranks.contains(&u32::MAX) {
            graph.report_cycles(found, note);
            return Err(Cycles);
        }
        Ok(graph)
    }

    /// What a module needs directly, in the order in which it asks.
    pub(super) fn needs(&self, module: usize) -> &[u32] {
        let (Some(&start), Some(&end)) = (self.bounds.get(module), self.bounds.get(module + 1)) else {
            return &[];
        };
        self.needs.get(start..end).unwrap_or(&[])
    }

    /// Ranks modules so that those who need come before what they need: always the one freed last.
    fn rank(&mut self, mut users: Vec<u32>) {
        let mut ranks = vec![u32::MAX; users.len()];
        let mut free: Vec<u32> = users
            .iter()
            .enumerate()
            .filter(|(_, count)| **count == 0)
            .map(|(module, _)| module as u32)
            .collect();
        let mut next = 0;
        while let Some(module) = free.pop() {
            if let Some(rank) = ranks.get_mut(module as usize) {
                *rank = next;
            }
            next += 1;
            for &needed in self.needs(module as usize) {
                if let Some(count) = users.get_mut(needed as usize) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        free.push(needed);
                    }
                }
            }
        }
        self.ranks = ranks;
    }

    /// Place of each module in the order of loading, from its end.
    pub(super) fn ranks(&self) -> &[u32] {
        &self.ranks
    }

    /// All that a module needs, directly or through others; what has to be loaded first comes last.
    pub(super) fn all_needs<'a>(&self, module: usize, room: &'a mut Closure) -> &'a [u32] {
        room.marks.resize(self.ranks.len(), u32::MAX);
        room.list.clear();
        let mark = module as u32;
        let mut next = self.needs(module);
        let mut done = 0;
        loop {
            for &needed in next {
                if let Some(seen) = room.marks.get_mut(needed as usize)
                    && *seen != mark
                {
                    *seen = mark;
                    room.list.push(needed);
                }
            }
            let Some(&module) = room.list.get(done) else { break };
            done += 1;
            next = self.needs(module as usize);
        }
        room.list.sort_unstable_by_key(|needed| self.ranks.get(*needed as usize));
        &room.list
    }

    /// Tells of circles, by the names of the modules in them. Each module that is in one is in one that is told.
    fn report_cycles(&self, found: &[Found], note: &mut dyn FnMut(Note)) {
        let suspects = self.suspects();
        let mut told = vec![false; found.len()];
        let mut cycles = 0;
        for root in suspects.iter().copied() {
            if told.get(root as usize) == Some(&true) || cycles >= MOST_CYCLES {
                continue;
            }
            // Where the way came from: module, and place of the one before in this list.
            let mut ways: Vec<(u32, usize)> = vec![(root, 0)];
            let mut visited = vec![false; found.len()];
            let mut open = vec![0];
            while let Some(way) = open.pop() {
                let Some(&(module, _)) = ways.get(way) else { continue };
                if module == root && way > 0 {
                    let names = self.way_back(&ways, way, found, &mut told);
                    note(Note::Cycle(names));
                    cycles += 1;
                    continue;
                }
                match visited.get_mut(module as usize) {
                    Some(visited) if !*visited => *visited = true,
                    _ => continue,
                }
                for &needed in self.needs(module as usize) {
                    if suspects.binary_search(&needed).is_ok() {
                        open.push(ways.len());
                        ways.push((needed, way));
                    }
                }
            }
        }
        note(Note::InCycles(told.iter().filter(|told| **told).count()));
    }

    /// Modules that may be in a circle: those that cannot be loaded before all that they need and be removed after all
    /// that need them.
    fn suspects(&self) -> Vec<u32> {
        let count = self.ranks.len();
        let is_left = |module: u32| self.ranks.get(module as usize) == Some(&u32::MAX);
        let mut open = vec![0_u32; count];
        let mut users: Vec<Vec<u32>> = vec![Vec::new(); count];
        for module in (0..count as u32).filter(|module| is_left(*module)) {
            for &needed in self.needs(module as usize) {
                if let (Some(open), Some(users)) =
                    (open.get_mut(module as usize), users.get_mut(needed as usize))
                {
                    *open += 1;
                    users.push(module);
                }
            }
        }
        let mut done: Vec<u32> = (0..count as u32)
            .filter(|module| is_left(*module) && open.get(*module as usize) == Some(&0))
            .collect();
        let mut next = 0;
        while let Some(&module) = done.get(next) {
            next += 1;
            for &user in users.get(module as usize).into_iter().flatten() {
                if let Some(open) = open.get_mut(user as usize) {
                    *open -= 1;
                    if *open == 0 {
                        done.push(user);
                    }
                }
            }
        }
        (0..count as u32)
            .filter(|module| is_left(*module) && open.get(*module as usize).is_some_and(|open| *open > 0))
            .collect()
    }

    /// Names along a way that has come back to its start.
    fn way_back(&self, ways: &[(u32, usize)], end: usize, found: &[Found], told: &mut [bool]) -> Vec<String> {
        let mut names = Vec::new();
        let mut way = end;
        while let Some(&(module, before)) = ways.get(way) {
            if let Some(told) = told.get_mut(module as usize) {
                *told = true;
            }
            let name =
                found.get(module as usize).map(|found| String::from_utf8_lossy(&found.name).into_owned());
            names.extend(name);
            if way == 0 {
                break;
            }
            way = before;
        }
        names.reverse();
        names
    }
}

/// Circles that are told.
const MOST_CYCLES: usize = 100;

/// Room for [`Graph::all_needs`], kept from module to module.
#[derive(Debug, Default)]
pub(super) struct Closure {
    marks: Vec<u32>,
    list: Vec<u32>,
}

fn symbol_name(names: &Names, table: &[Option<u32>], number: u32) -> String {
    let symbol = table.get(number as usize).copied().flatten();
    symbol.map_or_else(String::new, |symbol| String::from_utf8_lossy(names.get(symbol)).into_owned())
}

/// All symbols that the kernel and modules have. Of two modules with one symbol the later has it, as in kmod.
fn collect_symbols(facts: &Facts, modules: usize, seeds: Seeds, look: &Look<'_>) -> (Names, Vec<Symbol>) {
    let mut names = Names::new(seeds);
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut add = |name: &[u8], hash: u64, symbol: Symbol| {
        let number = names.intern(name, hash) as usize;
        match symbols.get_mut(number) {
            Some(old) => *old = symbol,
            None => symbols.push(symbol),
        }
    };
    let unprefixed =
        |name| look.prefix.and_then(|prefix| <[u8]>::strip_prefix(name, &[prefix])).unwrap_or(name);
    if let Some(kernel) = look.kernel {
        for (name, crc) in kernel.iter() {
            let (name, hash) = seeds.string(if kernel.has_crcs() { unprefixed(name) } else { name });
            add(name, hash, Symbol { owner: KERNEL, crc });
        }
        // The loader itself provides them.
        for name in [b"__this_module".as_slice(), b"_GLOBAL_OFFSET_TABLE_"] {
            let (name, hash) = seeds.string(name);
            add(name, hash, Symbol { owner: KERNEL, crc: 0 });
        }
    }
    for module in 0..modules {
        let Some((part, record)) = facts.of(module) else { continue };
        for (index, &number) in part.exports(record).iter().enumerate() {
            let name = part.names.get(number);
            let stripped = unprefixed(name);
            let hash =
                if stripped.len() == name.len() { part.names.hash(number) } else { seeds.string(stripped).1 };
            add(stripped, hash, Symbol { owner: module as u32, crc: part.export_crc(record, index) });
        }
    }
    (names, symbols)
}
