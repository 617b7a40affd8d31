//! Reports of what went wrong in the module's code, as text.

use std::fmt::Write;

use lkm_machine::HeapReport;
use lkm_machine::Machine;
use lkm_machine::Oops;
use lkm_machine::Origin;
use lkm_machine::StopKind;

/// One text for each fault: wrong uses of the heap first, then why calls into the module did not return.
pub(crate) fn texts(machine: &Machine) -> Vec<String> {
    let mut oopses = machine.oopses().iter();
    let stops = machine.stops().iter().map(|stop| {
        let oops = if stop.kind == StopKind::Oops { oopses.next() } else { None };
        oops.map_or_else(|| format!("{}, at {}", stop.kind, stop.at), oops_text)
    });
    let stops: Vec<String> = stops.collect();
    machine.heap_reports().iter().map(heap_text).chain(stops).collect()
}

fn oops_text(oops: &Oops) -> String {
    let mut text = format!("oops: {}\nat {}", oops.title, oops.at);
    if let Some(instruction) = &oops.instruction {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {instruction}");
    }
    for row in oops.registers.chunks(4) {
        let row: Vec<String> = row.iter().map(|(name, value)| format!("{name} {value:#x}")).collect();
        let _ = write!(text, "\n  {}", row.join("  "));
    }
    for frame in &oops.backtrace {
        let _ = write!(text, "\ncalled from {frame}");
    }
    text
}

fn heap_text(report: &HeapReport) -> String {
    let mut text = format!("{} at {}", report.kind, report.at);
    if report.size > 0 {
        let how = if report.write { "store" } else { "load" };
        let _ = write!(text, ": {how} of {} bytes at {:#x}", report.size, report.address);
    } else {
        let _ = write!(text, ": free of {:#x}", report.address);
    }
    if let Some(through) = report.through {
        let _ = write!(text, " in {through}");
    }
    if let Some(object) = &report.object {
        let _ = write!(
            text,
            "\nthe object: {} bytes at {:#x} ({}), allocated by {}",
            object.size,
            object.address,
            origin(&object.origin),
            object.allocated_by
        );
        if let Some(freed_by) = &object.freed_by {
            let _ = write!(text, ", freed by {freed_by}");
        }
    }
    text
}

/// Which allocator an object came from.
pub(crate) fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Kmalloc => "kmalloc".into(),
        Origin::Cache(_, name) => format!("kmem_cache {name}"),
        Origin::Vmalloc => "vmalloc".into(),
        Origin::Pages => "pages".into(),
        Origin::Kernel(what) => format!("the kernel's {what}"),
    }
}
