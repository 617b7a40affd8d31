//! Heap errors: found by the watcher under guest code, and by every kernel function that touches memory for it.

use lkm_kernel::Kernel;
use lkm_module::Level;

use crate::api::Call;
use crate::cpu::Attempt;
use crate::cpu::Exit;
use crate::heap::HeapErrorKind;
use crate::heap::Origin;
use crate::machine::Machine;
use crate::report::HeapObject;
use crate::report::HeapReport;
use crate::report::Stop;

/// Reports kept; the first ones are those that matter.
const REPORTS_MAX: usize = 200;

impl Machine {
    /// Takes what the watchers have found since the last time.
    pub(crate) fn report_violations(&mut self, kernel: &Kernel) {
        for violation in self.cpu.violations() {
            let at = self.describe(kernel, violation.pc);
            let kind = self.heap.judge(violation.address);
            self.heap_report(kind, violation.write, violation.address, violation.size, at, None);
        }
    }

    /// Keeps a report and writes it to the log as KASAN would.
    pub(crate) fn heap_report(
        &mut self,
        kind: HeapErrorKind,
        write: bool,
        address: u64,
        size: u64,
        at: String,
        through: Option<&'static str>,
    ) {
        let object = self.heap.nearest(address).map(|object| HeapObject {
            address: object.address,
            size: object.size,
            origin: object.origin.clone(),
            allocated_by: object.allocated_by.symbol.to_string(),
            freed_by: object.freed_by.as_ref().map(|site| site.symbol.to_string()),
        });
        let report = HeapReport { kind, write, address, size, at, through, object };
        // One place that is wrong in a loop is one report.
        let same = |old: &HeapReport| old.kind == kind && old.at == report.at && old.through == through;
        if self.heap_reports.len() >= REPORTS_MAX || self.heap_reports.iter().any(same) {
            return;
        }
        for line in kasan_lines(&report, &self.config.comm) {
            self.printk(Level::Err, line);
        }
        self.heap_reports.push(report);
    }

    /// Whether the guest may touch memory, as far as it is heap; a report if not.
    pub(crate) fn check_access(
        &mut self,
        address: u64,
        size: u64,
        write: bool,
        at: impl FnOnce(&mut Machine) -> String,
        through: &'static str,
    ) -> bool {
        if size == 0 || self.heap.allows(address, size) {
            return true;
        }
        // The first byte that is wrong tells what is wrong.
        let good =
            (0..size.min(1 << 16)).take_while(|&n| self.heap.allows(address.wrapping_add(n), 1)).count();
        let kind = self.heap.judge(address.wrapping_add(good as u64));
        let at = at(self);
        self.heap_report(kind, write, address, size, at, Some(through));
        false
    }
}

/// The report as KASAN words it.
fn kasan_lines(report: &HeapReport, comm: &str) -> Vec<String> {
    let area = match report.object.as_ref().map(|object| &object.origin) {
        Some(Origin::Vmalloc) => "vmalloc-",
        _ => "slab-",
    };
    let title = match report.kind {
        HeapErrorKind::OutOfBounds => format!("{area}out-of-bounds"),
        HeapErrorKind::UseAfterFree => format!("{area}use-after-free"),
        HeapErrorKind::Wild => String::from("wild-memory-access"),
        HeapErrorKind::DoubleFree => String::from("double-free"),
        HeapErrorKind::InvalidFree | HeapErrorKind::WrongFree => String::from("invalid-free"),
    };
    let task = format!("task {comm}/{}", crate::api::data::PID);
    let mut lines = vec![format!("BUG: KASAN: {title} in {}", report.at)];
    let through = report.through.map_or(String::new(), |name| format!(", through {name}()"));
    lines.push(match (report.size, report.write) {
        (0, _) => format!("Free of addr {:016x} by {task}{through}", report.address),
        (size, true) => format!("Write of size {size} at addr {:016x} by {task}{through}", report.address),
        (size, false) => format!("Read of size {size} at addr {:016x} by {task}{through}", report.address),
    });
    let Some(object) = &report.object else { return lines };
    if let Origin::Cache(_, name) = &object.origin {
        lines.push(format!("The buggy address belongs to the cache {name}"));
    }
    let end = object.address.wrapping_add(object.size);
    let position = if report.address < object.address {
        format!("{} bytes to the left", object.address - report.address)
    } else if report.address >= end {
        format!("{} bytes to the right", report.address - end)
    } else {
        format!("{} bytes inside", report.address - object.address)
    };
    lines.push(format!(
        "The buggy address is located {position} of {}-byte region [{:016x}, {end:016x})",
        object.size, object.address
    ));
    lines.push(format!("Allocated by {}", object.allocated_by));
    if let Some(freed) = &object.freed_by {
        lines.push(format!("Freed by {freed}"));
    }
    lines
}

impl Call<'_> {
    /// Reports an access that this function made for its caller, if it is wrong.
    pub(crate) fn report_access(&mut self, address: u64, size: u64, write: bool) -> bool {
        let caller = self.machine.caller();
        let name = self.name;
        let kernel = &*self.kernel;
        self.machine.check_access(address, size, write, |machine| machine.describe(kernel, caller), name)
    }

    /// Reads guest memory for the caller; `false` if it is not there.
    pub(crate) fn read_checked(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        self.report_access(address, bytes.len() as u64, false);
        self.machine.cpu.read(address, bytes).is_ok()
    }

    /// Writes guest memory for the caller; `false` if it is not there or not writable.
    pub(crate) fn write_checked(&mut self, address: u64, bytes: &[u8]) -> bool {
        self.report_access(address, bytes.len() as u64, true);
        let writable = |address| self.machine.cpu.access(address).is_none_or(|access| access.write);
        if !bytes.is_empty()
            && (!writable(address) || !writable(address.wrapping_add(bytes.len() as u64 - 1)))
        {
            return false;
        }
        self.machine.cpu.write(address, bytes).is_ok()
    }

    /// The function touched memory that is not there: an oops in it, on behalf of its caller.
    pub(crate) fn bad_pointer(&mut self, address: u64) -> Stop {
        let exit = Exit::Fault { attempt: Attempt::Read, address, size: 0, mapped: false };
        self.machine.fault_in_kernel(self.kernel, exit)
    }

    /// The same for a write.
    pub(crate) fn bad_pointer_write(&mut self, address: u64) -> Stop {
        let mapped = self.machine.cpu.access(address).is_some();
        let exit = Exit::Fault { attempt: Attempt::Write, address, size: 0, mapped };
        self.machine.fault_in_kernel(self.kernel, exit)
    }

    /// A NUL-terminated string, read for the caller.
    pub(crate) fn string_checked(&mut self, address: u64, limit: u64) -> Vec<u8> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(crate::api::TEXT_MAX);
        let text = self.machine.read_string(address, limit);
        let touched = (text.len() + 1).min(limit) as u64;
        self.report_access(address, touched, false);
        text
    }
}

#[cfg(test)]
mod tests {
    use lkm_link::Arch;

    use crate::heap::HeapErrorKind;
    use crate::heap::Origin;
    use crate::machine::Machine;
    use crate::testing::Guest;

    #[test]
    fn what_the_kernel_does_for_a_module_is_checked_too() {
        for arch in [Arch::X86_64, Arch::Arm] {
            let mut guest = Guest::new(arch);
            let short =
                guest.machine.heap.allocate(10, 8, Origin::Kmalloc, Machine::kernel_site()).expect("memory");
            // Ten bytes with the NUL fit, eleven do not.
            assert_eq!(guest.run(0, "123456789", "", Some(short)), (9, "123456789".to_owned()));
            assert!(guest.machine.heap_reports().is_empty());
            guest.run(0, "1234567890", "", Some(short));
            let [report] = guest.machine.heap_reports() else { panic!("{:?}", guest.machine.heap_reports()) };
            assert_eq!((report.kind, report.write), (HeapErrorKind::OutOfBounds, true));
            assert_eq!((report.address, report.size, report.through), (short, 11, Some("snprintf")));
            assert_eq!(report.object.as_ref().map(|object| object.size), Some(10));
        }
    }

    #[test]
    fn a_string_that_was_freed_is_seen() {
        for arch in [Arch::X86_64, Arch::Arm] {
            let mut guest = Guest::new(arch);
            let name =
                guest.machine.heap.allocate(16, 8, Origin::Kmalloc, Machine::kernel_site()).expect("memory");
            guest.machine.cpu.write(name, b"name").expect("text");
            guest.machine.heap.free(name, Machine::kernel_site()).expect("free");
            // As a format it is read by the kernel.
            let text = guest.machine.read_string(name, 16);
            assert_eq!(text, b"name");
            let allowed = guest.machine.check_access(name, 5, false, |_| String::from("here"), "strlen");
            assert!(!allowed);
            assert_eq!(guest.machine.heap_reports()[0].kind, HeapErrorKind::UseAfterFree);
            // One place is reported once.
            guest.machine.check_access(name, 5, false, |_| String::from("here"), "strlen");
            assert_eq!(guest.machine.heap_reports().len(), 1);
        }
    }
}
