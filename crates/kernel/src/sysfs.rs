//! `/sys/module`: the tree of files about loaded modules.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;

use crate::Host;
use crate::Kernel;
use crate::Module;
use crate::ModuleId;
use crate::Param;
use crate::Reason;
use crate::State;
use crate::params;
use crate::profile::Field;

/// What an entry of a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file with its mode.
    File(u16),
    /// A symbolic link with its target.
    Link(Vec<u8>),
}

/// An entry of a directory below `/sys/module`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysfsEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
}

fn directory(name: &str) -> SysfsEntry {
    SysfsEntry { name: name.into(), kind: EntryKind::Directory }
}

fn file(name: &[u8], mode: u16) -> SysfsEntry {
    SysfsEntry { name: name.to_vec(), kind: EntryKind::File(mode) }
}

/// Files that every module has, or has if modinfo says so.
const FILES: &[(&str, u16)] = &[
    ("uevent", 0o200),
    ("version", 0o444),
    ("srcversion", 0o444),
    ("initstate", 0o444),
    ("coresize", 0o444),
    ("initsize", 0o444),
    ("taint", 0o444),
    ("refcnt", 0o444),
];

/// Splits a path such as `hello/parameters/who` at its slashes.
fn parts(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect()
}

/// The directory name of a module: sysfs shows `/` as `!`.
fn directory_name(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&byte| if byte == b'/' { b'!' } else { byte }).collect()
}

impl Kernel {
    fn sysfs_module(&self, name: &[u8]) -> Option<&Module> {
        self.modules.iter().find(|module| module.in_sysfs && directory_name(&module.name) == name)
    }

    /// Lists a directory; the path is relative to `/sys/module`. `None`: there is no such directory.
    pub fn sysfs_list(&self, path: &[u8]) -> Option<Vec<SysfsEntry>> {
        let parts = parts(path);
        let Some((&name, rest)) = parts.split_first() else {
            let modules = self.modules.iter().filter(|module| module.in_sysfs);
            let entry = |module: &Module| SysfsEntry {
                name: directory_name(&module.name),
                kind: EntryKind::Directory,
            };
            return Some(modules.map(entry).collect());
        };
        let module = self.sysfs_module(name)?;
        match rest {
            [] => Some(self.module_directory(module)),
            [b"parameters"] => {
                let shown: Vec<_> = shown_params(module).map(|param| file(&param.name, param.perm)).collect();
                (!shown.is_empty()).then_some(shown)
            }
            [b"sections"] => {
                let mode = self.profile.rules.sections_mode;
                let shown = self.shown_sections(module)?;
                Some(shown.iter().map(|section| file(&section.name, mode)).collect())
            }
            [b"notes"] => {
                let notes: Vec<_> = module
                    .sections
                    .iter()
                    .filter(|section| section.note)
                    .map(|section| file(&section.name, 0o444))
                    .collect();
                (!notes.is_empty()).then_some(notes)
            }
            [b"holders"] => {
                let users = module.users.iter().filter_map(|&user| self.module(user));
                let link = |user: &Module| {
                    let name = directory_name(&user.name);
                    let mut target = b"../../".to_vec();
                    target.extend_from_slice(&name);
                    SysfsEntry { name, kind: EntryKind::Link(target) }
                };
                Some(users.map(link).collect())
            }
            _ => None,
        }
    }

    fn module_directory(&self, module: &Module) -> Vec<SysfsEntry> {
        let mut entries: Vec<_> = FILES
            .iter()
            .filter(|row| match row.0 {
                "version" => module.version.is_some(),
                "srcversion" => module.srcversion.is_some(),
                "refcnt" => self.profile.link.unload,
                _ => true,
            })
            .map(|row| file(row.0.as_bytes(), row.1))
            .collect();
        entries.push(directory("holders"));
        if shown_params(module).next().is_some() {
            entries.push(directory("parameters"));
        }
        if self.shown_sections(module).is_some() {
            entries.push(directory("sections"));
        }
        if module.sections.iter().any(|section| section.note) {
            entries.push(directory("notes"));
        }
        entries
    }

    /// The files of `sections`: none at all if two sections share a name, which a directory cannot show.
    fn shown_sections<'a>(&self, module: &'a Module) -> Option<Vec<&'a crate::ModuleSection>> {
        if !self.profile.link.kallsyms || duplicate_section(module).is_some() {
            return None;
        }
        let sections: Vec<_> = module.sections.iter().filter(|section| section.size > 0).collect();
        (!sections.is_empty()).then_some(sections)
    }

    /// Reads a file; the path is relative to `/sys/module`. Parameters of a module's own type run its code.
    pub fn sysfs_read<H: Host>(&mut self, host: &mut H, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let parts = parts(path);
        let (&name, rest) = parts.split_first().ok_or(Errno::EISDIR)?;
        let module = self.sysfs_module(name).ok_or(Errno::ENOENT)?;
        match *rest {
            [b"parameters", param] => {
                let param = find_param(module, param)?;
                if param.perm & 0o444 == 0 {
                    return Err(Errno::EACCES);
                }
                params::show(self, host, &param)
            }
            [b"sections", section] => {
                let shown = self.shown_sections(module).ok_or(Errno::ENOENT)?;
                let section =
                    shown.iter().find(|candidate| candidate.name == section).ok_or(Errno::ENOENT)?;
                Ok(format!("0x{}\n", self.shown_address(section.address)).into_bytes())
            }
            [b"notes", note] => {
                let notes = module.sections.iter().filter(|section| section.note);
                let note = notes.into_iter().find(|section| section.name == note).ok_or(Errno::ENOENT)?;
                let size = usize::try_from(note.size.min(module.core_size())).unwrap_or(0);
                let mut bytes = alloc::vec![0; size];
                host.read(note.address, &mut bytes)?;
                Ok(bytes)
            }
            [name] => attribute(self, module, name),
            [] => Err(Errno::EISDIR),
            _ => Err(Errno::ENOENT),
        }
    }

    /// Writes a parameter's file; the path is relative to `/sys/module`.
    pub fn sysfs_write<H: Host>(&mut self, host: &mut H, path: &[u8], text: &[u8]) -> Result<(), Errno> {
        let parts = parts(path);
        let (&name, rest) = parts.split_first().ok_or(Errno::EISDIR)?;
        let module = self.sysfs_module(name).ok_or(Errno::ENOENT)?;
        let id = module.id;
        match *rest {
            [b"parameters", param] => {
                let param = find_param(module, param)?;
                if param.perm & 0o222 == 0 {
                    return Err(Errno::EACCES);
                }
                params::store(self, host, id, &param, text)
            }
            [b"uevent"] => Ok(()),
            [_] if self.sysfs_read(host, path).is_ok() => Err(Errno::EACCES),
            _ => Err(Errno::ENOENT),
        }
    }

    /// `mod_sysfs_setup()`
    pub(crate) fn mod_sysfs_setup<H: Host>(&mut self, host: &mut H, id: ModuleId) -> Result<(), Reason> {
        let Some(module) = self.module(id) else { return Ok(()) };
        let name = Text(&module.name);
        if module.name.is_empty() {
            // The kernel shows a hashed pointer to the object.
            let width = 2 * self.profile.arch.class().pointer_size();
            let at = self.profile.module_struct.offset(Field::Mkobj).unwrap_or(0);
            let at = module.this_module.wrapping_add(at);
            self.warn(
                host,
                format_args!("kobject: ({at:0width$x}): attempted to be registered with empty name!"),
            );
            return Err(Reason::Sysfs { errno: Errno::EINVAL });
        }
        if host.has_builtin(&module.name) || self.sysfs_module(&directory_name(&module.name)).is_some() {
            host.log(Level::Err, format_args!("{name}: module is already loaded"));
            return Err(Reason::Sysfs { errno: Errno::EINVAL });
        }
        if let Some(section) = duplicate_section(module).filter(|_| self.profile.link.kallsyms) {
            host.log(
                Level::Warning,
                format_args!(
                    "sysfs: cannot create duplicate filename '/module/{name}/sections/{}'",
                    Text(section)
                ),
            );
            host.dump_stack(self);
            if self.profile.rules.duplicate_section_fatal {
                return Err(Reason::Sysfs { errno: Errno::EEXIST });
            }
        }
        if let Some(module) = self.module_mut(id) {
            module.in_sysfs = true;
        }
        Ok(())
    }
}

/// The first section name that occurs twice among the shown ones.
fn duplicate_section(module: &Module) -> Option<&[u8]> {
    let mut names = BTreeSet::new();
    let shown = module.sections.iter().filter(|section| section.size > 0);
    shown.map(|section| section.name.as_slice()).find(|&name| !names.insert(name))
}

/// Parameters that have a file: a mode, and no earlier one of the same name.
fn shown_params(module: &Module) -> impl Iterator<Item = &Param> {
    module.params.iter().filter(|param| param.perm != 0)
}

fn find_param(module: &Module, name: &[u8]) -> Result<Param, Errno> {
    shown_params(module).find(|param| param.name == name).cloned().ok_or(Errno::ENOENT)
}

/// A file of the module's own directory.
fn attribute(kernel: &Kernel, module: &Module, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let line = |text: &[u8]| [text, b"\n"].concat();
    let number = |number: i64| format!("{number}\n").into_bytes();
    Ok(match name {
        b"version" => line(module.version.as_ref().ok_or(Errno::ENOENT)?),
        b"srcversion" => line(module.srcversion.as_ref().ok_or(Errno::ENOENT)?),
        b"initstate" if module.state != State::Unformed => line(module.state.initstate().as_bytes()),
        b"coresize" => number(module.core_size() as i64),
        b"initsize" => number(module.init_size() as i64),
        b"taint" => line(module.taints.letters(kernel.profile.rules.taint_order).as_bytes()),
        b"refcnt" if kernel.profile.link.unload => number(i64::from(module.refcount())),
        b"uevent" => return Err(Errno::EACCES),
        _ => return Err(Errno::ENOENT),
    })
}
