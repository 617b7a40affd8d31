//! How much a module may use before it is stopped.

use core::fmt;
use std::time::Duration;
use std::time::Instant;

/// What one call into a module may spend, with everything that it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Instructions, as far as blocks tell.
    pub instructions: u64,
    /// Calls of kernel functions.
    pub calls: u64,
    /// Wall time; `None` for any.
    pub time: Option<Duration>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { instructions: 500_000_000, calls: 2_000_000, time: Some(Duration::from_secs(10)) }
    }
}

/// Which part of a budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spent {
    /// Instructions.
    Instructions,
    /// Calls of kernel functions.
    Calls,
    /// Wall time.
    Time,
    /// Depth of calls from the kernel into the module.
    Depth,
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spent::Instructions => "instructions",
            Spent::Calls => "calls of kernel functions",
            Spent::Time => "time",
            Spent::Depth => "nested calls",
        })
    }
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purse {
    instructions: u64,
    calls: u64,
    deadline: Option<Instant>,
}

impl Purse {
    pub(crate) fn new(budget: Budget) -> Purse {
        let deadline = budget.time.and_then(|time| Instant::now().checked_add(time));
        Purse { instructions: budget.instructions, calls: budget.calls, deadline }
    }

    pub(crate) fn instructions(&self) -> u64 {
        self.instructions
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn spend(&mut self, instructions: u64) -> Result<(), Spent> {
        self.instructions = self.instructions.saturating_sub(instructions);
        if self.instructions == 0 { Err(Spent::Instructions) } else { Ok(()) }
    }

    pub(crate) fn call(&mut self) -> Result<(), Spent> {
        self.calls = self.calls.checked_sub(1).ok_or(Spent::Calls)?;
        if self.deadline.is_some_and(|end| Instant::now() > end) {
            return Err(Spent::Time);
        }
        Ok(())
    }
}
