//! Listens to the loader and writes down its stages.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use lkm_kernel::Event;
use lkm_kernel::Provider;
use lkm_kernel::Stage;
use lkm_kernel::Unit;
use lkm_module::Text;

use super::report::Number;
use super::report::StageReport;

/// What was heard so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The module that is being worked on.
    pub(crate) module: String,
    /// The stages that ended.
    pub(crate) stages: Vec<StageReport>,
    /// Imports without an implementation, by name.
    pub(crate) stand_ins: Vec<String>,
    open: Vec<(Stage, Instant)>,
}

/// A record that the machine's observer writes and the session reads.
pub(crate) type SharedRecord = Rc<RefCell<Record>>;

/// An observer that writes into `record`.
pub(crate) fn observer(record: &SharedRecord) -> Box<dyn FnMut(&Event<'_>)> {
    let record = Rc::clone(record);
    Box::new(move |event| record.borrow_mut().hear(event))
}

impl Record {
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Begin { stage } => self.open.push((*stage, Instant::now())),
            Event::End { stage, result, numbers } => {
                let begun = self.open.iter().rposition(|(open, _)| open == stage);
                let begun = begun.map(|at| self.open.remove(at).1);
                let microseconds = begun.map_or(0, |begun| begun.elapsed().as_micros());
                let numbers = numbers.iter().map(|number| Number {
                    name: number.name,
                    value: number.value,
                    unit: match number.unit {
                        Unit::Count => "count",
                        Unit::Bytes => "bytes",
                        Unit::Address => "address",
                    },
                });
                self.stages.push(StageReport {
                    module: self.module.clone(),
                    stage: stage.name(),
                    error: result.err().map(Into::into),
                    numbers: numbers.collect(),
                    microseconds: u64::try_from(microseconds).unwrap_or(u64::MAX),
                });
            }
            Event::Resolved { name, provider: Provider::StandIn, .. } => {
                self.stand_ins.push(Text(name).to_string());
            }
            _ => {}
        }
    }
}
