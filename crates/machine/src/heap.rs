//! Slab and vmalloc memory, guarded as KASAN guards it: red zones around every object, freed objects kept aside for
//! a while, who took and who freed each, and an exact judgement of every access.

use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::cpu::Watcher;

/// Bytes that one mark of the shadow stands for.
const GRANULE: u64 = 8;
/// Unusable bytes on either side of an object.
const RED_ZONE: u64 = 32;
/// Freed bytes kept before they are used again, and how many objects.
const QUARANTINE_BYTES: u64 = 4 << 20;
const QUARANTINE_OBJECTS: usize = 4096;

/// Which bytes of an arena may be touched: for each granule how many of its first bytes, 0 to 8.
#[derive(Debug)]
pub(crate) struct Shadow {
    base: u64,
    marks: RefCell<Vec<u8>>,
}

impl Shadow {
    fn new(area: &Range<u64>) -> Shadow {
        let granules = usize::try_from((area.end - area.start) / GRANULE).unwrap_or(0);
        Shadow { base: area.start, marks: RefCell::new(vec![0; granules]) }
    }

    fn mark(&self, address: u64, size: u64, usable: bool) {
        let mut marks = self.marks.borrow_mut();
        let first = (address - self.base) / GRANULE;
        for n in 0..size.div_ceil(GRANULE) {
            if let Some(mark) = usize::try_from(first + n).ok().and_then(|n| marks.get_mut(n)) {
                *mark = if usable { (size - n * GRANULE).min(GRANULE) as u8 } else { 0 };
            }
        }
    }
}

impl Watcher for Shadow {
    fn allows(&self, address: u64, size: u64, _write: bool) -> bool {
        let Ok(marks) = self.marks.try_borrow() else { return true };
        let mut at = address.wrapping_sub(self.base);
        let end = at.saturating_add(size);
        while at < end {
            let mark = usize::try_from(at / GRANULE)
                .ok()
                .and_then(|n| marks.get(n))
                .map_or(0, |&mark| u64::from(mark));
            let granule_end = (at / GRANULE + 1) * GRANULE;
            if end.min(granule_end) - at / GRANULE * GRANULE > mark {
                return false;
            }
            at = granule_end;
        }
        true
    }
}

/// What sort of allocator an object came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `kmalloc` and its relatives.
    Kmalloc,
    /// `kmem_cache_alloc` on the cache at this guest address, with its name.
    Cache(u64, Rc<str>),
    /// `vmalloc` and its relatives.
    Vmalloc,
    /// Whole pages: `__get_free_pages` and its relatives.
    Pages,
    /// The kernel's own, on behalf of a module: a class, a device, a proc entry. Not for the module to free.
    Kernel(&'static str),
}

/// A place in code that called a function of the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The return address; 0 for the loader itself.
    pub address: u64,
    /// The same as `function+offset/size [module]`.
    pub symbol: Rc<str>,
    /// The module it is in; empty for the kernel.
    pub module: Rc<str>,
}

/// One object on the heap.
#[derive(Clone, Debug)]
pub struct Object {
    /// Where it begins.
    pub address: u64,
    /// Bytes that were asked for.
    pub size: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Who took it.
    pub allocated_by: Site,
    /// Who freed it.
    pub freed_by: Option<Site>,
    /// The whole piece of the arena with its red zones.
    piece: Range<u64>,
}

/// What is wrong with an access or a free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeapErrorKind {
    /// Beyond the end of an object or before its start.
    OutOfBounds,
    /// In an object that has been freed.
    UseAfterFree,
    /// Freed twice.
    DoubleFree,
    /// Freed by an address that no object begins at.
    InvalidFree,
    /// Freed by a function that is not for this sort of object.
    WrongFree,
    /// In memory of the heap that was never handed out.
    Wild,
}

impl fmt::Display for HeapErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeapErrorKind::OutOfBounds => "out-of-bounds",
            HeapErrorKind::UseAfterFree => "use-after-free",
            HeapErrorKind::DoubleFree => "double-free",
            HeapErrorKind::InvalidFree => "invalid-free",
            HeapErrorKind::WrongFree => "free by the wrong function",
            HeapErrorKind::Wild => "wild-memory-access",
        })
    }
}

#[derive(Debug)]
struct Arena {
    area: Range<u64>,
    next: u64,
    shadow: Rc<Shadow>,
    objects: BTreeMap<u64, Object>,
    /// Addresses of freed objects, the oldest first.
    quarantine: VecDeque<u64>,
    quarantined: u64,
    /// Pieces to use again, by size.
    free: BTreeMap<u64, Vec<u64>>,
}

impl Arena {
    fn new(area: Range<u64>) -> Arena {
        Arena {
            next: area.start,
            shadow: Rc::new(Shadow::new(&area)),
            objects: BTreeMap::new(),
            quarantine: VecDeque::new(),
            quarantined: 0,
            free: BTreeMap::new(),
            area,
        }
    }

    fn take(&mut self, size: u64, align: u64) -> Option<Range<u64>> {
        let room = size.max(1).checked_add(GRANULE - 1)? & !(GRANULE - 1);
        let whole = room.checked_add(2 * RED_ZONE)?.checked_add(if align > RED_ZONE { align } else { 0 })?;
        let whole = whole.checked_add(RED_ZONE - 1)? & !(RED_ZONE - 1);
        if let Some(list) = self.free.get_mut(&whole)
            && let Some(start) = list.pop()
        {
            return Some(start..start + whole);
        }
        let end = self.next.checked_add(whole)?;
        if end > self.area.end {
            return None;
        }
        let start = self.next;
        self.next = end;
        Some(start..end)
    }

    fn allocate(&mut self, size: u64, align: u64, origin: Origin, by: Site) -> Option<u64> {
        let align = align.clamp(GRANULE, 1 << 22).next_power_of_two();
        let mut piece = self.take(size, align);
        while piece.is_none() && self.recycle() {
            piece = self.take(size, align);
        }
        let piece = piece?;
        let address = (piece.start + RED_ZONE).checked_next_multiple_of(align)?;
        self.shadow.mark(address, size, true);
        self.objects
            .insert(address, Object { address, size, origin, allocated_by: by, freed_by: None, piece });
        Some(address)
    }

    /// Lets the oldest freed object go.
    fn recycle(&mut self) -> bool {
        let Some(address) = self.quarantine.pop_front() else { return false };
        if let Some(object) = self.objects.remove(&address) {
            self.quarantined -= object.size;
            let size = object.piece.end - object.piece.start;
            self.free.entry(size).or_default().push(object.piece.start);
        }
        true
    }

    fn free(&mut self, address: u64, by: Site, kernel: bool) -> Result<Object, HeapErrorKind> {
        let Some(object) = self.objects.get_mut(&address) else { return Err(HeapErrorKind::InvalidFree) };
        if object.freed_by.is_some() {
            return Err(HeapErrorKind::DoubleFree);
        }
        if matches!(object.origin, Origin::Kernel(_)) && !kernel {
            return Err(HeapErrorKind::InvalidFree);
        }
        object.freed_by = Some(by);
        let object = object.clone();
        self.shadow.mark(address, object.size, false);
        self.quarantine.push_back(address);
        self.quarantined += object.size;
        while self.quarantined > QUARANTINE_BYTES || self.quarantine.len() > QUARANTINE_OBJECTS {
            self.recycle();
        }
        Ok(object)
    }

    fn nearest(&self, address: u64) -> Option<&Object> {
        let below = self.objects.range(..=address).next_back().map(|entry| entry.1);
        let above = self.objects.range(address..).next().map(|entry| entry.1);
        below
            .filter(|object| address < object.piece.end)
            .or(above.filter(|object| address >= object.piece.start))
    }
}

/// Both arenas of the kernel.
#[derive(Debug)]
pub(crate) struct Heap {
    slab: Arena,
    vmalloc: Arena,
}

impl Heap {
    pub(crate) fn new(slab: Range<u64>, vmalloc: Range<u64>) -> Heap {
        Heap { slab: Arena::new(slab), vmalloc: Arena::new(vmalloc) }
    }

    /// The watchers for the two arenas.
    pub(crate) fn shadows(&self) -> [(Range<u64>, Rc<Shadow>); 2] {
        [&self.slab, &self.vmalloc].map(|arena| (arena.area.clone(), Rc::clone(&arena.shadow)))
    }

    fn arena(&self, address: u64) -> Option<&Arena> {
        [&self.slab, &self.vmalloc].into_iter().find(|arena| arena.area.contains(&address))
    }

    fn arena_mut(&mut self, address: u64) -> Option<&mut Arena> {
        [&mut self.slab, &mut self.vmalloc].into_iter().find(|arena| arena.area.contains(&address))
    }

    /// Takes an object; `None` when the arena is full.
    pub(crate) fn allocate(&mut self, size: u64, align: u64, origin: Origin, by: Site) -> Option<u64> {
        let arena = if origin == Origin::Vmalloc { &mut self.vmalloc } else { &mut self.slab };
        arena.allocate(size, align, origin, by)
    }

    /// Frees an object: what it was.
    pub(crate) fn free(&mut self, address: u64, by: Site) -> Result<Object, HeapErrorKind> {
        self.arena_mut(address).ok_or(HeapErrorKind::InvalidFree)?.free(address, by, false)
    }

    /// Frees an object of the kernel's own; nothing else.
    pub(crate) fn free_kernel(&mut self, address: u64) {
        let kernel = self.object(address).is_some_and(|object| matches!(object.origin, Origin::Kernel(_)));
        if kernel && let Some(arena) = self.arena_mut(address) {
            let by = Site { address: 0, symbol: "".into(), module: "".into() };
            let _ = arena.free(address, by, true);
        }
    }

    /// The live object that begins at an address.
    pub(crate) fn object(&self, address: u64) -> Option<&Object> {
        self.arena(address)?.objects.get(&address).filter(|object| object.freed_by.is_none())
    }

    /// The object that an address belongs to or lies nearest to, freed ones included.
    pub(crate) fn nearest(&self, address: u64) -> Option<&Object> {
        self.arena(address)?.nearest(address)
    }

    /// Whether an access is in order. Memory outside the heap is not its business.
    pub(crate) fn allows(&self, address: u64, size: u64) -> bool {
        self.arena(address).is_none_or(|arena| arena.shadow.allows(address, size, false))
    }

    /// What is wrong with an access that is not in order.
    pub(crate) fn judge(&self, address: u64) -> HeapErrorKind {
        match self.nearest(address) {
            Some(object) if object.freed_by.is_some() => HeapErrorKind::UseAfterFree,
            Some(_) => HeapErrorKind::OutOfBounds,
            None => HeapErrorKind::Wild,
        }
    }

    /// Everything that is not freed and that a module took, in the order of addresses.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Object> {
        self.slab
            .objects
            .values()
            .chain(self.vmalloc.objects.values())
            .filter(|object| object.freed_by.is_none() && !matches!(object.origin, Origin::Kernel(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(address: u64) -> Site {
        Site { address, symbol: "".into(), module: "".into() }
    }

    fn heap() -> Heap {
        Heap::new(0x10_0000..0x20_0000, 0x40_0000..0x80_0000)
    }

    #[test]
    fn every_byte_outside_an_object_is_refused() {
        let mut heap = heap();
        let first = heap.allocate(13, 8, Origin::Kmalloc, by(1)).expect("memory");
        let second = heap.allocate(24, 64, Origin::Kmalloc, by(2)).expect("memory");
        assert_eq!(second % 64, 0);
        for at in first - 32..second + 80 {
            let inside = (first..first + 13).contains(&at) || (second..second + 24).contains(&at);
            assert_eq!(heap.allows(at, 1), inside, "{at:#x}");
        }
        assert!(heap.allows(first, 13));
        assert!(!heap.allows(first, 14));
        assert!(!heap.allows(first + 8, 8));
        assert_eq!(heap.judge(first + 13), HeapErrorKind::OutOfBounds);
        assert_eq!(heap.judge(first - 1), HeapErrorKind::OutOfBounds);
        assert_eq!(heap.nearest(first - 1).expect("object").allocated_by, by(1));
        assert_eq!(heap.judge(0x1f_0000), HeapErrorKind::Wild);
        assert!(heap.allows(0x100, 4), "not heap");
    }

    #[test]
    fn freed_twice_wrongly_and_used_after() {
        let mut heap = heap();
        let object = heap.allocate(100, 8, Origin::Kmalloc, by(1)).expect("memory");
        assert_eq!(heap.free(object + 8, by(2)).expect_err("inside"), HeapErrorKind::InvalidFree);
        assert_eq!(heap.free(object, by(3)).expect("freed").size, 100);
        assert_eq!(heap.judge(object + 99), HeapErrorKind::UseAfterFree);
        assert_eq!(heap.free(object, by(4)).expect_err("twice"), HeapErrorKind::DoubleFree);
        assert_eq!(heap.nearest(object).expect("object").freed_by, Some(by(3)));
        assert_eq!(heap.free(0x5000, by(4)).expect_err("foreign"), HeapErrorKind::InvalidFree);
        let own = heap.allocate(8, 8, Origin::Kernel("class"), by(1)).expect("memory");
        assert_eq!(heap.free(own, by(4)).expect_err("not the module's"), HeapErrorKind::InvalidFree);
        assert_eq!(heap.live().count(), 0);
    }

    #[test]
    fn memory_is_used_again_and_ends() {
        let mut heap = heap();
        // 1 MiB of slab: only with reuse can ten times as much be taken.
        for n in 0..2600 {
            let object = heap.allocate(4000, 8, Origin::Kmalloc, by(n)).expect("reused");
            heap.free(object, by(n)).expect("freed");
        }
        let mut taken = 0;
        while heap.allocate(4000, 8, Origin::Kmalloc, by(0)).is_some() {
            taken += 1;
        }
        assert!((200..260).contains(&taken), "{taken}");
        assert_eq!(heap.allocate(u64::MAX, 8, Origin::Vmalloc, by(0)), None);
    }
}
