//! Why a module was not loaded.

use std::path::Path;

use lkm_module::Errno;
use lkm_module::Module;
use lkm_module::elf::Class;
use lkm_module::elf::ElfFault;
use lkm_module::elf::consts::SHF_EXECINSTR;
use lkm_module::elf::consts::SHF_WRITE;
use lkm_module::elf::elf_validity_check;
use lkm_syscall::InitFlags;
use lkm_syscall::LogRecord;
use lkm_tree::file::FileError;
use lkm_tree::file::read_module;

use super::Load;
use super::cause::Cause;
use super::cause::Insists;
use super::file;
use super::parameters;
use super::said::Said;
use super::said::said;
use super::shown::shown;
use super::symbols::Missing;
use super::symbols::Why;
use super::system::System;
use super::system::machine_name;

/// The cause of a failed load: what the kernel logged if that is enough, else what can be found out.
pub(crate) fn cause(system: &System<'_>, load: &Load<'_>, log: Option<&[LogRecord]>) -> Option<Cause> {
    let cause = match load.log {
        Some(_) => asked(system, load, log),
        None => file::cause(load.path, load.errno, load.directory.map(|_| system)),
    };
    let cause = cause?;
    Some(match load.needed_by {
        // What keeps all modules out is not that one's fault.
        Some(asked) if !cause.is_about_the_caller() => {
            Cause::Dependency(name_of(load.path), shown(asked), Box::new(cause))
        }
        _ => cause,
    })
}

/// The name that a path stands for.
fn name_of(path: &Path) -> String {
    shown(&crate::module_name(crate::path::base_name(path.as_os_str().as_encoded_bytes())))
}

/// The kernel was asked and refused.
fn asked(system: &System<'_>, load: &Load<'_>, log: Option<&[LogRecord]>) -> Option<Cause> {
    // Who may not load at all is not asked for a file.
    if load.errno == Errno::EPERM
        && let Some(cause) = system.forbids("load")
    {
        return Some(cause);
    }
    let read = read_module(load.path);
    if let Err(FileError::Io(_)) = read {
        return file::cause(load.path, load.errno, load.directory.map(|_| system));
    }
    let (bytes, unreadable) = match &read {
        Ok(file) => (&file.bytes[..], None),
        Err(FileError::NotAModule(start)) => (&start[..], file::of_error(load.path, read.as_ref().err())),
        Err(_) => (&[][..], file::of_error(load.path, read.as_ref().err())),
    };
    let module = Module::parse(bytes).ok();
    let name = module.as_ref().and_then(Module::name);
    let about = Refused { system, load, bytes, module: module.as_ref(), name };
    let lines = log.unwrap_or(&[]).iter().flat_map(|record| record.text.split(|&byte| byte == b'\n'));
    let said: Vec<Said<'_>> = lines.filter_map(|line| said(line, name)).collect();
    // A file that is no module explains more than the first thing that the kernel noticed of it.
    let file_matters = matches!(load.errno, Errno::ENOEXEC | Errno::EINVAL | Errno::EFBIG | Errno::EISDIR);
    let unreadable = unreadable.filter(|_| file_matters);
    unreadable.or_else(|| about.logged(&said)).or_else(|| about.silent(log.is_some() && said.is_empty()))
}

/// A module that the kernel refused, and what is at hand to find out why.
struct Refused<'a> {
    system: &'a System<'a>,
    load: &'a Load<'a>,
    bytes: &'a [u8],
    module: Option<&'a Module<'a>>,
    name: Option<&'a [u8]>,
}

impl Refused<'_> {
    /// What the log tells.
    fn logged(&self, said: &[Said<'_>]) -> Option<Cause> {
        let rebuild = || self.system.rebuild(self.name, self.load.path);
        let names = |wanted: fn(&Said<'_>) -> Option<String>| {
            let names: Vec<String> = said.iter().filter_map(wanted).collect();
            (!names.is_empty()).then_some(names)
        };
        // Some causes are followed by lines about their consequences, so these come first.
        let disagreeing = names(|said| match said {
            Said::Disagrees(symbol) => Some(shown(symbol)),
            _ => None,
        });
        let unversioned = names(|said| match said {
            Said::NoVersion(symbol) => Some(shown(symbol)),
            _ => None,
        });
        let missing = || {
            let mut symbols: Vec<&[u8]> = Vec::new();
            for said in said {
                if let Said::UnknownSymbol(symbol, -2 | 0) = *said
                    && !symbols.contains(&symbol)
                {
                    symbols.push(symbol);
                }
            }
            symbols
        };
        match self.load.errno {
            Errno::ENOENT => {
                for said in said {
                    if let Said::Proprietary(symbol, owner) = said {
                        return Some(Cause::Proprietary(shown(symbol), shown(owner)));
                    }
                }
                let missing = missing();
                if !missing.is_empty() {
                    return Some(self.lacking(&missing));
                }
            }
            Errno::EINVAL | Errno::ENOEXEC => {
                if let Some(symbols) = disagreeing {
                    return Some(Cause::Versions(symbols, rebuild()));
                }
            }
            _ => {}
        }
        let cause = said.iter().find_map(|said| self.line(said));
        // A symbol without a CRC is accepted by most kernels, so it comes last.
        let unversioned = || match self.load.errno {
            Errno::EINVAL => unversioned.map(|symbols| Cause::NoVersions(symbols, rebuild())),
            _ => None,
        };
        let missing = || match missing().as_slice() {
            [] => None,
            symbols => Some(self.lacking(symbols)),
        };
        cause.or_else(unversioned).or_else(missing)
    }

    /// What one line tells that needs no others.
    fn line(&self, said: &Said<'_>) -> Option<Cause> {
        let insists = || self.system.insists().unwrap_or(Insists::Enforced);
        Some(match *said {
            Said::VersionMagic(has, wants) => {
                let rebuild = self.system.rebuild(self.name, self.load.path);
                Cause::VersionMagic(shown(has.trim_ascii()), shown(wants.trim_ascii()), rebuild)
            }
            Said::Namespace(symbol, namespace) => Cause::Namespace(shown(symbol), shown(namespace)),
            Said::Duplicate(symbol, owner) => Cause::Duplicate(shown(symbol), shown(owner)),
            Said::Blacklisted => Cause::Blacklisted(self.shown_name()),
            Said::Rejected(b"unsigned module") => Cause::Unsigned(insists()),
            Said::Rejected(b"module with unavailable key") => Cause::UnknownKey(self.signer(), insists()),
            Said::Rejected(_) => Cause::UnknownCrypto(insists()),
            Said::Lockdown(b"unsigned module loading") => match self.signer() {
                Some(signer) => Cause::UnknownKey(Some(signer), Insists::Lockdown),
                None => Cause::Unsigned(Insists::Lockdown),
            },
            Said::Lockdown(_) => Cause::LockedParameter,
            Said::Revoked => Cause::Revoked,
            Said::Livepatch => Cause::Livepatch,
            Said::InvalidFor(value, name) => {
                let kind = self.parameter_type(name);
                // Of a list the kernel shows what is left of it when it gives up.
                let given = parameters::value(self.load.parameters, name);
                let value = given.as_deref().map_or_else(|| shown(value), shown);
                match self.load.errno {
                    Errno::ERANGE => Cause::ParameterRange(shown(name), value, kind),
                    _ => Cause::Parameter(shown(name), value, kind),
                }
            }
            Said::TooLarge(value, name) => {
                Cause::ParameterRange(shown(name), shown(value), self.parameter_type(name))
            }
            Said::UnknownParameter(name) => Cause::NoParameter(shown(name), self.parameter_names()),
            Said::NameTaken => match self.load.errno {
                Errno::EINVAL => Cause::Builtin(self.shown_name()),
                _ => Cause::Loaded(self.shown_name(), None),
            },
            Said::GaveUp(owner) => Cause::GaveUp(shown(owner)),
            Said::WriteExec(section) => Cause::WriteExec(shown(section)),
            Said::Common => Cause::Common,
            Said::Stripped => Cause::Stripped,
            Said::NoModule => Cause::Object,
            Said::Architecture(machine) => {
                let class = self.module.map_or(Class::Elf64, |module| module.elf().class);
                Cause::Machine(machine_name(machine, class), shown(&self.system.kernel.machine()))
            }
            Said::Elf => self.elf().unwrap_or_else(|| {
                Cause::Elf("the file is damaged, or not what this kernel takes as a module".into())
            }),
            Said::Relocation => Cause::Relocation,
            Said::Decompression => Cause::File(
                "the kernel could not unpack the file: it is damaged, or compressed by another method".into(),
            ),
            Said::UnknownSymbol(..) | Said::Disagrees(_) | Said::NoVersion(_) | Said::Proprietary(..) => {
                return None;
            }
        })
    }

    /// What can be found out where the log says nothing. `clean` tells that it could be read and has no objection.
    fn silent(&self, clean: bool) -> Option<Cause> {
        let init = |certain| Some(Cause::Init(self.load.errno, certain));
        match self.load.errno {
            Errno::ENOSYS => Some(Cause::NoModules),
            Errno::ETXTBSY => Some(Cause::OpenForWriting),
            Errno::EPERM => self.forbidden().or(init(false)),
            Errno::EKEYREJECTED | Errno::ENOKEY | Errno::EBADMSG | Errno::ENOPKG | Errno::ENODATA => {
                self.signature()
            }
            Errno::ENOEXEC => self.format().or_else(|| init(false).filter(|_| clean)),
            Errno::EEXIST => self.exists().or(init(false)),
            Errno::EBUSY => self.in_between().or(init(false)),
            // Of a symbol that is missing there is always a line.
            Errno::ENOENT if clean => init(true),
            Errno::ENOENT => self.symbols().or_else(|| init(false)),
            Errno::EINVAL => self.invalid().or_else(|| init(false)),
            Errno::ERANGE | Errno::ENOSPC => self.parameters().or_else(|| init(false)),
            Errno::EFAULT
            | Errno::EFBIG
            | Errno::EINTR
            | Errno::EBADF
            | Errno::EISDIR
            | Errno::EOPNOTSUPP => None,
            Errno::ENOMEM => init(false),
            _ => init(true),
        }
    }

    fn shown_name(&self) -> String {
        self.name.map_or_else(|| name_of(self.load.path), shown)
    }

    /// The signer that the signature names.
    fn signer(&self) -> Option<String> {
        let signature = self.module?.signature().ok()??;
        Some(signature.signer().ok()?.issuer_cn.map(shown).unwrap_or_default())
            .filter(|name| !name.is_empty())
    }

    /// EPERM, and who asked is allowed to.
    fn forbidden(&self) -> Option<Cause> {
        if self.system.boot_list_has("module_blacklist", self.name?) {
            return Some(Cause::Blacklisted(self.shown_name()));
        }
        if self.system.insists() == Some(Insists::Lockdown) {
            return Some(match self.signer() {
                Some(signer) => Cause::UnknownKey(Some(signer), Insists::Lockdown),
                None => Cause::Unsigned(Insists::Lockdown),
            });
        }
        // The list has the function's own name; `init_module` is an alias of it.
        let module = self.module?;
        let init = module.symbols().find(|symbol| symbol.name == b"init_module")?;
        let place = (init.raw.value, init.raw.shndx);
        let listed = module.symbols().find(|symbol| {
            (symbol.raw.value, symbol.raw.shndx) == place
                && self.system.boot_list_has("initcall_blacklist", symbol.name)
        })?;
        Some(Cause::InitcallBlacklisted(shown(listed.name)))
    }

    /// The signature was not accepted.
    fn signature(&self) -> Option<Cause> {
        let insists = self.system.insists();
        match self.module?.signature() {
            Ok(None) => Some(Cause::Unsigned(insists.unwrap_or(Insists::Enforced))),
            Err(error) => Some(Cause::DamagedSignature(error.to_string())),
            Ok(Some(signature)) => match (self.load.errno, signature.signer()) {
                (Errno::ENOKEY, _) => {
                    Some(Cause::UnknownKey(self.signer(), insists.unwrap_or(Insists::Enforced)))
                }
                (_, Err(error)) => Some(Cause::DamagedSignature(error.to_string())),
                (Errno::ENOPKG, _) => Some(Cause::UnknownCrypto(insists.unwrap_or(Insists::Enforced))),
                (Errno::EBADMSG, _) => None,
                _ => Some(Cause::BadSignature),
            },
        }
    }

    /// ENOEXEC
    fn format(&self) -> Option<Cause> {
        if let Some(cause) = self.elf() {
            return Some(cause);
        }
        let module = self.module?;
        if module.symbol_table().is_none() {
            return Some(Cause::Stripped);
        }
        if module.elf().find_sec(b".gnu.linkonce.this_module").is_none() {
            return Some(Cause::Object);
        }
        if let Some(cause) = self.version_magic() {
            return Some(cause);
        }
        let flags = SHF_WRITE | SHF_EXECINSTR;
        let both = module.sections().find(|(_, section)| section.flags & flags == flags);
        if let Some((section, _)) = both {
            return Some(Cause::WriteExec(shown(section)));
        }
        self.versions(|symbol| symbol == b"module_layout")
    }

    /// What the checks of the ELF file object to.
    fn elf(&self) -> Option<Cause> {
        let (rules, machine) = self.system.elf_rules()?;
        let refusal = elf_validity_check(self.bytes, &rules).err()?;
        let own = self.module.map(|module| module.elf());
        Some(match (&refusal.fault, own) {
            (ElfFault::Arch(_) | ElfFault::SectionHeaderSize | ElfFault::Type(_), Some(elf))
                if elf.class != rules.class || matches!(refusal.fault, ElfFault::Arch(_)) =>
            {
                Cause::Machine(machine_name(elf.header.machine, elf.class), machine)
            }
            (ElfFault::Type(2 | 3), _) => Cause::Elf("it is a program or a library, not a module".into()),
            (ElfFault::SymtabCount { .. }, _) => Cause::Stripped,
            (ElfFault::ThisModuleCount { .. }, _) => Cause::Object,
            (ElfFault::SectionHeaderOverflow, _) => Cause::Elf(format!(
                "the file is cut short or damaged: its section headers should stand at byte {}, and it has {} bytes",
                lkm_module::elf::Header::read(self.bytes, rules.class, rules.endian)
                    .map_or(0, |header| header.shoff),
                self.bytes.len()
            )),
            (fault, _) => Cause::Elf(fault.to_string()),
        })
    }

    /// The vermagic against that of modules which came with the kernel, or its release.
    fn version_magic(&self) -> Option<Cause> {
        if self.load.flags.contains(InitFlags::IGNORE_VERMAGIC) {
            return None;
        }
        let rebuild = || self.system.rebuild(self.name, self.load.path);
        let Some(has) = self.module?.vermagic() else { return Some(Cause::NoVersionMagic(rebuild())) };
        let release = self.system.kernel.release();
        let (own_release, own_flags) = parts(has);
        let wants = self.system.samples(|module| {
            let magic = module.vermagic()?;
            (parts(magic).0 == release).then(|| magic.to_vec())
        });
        let differs = match &wants {
            // The release is not compared where symbol versions are.
            Some(wants) => {
                parts(wants).1 != own_flags || own_release != release && !self.module?.versions().has_basic()
            }
            None => own_release != release && !self.module?.versions().has_basic(),
        };
        let wants = wants.unwrap_or(release);
        differs.then(|| Cause::VersionMagic(shown(has.trim_ascii()), shown(wants.trim_ascii()), rebuild()))
    }

    /// Symbols whose CRCs differ from those that modules of this kernel were built against.
    fn versions(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Cause> {
        if self.load.flags.contains(InitFlags::IGNORE_MODVERSIONS) {
            return None;
        }
        let own = self.module?.versions();
        let differing = self.system.samples(|module| {
            let of_kernel = module.versions();
            let differing: Vec<String> = own
                .iter()
                .filter(|version| wanted(version.name))
                .filter(|version| of_kernel.get(version.name).is_some_and(|crc| crc != version.crc))
                .map(|version| shown(version.name))
                .collect();
            (!differing.is_empty()).then_some(differing)
        })?;
        Some(Cause::Versions(differing, self.system.rebuild(self.name, self.load.path)))
    }

    /// EEXIST
    fn exists(&self) -> Option<Cause> {
        let name = self.name?;
        self.system.state(name)?;
        let file = self.module?.srcversion();
        let loaded = self.system.kernel.module_attribute(name, "srcversion").ok();
        let differ = match (loaded, file) {
            (Some(loaded), Some(file)) if loaded != file => Some((shown(&loaded), shown(file))),
            _ => None,
        };
        Some(Cause::Loaded(shown(name), differ))
    }

    /// EBUSY
    fn in_between(&self) -> Option<Cause> {
        let name = self.name?;
        let state = self.system.state(name)?;
        (state != b"live").then(|| Cause::InBetween(shown(name)))
    }

    /// EINVAL
    fn invalid(&self) -> Option<Cause> {
        let name = self.name?;
        if self.system.kernel.has_module(name) && self.system.state(name).is_none() {
            return Some(Cause::Builtin(shown(name)));
        }
        self.parameters().or_else(|| self.versions(|symbol| symbol != b"module_layout"))
    }

    /// Parameters whose values do not fit their types.
    fn parameters(&self) -> Option<Cause> {
        let known = self.module?.parameters().ok()?;
        parameters::refused(self.load.parameters, &known)
    }

    fn parameter_type(&self, name: &[u8]) -> Option<String> {
        let known = self.module?.parameters().ok()?;
        let parameter = known.iter().find(|known| parameters::same_name(known.name, name))?;
        parameter.kind.map(shown)
    }

    fn parameter_names(&self) -> Vec<String> {
        let known = self.module.and_then(|module| module.parameters().ok());
        known.unwrap_or_default().iter().map(|parameter| shown(parameter.name)).collect()
    }

    /// ENOENT: the symbols that it needs and nobody has.
    fn symbols(&self) -> Option<Cause> {
        let imports = self.module?.imports();
        let needed: Vec<&[u8]> = imports
            .iter()
            .filter(|import| !import.weak && !import.name.is_empty())
            .map(|import| import.name)
            .collect();
        let (known, _) = self.system.symbols(&needed)?;
        let lacking: Vec<&[u8]> = needed.into_iter().filter(|name| !known.contains_key(*name)).collect();
        (!lacking.is_empty()).then(|| self.lacking(&lacking))
    }

    fn lacking(&self, symbols: &[&[u8]]) -> Cause {
        let name = self
            .name
            .filter(|name| self.load.directory.is_none() && self.system.is_own(name, self.load.path));
        Cause::Symbols(self.missing(symbols), name.map(shown))
    }

    /// Why each of these symbols could not be had.
    fn missing(&self, symbols: &[&[u8]]) -> Vec<Missing> {
        let known = self.system.symbols(symbols);
        let license = self.module.and_then(Module::license).unwrap_or(b"unspecified");
        let why = |symbol: &[u8]| {
            if let Some((found, shows_exports)) = &known
                && let Some(known) = found.get(symbol)
            {
                // What the index has is exported, whether kallsyms shows it or not.
                let listed = || {
                    known.owner.is_some() && self.system.providers(symbol).is_some_and(|by| !by.is_empty())
                };
                let exported = known.exported || listed();
                let unsure = !exported && (!shows_exports || known.owner.is_some());
                return match (is_gpl_compatible(license), exported, unsure) {
                    (false, true, _) => Why::GplOnly(known.owner.clone(), shown(license)),
                    (false, false, true) => Why::NotForThis(shown(license)),
                    (true, true, _) => Why::Unknown,
                    (_, false, _) => Why::NotExported(known.owner.clone()),
                };
            }
            match self.system.providers(symbol) {
                Some(modules) if !modules.is_empty() => Why::NotLoaded(modules),
                Some(_) => Why::Nowhere(shown(self.system.directory.as_os_str().as_encoded_bytes())),
                None if known.is_some() => {
                    let path = self.system.directory.join("modules.symbols.bin");
                    Why::NoIndex(shown(path.as_os_str().as_encoded_bytes()), self.system.release())
                }
                None => Why::Unknown,
            }
        };
        symbols.iter().map(|symbol| Missing { symbol: shown(symbol), why: why(symbol) }).collect()
    }
}

/// The release in a vermagic, and what follows it.
fn parts(magic: &[u8]) -> (&[u8], &[u8]) {
    let end = magic.iter().position(|&byte| byte == b' ').unwrap_or(magic.len());
    magic.split_at(end)
}

/// The kernel's `license_is_gpl_compatible`.
fn is_gpl_compatible(license: &[u8]) -> bool {
    const COMPATIBLE: [&[u8]; 6] =
        [b"GPL", b"GPL v2", b"GPL and additional rights", b"Dual BSD/GPL", b"Dual MIT/GPL", b"Dual MPL/GPL"];
    COMPATIBLE.contains(&license)
}
