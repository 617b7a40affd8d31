//! One embedded kernel from its boot to the end of the command.

use std::rc::Rc;
use std::time::Duration;

use lkm_kernel::EntryKind;
use lkm_kernel::FileFacts;
use lkm_kernel::Kernel;
use lkm_kernel::ModuleId;
use lkm_kernel::Profile;
use lkm_machine::Budget;
use lkm_machine::Config;
use lkm_machine::Machine;
use lkm_machine::MachineError;
use lkm_module::Text;
use lkm_tree::compress::Compression;

use super::faults;
use super::recorder::SharedRecord;
use super::recorder::observer;
use super::report::LogLine;
use super::report::Outcome;
use super::report::Parameter;
use super::report::Registration;
use super::report::RunReport;

/// An embedded kernel that is up.
pub(crate) struct Session {
    kernel: Kernel,
    machine: Machine,
    record: SharedRecord,
}

impl Session {
    /// Boots a kernel of a profile; each call into a module may take `timeout` of wall time.
    pub(crate) fn boot(profile: Profile, timeout: Duration) -> Result<Session, MachineError> {
        let mut config = Config::new(profile.arch);
        config.release = profile.release.to_string();
        config.budget = Budget { time: Some(timeout), ..Budget::default() };
        let mut machine = Machine::new(config)?;
        let record = SharedRecord::default();
        machine.observe(observer(&record));
        Ok(Session { kernel: Kernel::new(profile), machine, record: Rc::clone(&record) })
    }

    /// What follows concerns the module of this name.
    pub(crate) fn begin(&mut self, module: &str) {
        let mut record = self.record.borrow_mut();
        record.module = module.to_owned();
        record.stand_ins.clear();
    }

    /// Loads as `insmod` does: `finit_module()` on the open file, or `init_module()` for a file that had to be
    /// unpacked first.
    pub(crate) fn load(
        &mut self,
        image: &[u8],
        compression: Compression,
        parameters: &[u8],
    ) -> Result<ModuleId, Outcome> {
        let (kernel, machine) = (&mut self.kernel, &mut self.machine);
        let loaded = match compression {
            Compression::None => {
                let facts = FileFacts::regular(image.len() as u64);
                lkm_kernel::finit_module(kernel, machine, &facts, image, Some(parameters), 0)
            }
            _ => lkm_kernel::init_module(kernel, machine, image, Some(parameters)),
        };
        loaded.map_err(|error| Outcome {
            ok: false,
            error: Some(error.errno().into()),
            stage: Some(error.stage.name()),
            cause: Some(error.cause()),
        })
    }

    /// `delete_module()`
    pub(crate) fn unload(&mut self, id: ModuleId) -> Outcome {
        let Some(name) = self.kernel.module(id).map(|module| module.name.clone()) else {
            return Outcome::success();
        };
        match lkm_kernel::delete_module(&mut self.kernel, &mut self.machine, Some(&name), 0) {
            Ok(()) => Outcome::success(),
            Err(error) => Outcome {
                ok: false,
                error: Some(error.errno().into()),
                stage: Some("delete_module"),
                cause: Some(error.cause()),
            },
        }
    }

    /// Notes what can be seen of a module while it is loaded.
    pub(crate) fn note_loaded(&mut self, id: ModuleId, report: &mut RunReport) {
        report.proc_modules = self.kernel.proc_modules_line(id).map(|line| line.trim_end().to_owned());
        report.registrations = self.machine.registrations().iter().map(registration).collect();
        let Some(name) = self.kernel.module(id).map(|module| module.name.clone()) else { return };
        let directory = [&name[..], b"/parameters"].concat();
        for entry in self.kernel.sysfs_list(&directory).unwrap_or_default() {
            let EntryKind::File(mode) = entry.kind else { continue };
            let path = [&directory[..], b"/", &entry.name].concat();
            let value = self.kernel.sysfs_read(&mut self.machine, &path).ok();
            report.parameters.push(Parameter {
                name: Text(&entry.name).to_string(),
                value: value.map(|value| Text(&value).to_string()),
                mode,
            });
        }
    }

    /// Notes what the module that was worked on last has left, and which imports it had without code.
    pub(crate) fn note_left_behind(&mut self, report: &mut RunReport) {
        report.unimplemented_imports = std::mem::take(&mut self.record.borrow_mut().stand_ins);
        let module = report.module.clone();
        let loaded = self.kernel.find_module(module.as_bytes()).is_some();
        if loaded {
            // It stays loaded, so what it holds is in use and not lost.
            return;
        }
        for leak in self.machine.leaks().iter().filter(|leak| leak.module == module) {
            report.left_behind.push(format!(
                "{} bytes at {:#x}, allocated by {} ({})",
                leak.size,
                leak.address,
                leak.allocated_by,
                faults::origin(&leak.origin)
            ));
        }
        for left in self.machine.registrations().iter().filter(|item| item.module == module) {
            let item = registration(left);
            report.left_behind.push(format!("{} {}, still registered", item.kind, item.name));
        }
    }

    /// Notes the kernel log.
    pub(crate) fn note_log(&mut self, report: &mut RunReport) {
        report.log = self
            .machine
            .log_lines()
            .iter()
            .map(|line| LogLine {
                level: line.level as u8,
                seconds: line.time as f64 / 1e9,
                text: line.text.clone(),
            })
            .collect();
    }

    /// Notes everything that was gathered over the whole run.
    pub(crate) fn finish(&mut self, report: &mut RunReport) {
        self.note_log(report);
        report.stages = std::mem::take(&mut self.record.borrow_mut().stages);
        report.oopses.extend(faults::texts(&self.machine));
    }
}

fn registration(item: &lkm_machine::Registration) -> Registration {
    let name = match item.detail.is_empty() {
        true => item.name.clone(),
        false => format!("{} ({})", item.name, item.detail),
    };
    Registration { kind: item.kind.to_owned(), name }
}
