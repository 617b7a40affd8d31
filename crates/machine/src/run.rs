//! Running guest code: into it, through the traps, and out again.

use lkm_kernel::Kernel;
use lkm_module::Level;

use crate::abi;
use crate::api::Call;
use crate::api::Handler;
use crate::books;
use crate::budget::Spent;
use crate::cpu::Exit;
use crate::cpu::Limits;
use crate::cpu::Register;
use crate::heap::Site;
use crate::machine::Machine;
use crate::report::Stop;
use crate::report::StopKind;
use crate::report::StopReport;
use crate::slots::Target;

/// Calls into the guest that may be nested.
const DEPTH_MAX: u32 = 24;
/// Instructions between two looks at the clock of the machine.
const SLICE: u64 = 200_000;
/// Nanoseconds that a call of a kernel function takes on the machine's clock.
const CALL_TIME: u64 = 100;
/// Kernel functions whose calls are counted by name.
const COUNTED_MAX: usize = 4096;

impl Machine {
    /// Calls a function in the guest: its return register.
    pub(crate) fn call_guest(
        &mut self,
        kernel: &mut Kernel,
        address: u64,
        arguments: &[u64],
    ) -> Result<u64, Stop> {
        if self.depth >= DEPTH_MAX {
            return Err(self.stop(kernel, StopKind::Budget(Spent::Depth)));
        }
        let saved = self.cpu.save();
        self.depth += 1;
        let sp = self.stack_for_call();
        let return_to = self.slots.return_address();
        let arch = self.arch;
        let result = match abi::enter(arch, self.cpu.as_mut(), sp, address, arguments, return_to) {
            Some(()) => self.run_to_return(kernel),
            None => Err(self.stop(kernel, StopKind::Budget(Spent::Depth))),
        };
        self.depth -= 1;
        self.cpu.restore(&saved);
        result
    }

    fn run_to_return(&mut self, kernel: &mut Kernel) -> Result<u64, Stop> {
        loop {
            let limits = Limits {
                instructions: self.purse.instructions().min(SLICE),
                deadline: self.purse.deadline(),
            };
            let ran = self.cpu.run(limits);
            self.instructions = self.instructions.saturating_add(ran.spent);
            self.clock = self.clock.saturating_add(ran.spent);
            self.report_violations(kernel);
            if let Err(spent) = self.purse.spend(ran.spent) {
                return Err(self.stop(kernel, StopKind::Budget(spent)));
            }
            match ran.exit {
                Exit::Trap(address) => match self.slots.target(address) {
                    Some(Target::Return) => return Ok(self.cpu.get(Register::Return)),
                    Some(target) => self.dispatch(kernel, target)?,
                    None => {
                        let exit = Exit::Fault {
                            attempt: crate::cpu::Attempt::Fetch,
                            address,
                            size: 0,
                            mapped: true,
                        };
                        self.exception(kernel, exit)?;
                    }
                },
                Exit::Limit => self.tick(),
                Exit::Deadline => return Err(self.stop(kernel, StopKind::Budget(Spent::Time))),
                Exit::Halt => return Err(self.stop(kernel, StopKind::Halt)),
                Exit::Unsupported { address } => {
                    return Err(self.stop(kernel, StopKind::Unsupported { address }));
                }
                Exit::Emulator(text) => return Err(self.stop(kernel, StopKind::Emulator(text))),
                exit => self.exception(kernel, exit)?,
            }
        }
    }

    fn dispatch(&mut self, kernel: &mut Kernel, target: Target) -> Result<(), Stop> {
        let function = match target {
            Target::Function(function) => function,
            Target::StandIn(n) => {
                let name = lkm_module::Text(self.slots.stand_in_name(n)).to_string();
                self.count(&name);
                return Err(self.stop(kernel, StopKind::UnknownFunction { name }));
            }
            Target::Return => return Ok(()),
        };
        if let Handler::Raw(handler) = function.handler {
            return handler(self);
        }
        self.count(function.name);
        self.clock = self.clock.saturating_add(CALL_TIME);
        self.tick();
        if let Err(spent) = self.purse.call() {
            return Err(self.stop(kernel, StopKind::Budget(spent)));
        }
        let mut call = Call::new(self, kernel, function.name);
        let value = match function.handler {
            Handler::Call(handler) => handler(&mut call)?,
            Handler::Register(pair) => crate::registry::register(&mut call, pair)?,
            Handler::Unregister(pair) => crate::registry::unregister(&mut call, pair)?,
            Handler::Return(value) => value.cast_unsigned(),
            Handler::Raw(_) => 0,
        };
        abi::leave(self.arch, self.cpu.as_mut(), value);
        Ok(())
    }

    fn count(&mut self, name: &str) {
        if let Some(count) = self.calls.get_mut(name) {
            *count += 1;
        } else if self.calls.len() < COUNTED_MAX {
            self.calls.insert(name.to_owned(), 1);
        }
    }

    /// Return address of the call that is being made.
    pub(crate) fn caller(&self) -> u64 {
        abi::caller(self.arch, self.cpu.as_ref())
    }

    /// An address as `function+offset/size [module]`, or as a number.
    pub(crate) fn describe(&self, kernel: &Kernel, address: u64) -> String {
        match books::symbol(self, kernel, address) {
            Some(symbol) => {
                let name = lkm_module::Text(&symbol.name).to_string();
                let module =
                    symbol.module.map_or(String::new(), |name| format!(" [{}]", lkm_module::Text(&name)));
                format!("{name}+{:#x}/{:#x}{module}", symbol.offset, symbol.size)
            }
            None => format!("{address:#x}"),
        }
    }

    /// A return address as the place of a call.
    pub(crate) fn site(&mut self, kernel: &Kernel, address: u64) -> Site {
        if let Some(site) = self.sites.get(&address) {
            return site.clone();
        }
        let module = books::module_name(kernel, address).unwrap_or_default();
        let site = Site {
            address,
            symbol: self.describe(kernel, address).into(),
            module: lkm_module::Text(&module).to_string().into(),
        };
        self.sites.insert(address, site.clone());
        site
    }

    /// Ends everything that runs in the guest and keeps the reason.
    pub(crate) fn stop(&mut self, kernel: &Kernel, kind: StopKind) -> Stop {
        let at = match &kind {
            StopKind::UnknownFunction { .. } => self.caller(),
            StopKind::Unsupported { address } => *address,
            _ => self.cpu.get(Register::Pc),
        };
        let at = self.describe(kernel, at);
        let text = match &kind {
            StopKind::Oops => None,
            kind => Some(format!("lkm: {kind}, at {at}")),
        };
        if let Some(text) = text {
            self.printk(Level::Err, text);
        }
        self.stops.push(StopReport { kind, at });
        Stop
    }
}
