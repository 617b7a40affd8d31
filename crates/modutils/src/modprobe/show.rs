//! What is printed instead of loading: the configuration, versions of symbols, exports.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;
use lkm_module::Module;
use lkm_module::elf::Elf;
use lkm_module::elf::ElfError;
use lkm_tree::file::FileError;
use lkm_tree::file::read_module;
use lkm_tree::lookup::IndexFile;

use super::Fatal;
use super::Session;
use crate::Context;

/// Bytes of the longest magic number of a compressed file: what has fewer is nothing.
const SHORTEST: usize = 6;

/// The configuration and the aliases of all modules, all in the language of modprobe.d.
pub(super) fn config(session: &mut Session<'_, '_>) {
    let Session { context, modules, .. } = session;
    let config = modules.config();
    let mut line = |parts: &[&[u8]]| context.print(&[&parts.join(&b' ')[..], b"\n"].concat());
    for entry in &config.blacklist {
        line(&[b"blacklist", &entry.module]);
    }
    for entry in &config.deny {
        line(&[b"deny", &entry.pattern]);
    }
    for entry in &config.install {
        line(&[b"install", &entry.pattern, &entry.command]);
    }
    for entry in &config.remove {
        line(&[b"remove", &entry.pattern, &entry.command]);
    }
    for entry in &config.aliases {
        line(&[b"alias", &entry.pattern, &entry.module]);
    }
    for entry in &config.options {
        line(&[b"options", &entry.module, &entry.options]);
    }
    for entry in &config.soft_dependencies {
        // As kmod prints it, without a blank before `post:`.
        let mut text = Vec::new();
        for (title, names) in
            [(&b"pre: "[..], entry.before().collect::<Vec<_>>()), (b"post: ", entry.after().collect())]
        {
            if !names.is_empty() {
                text.extend_from_slice(title);
                text.extend_from_slice(&names.join(&b' '));
            }
        }
        line(&[b"softdep", &entry.pattern, &text]);
    }
    for entry in &config.weak_dependencies {
        line(&[b"weakdep", &entry.pattern, &entry.names().collect::<Vec<_>>().join(&b' ')]);
    }
    context.print(b"\n# End of configuration files. Dumping indexes now:\n\n");
    for index in [IndexFile::Aliases, IndexFile::Symbols] {
        let _ = modules.for_each(index, |key, value| print_alias(context, key, value));
    }
}

fn print_alias(context: &mut Context<'_>, key: &[u8], value: &[u8]) {
    for part in [b"alias ", key, b" ", value, b"\n"] {
        context.print(part);
    }
}

/// Versions of the symbols that a module uses.
pub(super) fn modversions(session: &mut Session<'_, '_>, name: &OsStr) -> Result<bool, Fatal> {
    let file = session.read(name, b"modversions")?;
    let versions = match parse(&file) {
        Ok(module) if module.versions().has_basic() || module.versions().has_extended() => module.versions(),
        Ok(_) => return Err(session.no_symbols(name, b"modversions", Errno::ENOENT)),
        Err(errno) => return Err(session.no_symbols(name, b"modversions", errno)),
    };
    for version in versions.iter() {
        session.print_symbol(version.crc, version.name);
    }
    Ok(true)
}

/// The symbols that a module exports, with their versions.
pub(super) fn exports(session: &mut Session<'_, '_>, name: &OsStr) -> Result<bool, Fatal> {
    let file = session.read(name, b"symbols")?;
    let module = match parse(&file) {
        Ok(module) => module,
        Err(errno) => return Err(session.no_symbols(name, b"symbols", errno)),
    };
    let exports = module.exports().unwrap_or_default();
    let crcs: BTreeMap<&[u8], u32> =
        exports.iter().map(|export| (export.name, export.crc.unwrap_or(0))).collect();
    // kmod goes by the symbols that hold versions; only without those it takes the names in the table of exports.
    let versioned = module.symbols().filter_map(|symbol| symbol.name.strip_prefix(b"__crc_"));
    let mut versioned = versioned.filter_map(|name| Some((name, *crcs.get(name)?))).peekable();
    if versioned.peek().is_some() {
        versioned.for_each(|(name, crc)| session.print_symbol(crc.into(), name));
    } else if exports.is_empty() {
        return Err(session.no_symbols(name, b"symbols", Errno::ENOENT));
    } else {
        exports.iter().for_each(|export| session.print_symbol(0, export.name));
    }
    Ok(true)
}

fn parse(file: &[u8]) -> Result<Module<'_>, Errno> {
    let elf = Elf::parse(file).map_err(|error| match error {
        _ if file.len() < SHORTEST => Errno::EINVAL,
        ElfError::Magic | ElfError::Ident => Errno::ENOEXEC,
        ElfError::Truncated | ElfError::SectionHeaderSize | ElfError::SectionHeaders => Errno::EINVAL,
    })?;
    Ok(Module::new(elf))
}

impl Session<'_, '_> {
    /// The bytes of a module that is named by its file or its name.
    fn read(&mut self, name: &OsStr, what: &[u8]) -> Result<Vec<u8>, Fatal> {
        let Some(path) = self.file_of(name) else {
            self.context.fatal(&[b"Module ", name.as_bytes(), b" not found."]);
            return Err(Fatal);
        };
        match read_module(&path) {
            Ok(file) => Ok(file.bytes),
            // The start of the file is enough to tell what is wrong with it.
            Err(FileError::NotAModule(start)) => Ok(start),
            Err(FileError::Directory) => Err(self.no_symbols(name, what, Errno::EISDIR)),
            Err(error) => Err(self.no_symbols(name, what, error.errno())),
        }
    }

    fn file_of(&self, name: &OsStr) -> Option<PathBuf> {
        let path = Path::new(name);
        if path.exists() {
            return Some(path.to_owned());
        }
        let found = self.modules.find(name.as_bytes()).ok()?;
        self.modules.file(&found.first()?.name).ok()
    }

    fn no_symbols(&mut self, name: &OsStr, what: &[u8], errno: Errno) -> Fatal {
        let text = errno.text().as_bytes();
        self.context.fatal(&[b"could not get ", what, b" of ", name.as_bytes(), b": ", text]);
        Fatal
    }

    fn print_symbol(&mut self, crc: u64, name: &[u8]) {
        self.context.print(&[format!("{crc:#010x}\t").as_bytes(), name, b"\n"].concat());
    }
}
