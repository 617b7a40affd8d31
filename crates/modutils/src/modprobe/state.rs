//! What the kernel says of a module.

use lkm_tree::lookup::Modules;

use crate::Context;

/// What the kernel says of a module (`/sys/module/NAME/initstate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is not there.
    Absent,
    /// It is part of the kernel.
    Builtin,
    /// It is loaded and ready.
    Live,
    /// Its init function runs, or its exit function.
    Between,
}

impl State {
    pub(super) fn of(context: &Context<'_>, modules: &Modules, name: &[u8]) -> State {
        match context.kernel.module_attribute(name, "initstate") {
            Ok(state) if state == b"live" => State::Live,
            Ok(_) => State::Between,
            Err(_) if modules.is_builtin(name) => State::Builtin,
            // In the first moment of a load the directory has no state yet.
            Err(_) if context.kernel.has_module(name) => State::Between,
            Err(_) => State::Absent,
        }
    }

    /// Whether there is nothing to load.
    pub(super) fn is_in_kernel(self) -> bool {
        matches!(self, State::Live | State::Builtin)
    }
}

/// How often a module is used; `None` if the kernel does not say.
pub(super) fn references(context: &Context<'_>, name: &[u8]) -> Option<i64> {
    let count = context.kernel.module_attribute(name, "refcnt").ok()?;
    std::str::from_utf8(&count).ok()?.trim_ascii().parse().ok()
}
