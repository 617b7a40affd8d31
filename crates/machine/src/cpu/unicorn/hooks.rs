//! What the emulator calls while it runs. A panic in here would end the process: hooks record and stop, nothing else.

use core::cell::Cell;
use core::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use lkm_link::Arch;
use unicorn_engine::HookType;
use unicorn_engine::MemType;
use unicorn_engine::Prot;
use unicorn_engine::TlbEntry;
use unicorn_engine::TlbType;
use unicorn_engine::uc_error;

use super::super::Access;
use super::super::pages::Pages;
use super::super::vector;
use super::Attempt;
use super::Exit;
use super::NOWHERE;
use super::PAGE;
use super::PHYSICAL_MASK;
use super::Unicorn;
use super::Violation;

/// Blocks between two looks at the clock.
const CLOCK_INTERVAL: u64 = 4096;
/// Size of the direct-mapped memory of blocks already scanned for AVX; a power of two.
const SCANNED: usize = 8192;

/// What hooks leave behind for [`Unicorn::run_once`].
pub(super) struct Shared {
    pub(super) pages: RefCell<Pages>,
    pub(super) traps: RefCell<Vec<(u64, u64)>>,
    pub(super) stopped: Cell<Option<Exit>>,
    pub(super) refused: Cell<Option<(Attempt, u64, u32)>>,
    pub(super) interrupt: Cell<Option<u32>>,
    pub(super) spent: Cell<u64>,
    pub(super) blocks: Cell<u64>,
    pub(super) limit: Cell<u64>,
    pub(super) deadline: Cell<Option<Instant>>,
    pub(super) violations: RefCell<Vec<Violation>>,
    pub(super) scanned: RefCell<Vec<u64>>,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared {
            pages: RefCell::default(),
            traps: RefCell::default(),
            stopped: Cell::new(None),
            refused: Cell::new(None),
            interrupt: Cell::new(None),
            spent: Cell::new(0),
            blocks: Cell::new(0),
            limit: Cell::new(0),
            deadline: Cell::new(None),
            violations: RefCell::default(),
            scanned: RefCell::new(vec![u64::MAX; SCANNED]),
        }
    }
}

pub(super) fn protection(access: Access) -> Prot {
    let mut bits = Prot::NONE;
    if access.read {
        bits |= Prot::READ;
    }
    if access.write {
        bits |= Prot::WRITE;
    }
    if access.execute {
        bits |= Prot::EXEC;
    }
    bits
}

impl Unicorn {
    pub(super) fn install_hooks(&mut self) -> Result<(), uc_error> {
        let shared = Rc::clone(&self.shared);
        let scan = self.arch == Arch::X86_64;
        self.engine.add_block_hook(1, 0, move |engine, address, size| {
            let spent = shared.spent.get().saturating_add(u64::from(size / 4).max(1));
            shared.spent.set(spent);
            let blocks = shared.blocks.get().wrapping_add(1);
            shared.blocks.set(blocks);
            let stop = if spent > shared.limit.get() {
                Some(Exit::Limit)
            } else if blocks.is_multiple_of(CLOCK_INTERVAL)
                && shared.deadline.get().is_some_and(|end| Instant::now() > end)
            {
                Some(Exit::Deadline)
            } else if scan {
                scan_block(&shared, engine, address, size)
            } else {
                None
            };
            if stop.is_some() {
                shared.stopped.set(stop);
                let _ = engine.emu_stop();
            }
        })?;

        let shared = Rc::clone(&self.shared);
        self.engine.add_intr_hook(move |engine, number| {
            shared.interrupt.set(Some(number));
            let _ = engine.emu_stop();
        })?;

        let shared = Rc::clone(&self.shared);
        match self.arch {
            Arch::X86_64 => {
                self.engine.ctl_set_tlb_type(TlbType::VIRTUAL)?;
                self.engine.add_tlb_hook(1, 0, move |_, address, kind| {
                    // At the end of a run the emulator drops what it translated for the end address and asks for
                    // that page, too; a refusal would hide why the run ended. There is no memory behind it.
                    if address == NOWHERE & !(PAGE - 1) && kind == MemType::FETCH {
                        return Some(TlbEntry { paddr: address, perms: Prot::EXEC });
                    }
                    let attempt = match kind {
                        MemType::WRITE => Attempt::Write,
                        MemType::FETCH => Attempt::Fetch,
                        _ => Attempt::Read,
                    };
                    let access = shared.pages.try_borrow().ok()?.find(address).map(|range| range.2);
                    match access {
                        Some(access) if access.allows(attempt) => {
                            Some(TlbEntry { paddr: address & PHYSICAL_MASK, perms: protection(access) })
                        }
                        _ => {
                            let first = shared.refused.get().unwrap_or((attempt, address, 0));
                            shared.refused.set(Some(first));
                            None
                        }
                    }
                })?;
            }
            Arch::Arm => {
                self.engine.add_mem_hook(
                    HookType::MEM_READ_UNMAPPED
                        | HookType::MEM_WRITE_UNMAPPED
                        | HookType::MEM_FETCH_UNMAPPED
                        | HookType::MEM_READ_PROT
                        | HookType::MEM_WRITE_PROT
                        | HookType::MEM_FETCH_PROT,
                    1,
                    0,
                    move |_, kind, address, size, _| {
                        let attempt = match kind {
                            MemType::WRITE_UNMAPPED | MemType::WRITE_PROT => Attempt::Write,
                            MemType::FETCH_UNMAPPED | MemType::FETCH_PROT => Attempt::Fetch,
                            _ => Attempt::Read,
                        };
                        shared.refused.set(Some((attempt, address, u32::try_from(size).unwrap_or(0))));
                        false
                    },
                )?;
            }
        }
        Ok(())
    }
}

fn scan_block(
    shared: &Shared,
    engine: &unicorn_engine::Unicorn<'_, ()>,
    address: u64,
    size: u32,
) -> Option<Exit> {
    let mut scanned = shared.scanned.try_borrow_mut().ok()?;
    let slot = scanned.get_mut(address as usize % SCANNED)?;
    if *slot == address {
        return None;
    }
    let mut code = [0; 4096];
    // The emulator's blocks end at a page or before.
    let code = code.get_mut(..size as usize)?;
    engine.mem_read(address & PHYSICAL_MASK, code).ok()?;
    match vector::find(code, address) {
        Some(address) => Some(Exit::Unsupported { address }),
        None => {
            *slot = address;
            None
        }
    }
}
