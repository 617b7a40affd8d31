//! What modules have registered with the kernel.
//!
//! Most of the kernel's interfaces are a pair of functions, one that takes a structure and one that gives it back.
//! All of those are one implementation over a table of [`Pair`].

use lkm_module::Level;

use crate::api::Call;
use crate::report::Stop;

/// Something that a module has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What it is: "platform driver", "character device".
    pub kind: &'static str,
    /// Its name, as far as it has one.
    pub name: String,
    /// What else is known: a device number, a mode.
    pub detail: String,
    /// The structure in the guest, or another handle.
    pub object: u64,
    /// The module that registered it.
    pub module: String,
}

/// All registrations, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Registry(Vec<Registration>);

/// Registrations that one machine takes.
const REGISTRATIONS_MAX: usize = 100_000;

impl Registry {
    pub(crate) fn all(&self) -> &[Registration] {
        &self.0
    }

    pub(crate) fn add(&mut self, registration: Registration) {
        if self.0.len() < REGISTRATIONS_MAX {
            self.0.push(registration);
        }
    }

    /// Takes the latest one of a kind with a handle away.
    pub(crate) fn remove(&mut self, kind: &str, object: u64) -> Option<Registration> {
        let at = self.0.iter().rposition(|item| item.kind == kind && item.object == object)?;
        Some(self.0.remove(at))
    }

    pub(crate) fn find(&self, kind: &str, object: u64) -> Option<&Registration> {
        self.0.iter().find(|item| item.kind == kind && item.object == object)
    }
}

/// Where the name of a registered structure is. Offsets are for x86_64 and ARM.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    /// It has none.
    None,
    /// A pointer to it in the structure.
    Pointer(u64, u64),
    /// In the structure itself.
    Inline(u64, u64),
}

/// A pair of functions.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) register: &'static [&'static str],
    pub(crate) unregister: &'static [&'static str],
    pub(crate) kind: &'static str,
    /// Which argument of the register function is the structure; that of the unregister function likewise.
    pub(crate) object: (u8, u8),
    pub(crate) name: Name,
    /// The structure is followed by others: which argument says how many, and the size of one.
    pub(crate) many: Option<(u8, u64, u64)>,
}

fn name_of(call: &mut Call<'_>, pair: &Pair, object: u64) -> String {
    let wide = call.machine.layout.pointer == 8;
    let pick = |wide_offset, narrow_offset| if wide { wide_offset } else { narrow_offset };
    match pair.name {
        Name::None => String::new(),
        Name::Pointer(wide, narrow) => {
            let at = call.machine.read_word(object.wrapping_add(pick(wide, narrow)));
            if at == 0 { String::new() } else { call.machine.read_name(at) }
        }
        Name::Inline(wide, narrow) => call.machine.read_name(object.wrapping_add(pick(wide, narrow))),
    }
}

fn objects(call: &mut Call<'_>, pair: &Pair, arguments: &[u64], object: u8) -> Vec<u64> {
    let argument = |n: u8| arguments.get(usize::from(n)).copied().unwrap_or(0);
    let first = argument(object);
    match pair.many {
        None => vec![first],
        Some((count, wide, narrow)) => {
            let size = if call.machine.layout.pointer == 8 { wide } else { narrow };
            let count = u64::from(argument(count) as u32).min(1024);
            (0..count).map(|n| first.wrapping_add(n * size)).collect()
        }
    }
}

/// The register function of a pair.
pub(crate) fn register(call: &mut Call<'_>, pair: &'static Pair) -> Result<u64, Stop> {
    let arguments: Vec<u64> = (0..6).map(|_| call.word()).collect();
    let module = call.site().module.to_string();
    for object in objects(call, pair, &arguments, pair.object.0) {
        let name = name_of(call, pair, object);
        let module = module.clone();
        call.machine.registry.add(Registration {
            kind: pair.kind,
            name,
            detail: String::new(),
            object,
            module,
        });
    }
    Ok(0)
}

/// The unregister function of a pair.
pub(crate) fn unregister(call: &mut Call<'_>, pair: &'static Pair) -> Result<u64, Stop> {
    let arguments: Vec<u64> = (0..6).map(|_| call.word()).collect();
    for object in objects(call, pair, &arguments, pair.object.1) {
        if call.machine.registry.remove(pair.kind, object).is_none() {
            let at = call.site().symbol;
            let text = format!("lkm: {}: no such {} is registered, at {at}", call.name, pair.kind);
            call.machine.printk(Level::Err, text);
        }
    }
    Ok(0)
}
