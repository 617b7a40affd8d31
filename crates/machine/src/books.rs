//! What the machine asks the kernel's books.

use lkm_kernel::Kernel;

use crate::machine::Machine;
use crate::printk::Symbol;

/// The symbol of a module that an address belongs to.
pub(crate) fn module_symbol(kernel: &Kernel, address: u64) -> Option<Symbol> {
    let place = kernel.module_address_lookup(address)?;
    Some(Symbol { name: place.symbol, offset: place.offset, size: place.size, module: Some(place.module) })
}

/// The symbol that an address belongs to, in a module or among the functions of the embedded kernel.
pub(crate) fn symbol(machine: &Machine, kernel: &Kernel, address: u64) -> Option<Symbol> {
    module_symbol(kernel, address).or_else(|| machine.slots.symbol(address))
}

/// The name of the module that an address lies in.
pub(crate) fn module_name(kernel: &Kernel, address: u64) -> Option<Vec<u8>> {
    kernel.module_at(address).map(|module| module.name.clone())
}

/// Address and size of a section of the module that an address lies in.
pub(crate) fn section(kernel: &Kernel, address: u64, name: &[u8]) -> Option<(u64, u64)> {
    let module = kernel.module_at(address)?;
    module.sections.iter().find(|section| section.name == name).map(|section| (section.address, section.size))
}

/// The exception table of the module that an address lies in: its address and number of entries.
pub(crate) fn exception_table(kernel: &Kernel, address: u64) -> Option<(u64, u64)> {
    kernel.module_at(address).map(|module| module.extable)
}

/// The line that oopses end in.
pub(crate) fn modules_linked_in(kernel: &Kernel) -> String {
    kernel.modules_linked_in()
}
