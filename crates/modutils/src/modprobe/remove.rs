//! Unloading.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use std::time::Instant;

use lkm_module::Errno;
use lkm_syscall::DeleteFlags;
use lkm_tree::config::Command;
use lkm_tree::lookup::Found;
use lkm_tree::lookup::LookupError;
use lkm_tree::lookup::Rules;

use super::Fatal;
use super::Session;
use super::state::State;
use super::state::references;
use crate::explain;

/// Modules that are looked at for one name, at most: holders of holders, soft dependencies of soft dependencies.
const LIMIT: usize = 10_000;

/// What one name has led to.
#[derive(Default)]
struct Removal {
    /// Modules that are being dealt with, each for the sake of the one before: soft dependencies may go in a circle.
    open: Vec<Vec<u8>>,
    /// Modules that are gone, or would be if it were not only shown.
    gone: BTreeSet<Vec<u8>>,
    /// Modules that were looked at.
    count: usize,
}

impl Session<'_, '_> {
    /// Unloads what several names stand for.
    pub(super) fn remove_all(&mut self, names: &[&OsStr]) -> Result<bool, Fatal> {
        let mut good = true;
        for name in names {
            good &= self.remove(name.as_bytes())?;
        }
        Ok(good)
    }

    fn remove(&mut self, name: &[u8]) -> Result<bool, Fatal> {
        let found = match self.modules.find(name) {
            Ok(found) => found,
            Err(_) => return self.give_up(&[b"Module ", name, b" not found."]),
        };
        for found in found {
            let holders = self.request.remove_holders;
            if !self.remove_one(&found.name, holders, false, &mut Removal::default())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Unloads a module: what was loaded softly after it, who uses it if that was asked for, itself, what it needed and
    /// nobody else does, what was loaded softly before it.
    fn remove_one(
        &mut self,
        name: &[u8],
        holders: bool,
        may_be_builtin: bool,
        removal: &mut Removal,
    ) -> Result<bool, Fatal> {
        removal.count += 1;
        let seen = removal.open.iter().any(|open| open == name) || removal.gone.contains(name);
        if removal.count > LIMIT || seen {
            return Ok(true);
        }
        removal.open.push(name.to_vec());
        let result = self.remove_with_company(name, holders, may_be_builtin, removal);
        removal.open.pop();
        result
    }

    fn remove_with_company(
        &mut self,
        name: &[u8],
        holders: bool,
        may_be_builtin: bool,
        removal: &mut Removal,
    ) -> Result<bool, Fatal> {
        let ignore = self.request.ignore_commands;
        let command = if ignore { None } else { self.modules.remove_command(name).cloned() };
        let asks_kernel = command.is_none() && !self.request.show_depends;
        if asks_kernel {
            match State::of(self.context, &self.modules, name) {
                State::Absent if self.request.first_time => {
                    return self.give_up(&[b"Module ", name, b" is not in kernel."]);
                }
                State::Absent => return Ok(true),
                State::Builtin if may_be_builtin => return Ok(true),
                State::Builtin => return self.give_up(&[b"Module ", name, b" is builtin."]),
                State::Live | State::Between => {}
            }
        }
        let (before, after): (Vec<Found>, Vec<Found>) =
            if ignore { (Vec::new(), Vec::new()) } else { self.soft(name) };
        for found in after.iter().rev() {
            self.remove_one(&found.name, false, true, removal)?;
        }
        if holders {
            let mut users = self.context.kernel.holders(name).unwrap_or_default();
            users.reverse();
            // kmod gives up at a holder that is held itself.
            for user in users {
                if !self.remove_one(&user, !self.follows_kmod(), true, removal)? {
                    return Ok(false);
                }
            }
        }
        // The last holder may have taken it along, as something that nobody needed any more.
        if !removal.gone.contains(name) && !self.remove_itself(name, command.as_ref(), holders)? {
            return Ok(false);
        }
        self.note_gone(name, removal);
        let needed =
            if command.is_some() { Vec::new() } else { self.modules.dependencies(name).unwrap_or_default() };
        for dependency in needed {
            let name = &dependency.name;
            let unused = references(self.context, name) == Some(0) && !removal.gone.contains(name);
            if unused && self.delete(name)? {
                self.note_gone(name, removal);
            }
        }
        for found in before.iter().rev() {
            self.remove_one(&found.name, false, true, removal)?;
        }
        Ok(true)
    }

    /// The module itself, by its command or by the kernel.
    fn remove_itself(
        &mut self,
        name: &[u8],
        command: Option<&Command>,
        holders: bool,
    ) -> Result<bool, Fatal> {
        if let Some(line) = command {
            if self.request.show {
                let command = super::shell::with_parameters(&line.command, b"");
                self.context.print(&[b"remove ", &command[..], b"\n"].concat());
            }
            return Ok(self.request.dry_run || self.run_command("remove", name, line, b"")?);
        }
        // Where holders are only said to be removed, the kernel still counts them.
        let counts = !(self.request.dry_run && holders && !self.follows_kmod());
        let asks_kernel = counts && !self.request.show_depends && self.request.wait.is_none();
        if asks_kernel && references(self.context, name).is_some_and(|count| count > 0) {
            let result = self.give_up(&[b"Module ", name, b" is in use."]);
            explain::refusal(self.context, explain::Attempt::Remove(name, Errno::EAGAIN));
            return result;
        }
        self.delete(name)
    }

    fn follows_kmod(&self) -> bool {
        self.modules.rules() == Rules::KMOD
    }

    /// kmod does not know what it did before.
    fn note_gone(&self, name: &[u8], removal: &mut Removal) {
        if !self.follows_kmod() {
            removal.gone.insert(name.to_vec());
        }
    }

    /// What the `softdep` lines of a module stand for: before it and after it.
    fn soft(&mut self, name: &[u8]) -> (Vec<Found>, Vec<Found>) {
        let (mut found, mut failed) = ([Vec::new(), Vec::new()], Vec::new());
        let (before, after) = self.modules.soft_dependencies(name);
        for (names, found) in [before, after].into_iter().zip(&mut found) {
            for name in names {
                match self.modules.find(name) {
                    Ok(modules) => found.extend(modules),
                    Err(LookupError::Unknown(_)) => {}
                    Err(_) => failed.push(name.to_vec()),
                }
            }
        }
        for name in failed {
            self.tell_soft_problem(&name);
        }
        found.into()
    }

    fn show_removal(&mut self, name: &[u8]) {
        if self.request.show {
            self.context.print(&[b"rmmod ", name, b"\n"].concat());
        }
    }

    /// Has the kernel unload a module.
    fn delete(&mut self, name: &[u8]) -> Result<bool, Fatal> {
        self.show_removal(name);
        if self.request.dry_run {
            return Ok(true);
        }
        let force = if self.request.flags.0.is_empty() { DeleteFlags::empty() } else { DeleteFlags::FORCE };
        let Ok(c_name) = CString::new(name) else { return Ok(false) };
        let until = self.request.wait.map(|wait| Instant::now() + wait);
        let mut pause = Duration::from_millis(1);
        let log = self.context.log_mark();
        let errno = loop {
            match self.context.kernel.delete_module(&c_name, DeleteFlags::NONBLOCK | force) {
                Ok(()) => return Ok(true),
                Err(Errno::EAGAIN) if until.is_some_and(|until| Instant::now() < until) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(100));
                }
                Err(errno) => break errno,
            }
        };
        let _ = log;
        self.context.error(&[b"could not remove '", name, b"': ", errno.text().as_bytes()]);
        explain::refusal(self.context, explain::Attempt::Remove(name, errno));
        Ok(false)
    }
}
