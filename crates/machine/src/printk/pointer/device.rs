//! `%pC`.

use super::Environment;
use super::Field;
use super::Output;
use super::read_pointer;
use super::string;
use super::unreadable;

/// The name of a clock of the common clock framework: `struct clk` begins with its core, and that with its name.
pub(super) fn clock(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    match read_pointer(at, environment).and_then(|core| read_pointer(core, environment)) {
        Some(name) => string(out, name, field, environment),
        None => unreadable(out, field),
    }
}
