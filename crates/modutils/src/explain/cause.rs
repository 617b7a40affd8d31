//! Causes of refusals and their cures, each a line.

use std::fmt;

use lkm_module::Errno;

use super::shown::listed;
use super::symbols;
use super::symbols::Missing;

/// Why something was refused. [`fmt::Display`] is the line behind `cause:`, [`Cause::cure`] the one behind `try:`.
///
/// Names in it are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something is wrong with the file; the text says what.
    File(String),
    /// A name where a path is wanted.
    NameForPath(String),
    /// A directory of the path does not exist.
    NoDirectory(String),
    /// A link leads nowhere: to this.
    DanglingLink(String),
    /// The index lists a file that is not there: the file, its kernel's release.
    GoneFromDisk(String, String),
    /// Compressed in a way that neither this program nor the kernel undoes.
    Compression(&'static str),
    /// For another machine: the file's, the kernel's.
    Machine(String, String),
    /// An object file that is no module: no `struct module`.
    Object,
    /// No symbol table.
    Stripped,
    /// What the kernel's ELF checks object to.
    Elf(String),
    /// A section that is writable and executable.
    WriteExec(String),
    /// Common symbols.
    Common,
    /// A relocation that the kernel cannot do.
    Relocation,
    /// Built for another kernel: the module's vermagic, the kernel's.
    VersionMagic(String, String, Rebuild),
    /// It does not say what kernel it was built for.
    NoVersionMagic(Rebuild),
    /// Symbols have other CRCs than those that it was built against.
    Versions(Vec<String>, Rebuild),
    /// It has no CRCs for symbols.
    NoVersions(Vec<String>, Rebuild),
    /// Symbols that could not be had; the module's name if it is one of the kernel's own, which finds what it needs.
    Symbols(Vec<Missing>, Option<String>),
    /// A symbol of a namespace that it does not import.
    Namespace(String, String),
    /// A symbol of a proprietary module, together with GPL-only ones.
    Proprietary(String, String),
    /// It exports what this module, or `kernel`, exports already.
    Duplicate(String, String),
    /// The wait for this module, which was being loaded, was given up.
    GaveUp(String),
    /// A live patch.
    Livepatch,
    /// `module_blacklist=` on the kernel's command line names it.
    Blacklisted(String),
    /// `initcall_blacklist=` on the kernel's command line names a function.
    InitcallBlacklisted(String),
    /// Not signed, and the kernel insists; who makes it.
    Unsigned(Insists),
    /// Signed by a key that the kernel does not trust; the signer, if it says one.
    UnknownKey(Option<String>, Insists),
    /// Signed in a way that the kernel does not know.
    UnknownCrypto(Insists),
    /// The signature does not fit the file.
    BadSignature,
    /// What is wrong with the signature's form.
    DamagedSignature(String),
    /// Its hash is on a list of revoked ones.
    Revoked,
    /// A parameter for hardware, which lockdown forbids.
    LockedParameter,
    /// `kernel.modules_disabled` is set.
    Disabled,
    /// Not root.
    NotRoot(String),
    /// Root without `CAP_SYS_MODULE`.
    NoCapability,
    /// A module of that name is loaded; whether it is known to be another build.
    Loaded(String, Option<(String, String)>),
    /// A module of that name is being loaded or unloaded.
    InBetween(String),
    /// `/sys/module` has a directory of that name, of built-in code.
    Builtin(String),
    /// A value that a parameter does not take: name, value, type.
    Parameter(String, String, Option<String>),
    /// A value that is too large or too long for a parameter.
    ParameterRange(String, String, Option<String>),
    /// No parameter of that name; those that there are.
    NoParameter(String, Vec<String>),
    /// Open for writing.
    OpenForWriting,
    /// The kernel has no modules.
    NoModules,
    /// The kernel cannot unload modules.
    NoUnload,
    /// The init function returned an error; whether it must have been.
    Init(Errno, bool),
    /// The module that was tried is needed by the one that was asked for: its name, the other's, why.
    Dependency(String, String, Box<Cause>),
    /// Modules that use it.
    Holders(String, Vec<String>),
    /// References by other than modules; a place where a file system of that name is mounted.
    References(String, Option<String>),
    /// It has no exit function.
    Permanent,
    /// Nothing of that name is loaded; names that are alike.
    NotLoaded(Vec<String>),
    /// The directory of the running kernel's modules is missing: its path, and the releases that are there.
    NoRelease(String, Vec<String>),
    /// The same of another kernel.
    NoOtherRelease(String, Vec<String>),
    /// An index is missing: its path, the release.
    NoIndex(String, String),
    /// An index is damaged: path and text, the release.
    BadIndex(String, String),
    /// The file is there but no index lists it: its path, the release.
    NotIndexed(String, String),
    /// Only another release has the module.
    OtherRelease(String, String),
    /// No module serves a device.
    NoAlias,
    /// Nothing of that name; names that are alike.
    NoSuchName(Vec<String>),
    /// A command ended with an exit code: origin, code, module.
    CommandFailed(String, i32, String),
    /// A command was ended by a signal: origin, signal.
    CommandKilled(String, i32),
    /// A command could not be started: origin, why.
    CommandNotStarted(String, String),
    /// A command only serves to keep the module out: origin, module.
    CommandForbids(String, String),
    /// Forbidden by a line of the configuration: origin, module, who needs it.
    Denied(String, String, Option<String>),
}

/// How a module is built again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rebuild {
    /// The kernel's tree has one of its own, which this name loads.
    Own(String),
    /// The kernel's headers are here.
    Headers(String),
    /// The headers of this release are not installed.
    NoHeaders(String),
}

/// Who insists on signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insists {
    /// `module.sig_enforce`
    Enforced,
    /// Lockdown, as with Secure Boot.
    Lockdown,
}

impl fmt::Display for Insists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Insists::Enforced => "module.sig_enforce is on",
            Insists::Lockdown => "it is locked down, as with Secure Boot",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::File(text) | Cause::Elf(text) => f.write_str(text),
            Cause::NameForPath(name) => {
                write!(f, "a path is wanted here, and no file is called {name}")
            }
            Cause::NoDirectory(path) => write!(f, "there is no directory {path}"),
            Cause::DanglingLink(target) => write!(f, "it is a link to {target}, which is not there"),
            Cause::GoneFromDisk(path, _) => {
                write!(f, "{path} is not there, though the index of its directory lists it")
            }
            Cause::Compression(how) => write!(f, "the file is compressed by {how}, which is not used for modules"),
            Cause::Machine(file, kernel) => write!(f, "it is made for {file}, and this kernel is for {kernel}"),
            Cause::Object => {
                f.write_str("it is an object file that was not linked to a module: it has no struct module")
            }
            Cause::Stripped => f.write_str("it was stripped of its symbol table, which the kernel needs"),
            Cause::WriteExec(section) => {
                write!(f, "its section {section} is both writable and executable, which the kernel forbids")
            }
            Cause::Common => f.write_str("it has common symbols, which the kernel gives no memory"),
            Cause::Relocation => {
                f.write_str("it has a relocation that this kernel cannot do: other compiler flags, or damage")
            }
            Cause::VersionMagic(has, wants, _) => write!(f, "it was built for '{has}', and this kernel is '{wants}'"),
            Cause::NoVersionMagic(_) => {
                f.write_str("it does not say what kernel it was built for (no vermagic)")
            }
            Cause::Versions(symbols, _) if symbols.iter().any(|symbol| symbol == "module_layout") => f.write_str(
                "it was built against a kernel of another configuration or version (another struct module)",
            ),
            Cause::Versions(symbols, _) => {
                write!(f, "it was built against other versions of {}", listed(symbols))
            }
            Cause::NoVersions(symbols, _) => {
                write!(f, "it was built without symbol versions (no CRC of {})", listed(symbols))
            }
            Cause::Symbols(missing, _) => f.write_str(&symbols::text(missing)),
            Cause::Namespace(symbol, namespace) => {
                write!(f, "{symbol} is in the namespace {namespace}, which the module does not import")
            }
            Cause::Proprietary(symbol, owner) => write!(
                f,
                "it uses {symbol} of the proprietary module {owner} together with symbols for the GPL only"
            ),
            Cause::Duplicate(symbol, owner) if owner == "kernel" => {
                write!(f, "it exports {symbol}, which the kernel itself exports")
            }
            Cause::Duplicate(symbol, owner) => {
                write!(f, "it exports {symbol}, which the loaded module {owner} exports already")
            }
            Cause::GaveUp(module) => {
                write!(f, "it needs the module {module}, whose init function has not returned yet")
            }
            Cause::Livepatch => f.write_str("it is a live patch, which this kernel does not support"),
            Cause::Blacklisted(name) => {
                write!(f, "module_blacklist= on the kernel's command line names {name}")
            }
            Cause::InitcallBlacklisted(name) => {
                write!(f, "initcall_blacklist= on the kernel's command line names {name}")
            }
            Cause::Unsigned(insists) => {
                write!(f, "the module is not signed, and the kernel insists: {insists}")
            }
            Cause::UnknownKey(None, insists) => {
                write!(f, "the kernel does not know the key that the module is signed with, and insists: {insists}")
            }
            Cause::UnknownKey(Some(signer), insists) => write!(
                f,
                "the module is signed by '{signer}', whose key the kernel does not know, and it insists: {insists}"
            ),
            Cause::UnknownCrypto(insists) => {
                write!(f, "the signature is of a kind that the kernel does not know, and it insists: {insists}")
            }
            Cause::BadSignature => {
                f.write_str("the signature does not fit the file: it was changed after it was signed")
            }
            Cause::DamagedSignature(text) => write!(f, "the signature is damaged: {text}"),
            Cause::Revoked => f.write_str("this very file is on the kernel's list of revoked modules"),
            Cause::LockedParameter => {
                f.write_str("the kernel is locked down, and a parameter would give the hardware's addresses")
            }
            Cause::Disabled => {
                f.write_str("kernel.modules_disabled is 1: no module comes or goes until the next boot")
            }
            Cause::NotRoot(what) => write!(f, "only root may {what} modules (CAP_SYS_MODULE)"),
            Cause::NoCapability => {
                f.write_str("this process is root but without CAP_SYS_MODULE, as in a container")
            }
            Cause::Loaded(name, None) => write!(f, "the module {name} is loaded already"),
            Cause::Loaded(name, Some((loaded, file))) => write!(
                f,
                "another build of {name} is loaded already: its srcversion is {loaded}, the file's is {file}"
            ),
            Cause::InBetween(name) => write!(f, "the module {name} is just being loaded or unloaded"),
            Cause::Builtin(name) => write!(f, "{name} is part of the kernel itself"),
            Cause::Parameter(name, value, kind) => {
                write!(f, "the parameter {name}")?;
                if let Some(kind) = kind {
                    write!(f, ", of type {kind},")?;
                }
                write!(f, " does not take the value '{value}'")
            }
            Cause::ParameterRange(name, value, kind) => {
                write!(f, "the value '{value}' is too large for the parameter {name}")?;
                kind.as_ref().map_or(Ok(()), |kind| write!(f, ", of type {kind}"))
            }
            Cause::NoParameter(name, _) => write!(f, "the module has no parameter {name}"),
            Cause::OpenForWriting => f.write_str("the file is open for writing: it is being copied or linked"),
            Cause::NoModules => f.write_str("this kernel was built without modules (CONFIG_MODULES)"),
            Cause::NoUnload => {
                f.write_str("this kernel was built without the unloading of modules (CONFIG_MODULE_UNLOAD)")
            }
            Cause::Init(errno, certain) => {
                let name = errno.name().map(|name| format!(" ({name})")).unwrap_or_default();
                let number = errno.raw();
                if *certain {
                    write!(f, "the module's init function returned -{number}{name}")?;
                    init_hint(*errno).map_or(Ok(()), |hint| write!(f, ": {hint}"))
                } else {
                    write!(f, "the kernel itself had no objection: the module's init function returned -{number}{name}")
                }
            }
            Cause::Dependency(module, asked, cause) => write!(f, "{module}, which {asked} needs: {cause}"),
            Cause::Holders(_, holders) => {
                let verb = if holders.len() == 1 { "uses" } else { "use" };
                let noun = if holders.len() == 1 { "the module" } else { "the modules" };
                write!(f, "{noun} {} {verb} it", listed(holders))
            }
            Cause::References(_, Some(place)) => write!(f, "the file system at {place} is mounted with it"),
            Cause::References(count, None) => {
                let noun = if count == "1" { "reference" } else { "references" };
                write!(f, "{count} {noun} to it: an open device, a mount, a network interface or the like")
            }
            Cause::Permanent => f.write_str("it has no exit function: it was made to stay until the next boot"),
            Cause::NotLoaded(_) => f.write_str("no module of that name is in /proc/modules"),
            Cause::NoRelease(path, _) => {
                write!(f, "there is no directory {path}: the modules of this kernel are not installed")
            }
            Cause::NoOtherRelease(path, _) => write!(f, "there is no directory {path}"),
            Cause::NoIndex(path, _) => write!(f, "{path} is missing: depmod has not been run"),
            Cause::BadIndex(text, _) => f.write_str(text),
            Cause::NotIndexed(path, _) => write!(f, "{path} is there, but the index does not list it"),
            Cause::OtherRelease(name, release) => {
                write!(f, "{name} is among the modules of {release} only, another kernel than this one")
            }
            Cause::NoAlias => f.write_str("no module of this kernel serves that device"),
            Cause::NoSuchName(_) => f.write_str("no module, alias or built-in module has that name"),
            Cause::CommandFailed(origin, code, _) => {
                let hint = match code {
                    126 => ": it may not be executed",
                    127 => ": there is no such command",
                    _ => "",
                };
                write!(f, "the command of {origin} ended with exit code {code}{hint}")
            }
            Cause::CommandKilled(origin, signal) => {
                write!(f, "the command of {origin} was ended by signal {signal}")
            }
            Cause::CommandNotStarted(origin, why) => {
                write!(f, "the command of {origin} could not be started: {why}")
            }
            Cause::CommandForbids(origin, module) => {
                write!(f, "{origin} keeps {module} from being loaded: its command does nothing else")
            }
            Cause::Denied(origin, module, None) => write!(f, "{origin} denies {module}"),
            Cause::Denied(origin, module, Some(asked)) => {
                write!(f, "{origin} denies {module}, which {asked} needs")
            }
        }
    }
}

/// What an init function mostly means by an error.
fn init_hint(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ENODEV | Errno::ENXIO => "there is no device that it could drive",
        Errno::ENOMEM => "it found no memory",
        Errno::EBUSY => "something that it wants is in use already",
        Errno::EIO | Errno::ETIMEDOUT => "the device does not answer as it should",
        Errno::EOPNOTSUPP | Errno::ENOSYS => "the machine or the kernel lacks something",
        _ => return None,
    })
}

impl Cause {
    /// It is about who called or about the kernel as a whole, whatever the module.
    pub(crate) fn is_about_the_caller(&self) -> bool {
        match self {
            Cause::NotRoot(_) | Cause::NoCapability | Cause::Disabled | Cause::NoModules => true,
            Cause::Dependency(.., cause) => cause.is_about_the_caller(),
            _ => false,
        }
    }

    /// What to do about it.
    pub(crate) fn cure(&self) -> Option<String> {
        let text = |text: &str| Some(text.to_owned());
        match self {
            Cause::NameForPath(name) => Some(format!("modprobe {name}, which finds modules by their names")),
            Cause::GoneFromDisk(_, release) => Some(format!(
                "install the modules of {release} again, or run depmod {release} if it was removed on purpose"
            )),
            Cause::Compression(_) => text("unpack it first"),
            Cause::Machine(..) => text("build it for this kernel"),
            Cause::Object => text("name the .ko file that the kernel's build made beside it"),
            Cause::Stripped => text("build it again; strip --strip-debug is the most that a module bears"),
            Cause::Common => text("compile it with -fno-common"),
            Cause::WriteExec(_) => {
                text("build it with this kernel's own Makefiles, and without a linker script of its own")
            }
            Cause::VersionMagic(_, _, rebuild)
            | Cause::NoVersionMagic(rebuild)
            | Cause::Versions(_, rebuild)
            | Cause::NoVersions(_, rebuild) => Some(rebuild.text()),
            Cause::Symbols(_, Some(name)) => {
                Some(format!("modprobe {name}, which loads what it needs before it"))
            }
            Cause::Symbols(missing, None) => symbols::cure(missing),
            Cause::Namespace(_, namespace) => {
                Some(format!("MODULE_IMPORT_NS({namespace}) in its source, and build it again"))
            }
            Cause::Duplicate(_, owner) if owner != "kernel" => {
                Some(format!("rmmod {owner}: only one of the two can be loaded"))
            }
            Cause::GaveUp(_) | Cause::InBetween(_) => text("the same again a little later"),
            Cause::Blacklisted(_) | Cause::InitcallBlacklisted(_) => text("boot without it"),
            Cause::Unsigned(Insists::Lockdown) | Cause::UnknownKey(_, Insists::Lockdown) => text(
                "sign it with a key of yours and enrol that by mokutil --import, or boot without Secure Boot",
            ),
            Cause::Unsigned(_) | Cause::UnknownKey(..) | Cause::UnknownCrypto(_) => {
                text("sign it (scripts/sign-file of the kernel) with a key that the kernel trusts")
            }
            Cause::BadSignature => {
                text("sign it last: nothing may strip or change a module once it is signed")
            }
            Cause::DamagedSignature(_) => text("sign it again, or copy it again"),
            Cause::Disabled => text("reboot; sysctl.d or a boot script sets it"),
            Cause::NotRoot(_) => text("sudo"),
            Cause::NoCapability => text("do it on the host, or give the container CAP_SYS_MODULE"),
            Cause::Loaded(name, Some(_)) => Some(format!("rmmod {name} first")),
            Cause::Builtin(_) => {
                text("nothing: it works without being loaded; its parameters go on the kernel's command line")
            }
            Cause::Parameter(_, _, Some(kind)) | Cause::ParameterRange(_, _, Some(kind)) => accepted(kind),
            Cause::NoParameter(_, known) if known.is_empty() => text("it has none at all"),
            Cause::NoParameter(_, known) => Some(format!("one of {}", listed(known))),
            Cause::OpenForWriting => text("the same again when that is done; fuser -v shows who writes"),
            Cause::Dependency(.., cause) => cause.cure(),
            Cause::Holders(name, holders) => Some(format!("modprobe -r {} {name}", holders.join(" "))),
            Cause::References(_, Some(place)) => Some(format!("umount {place}")),
            Cause::References(_, None) => {
                text("close what uses it; fuser -v or lsof on its devices shows who does")
            }
            Cause::Permanent => {
                text("reboot; rmmod -f, on kernels that allow it, can bring the machine down")
            }
            Cause::NotLoaded(alike) | Cause::NoSuchName(alike) if !alike.is_empty() => {
                Some(format!("is it {}?", alike.join(" or ")))
            }
            Cause::NoRelease(_, releases) if releases.is_empty() => {
                text("install the modules of this kernel")
            }
            Cause::NoRelease(_, releases) => Some(format!(
                "reboot, if the kernel was updated: modules of {} are installed; or install those of this one",
                listed(releases)
            )),
            Cause::NoOtherRelease(_, releases) if !releases.is_empty() => {
                Some(format!("the modules of {} are installed", listed(releases)))
            }
            Cause::NoIndex(_, release) | Cause::BadIndex(_, release) | Cause::NotIndexed(_, release) => {
                Some(format!("depmod {release}"))
            }
            Cause::CommandFailed(_, _, module) => {
                Some(format!("modprobe --ignore-install {module} loads the module itself"))
            }
            Cause::CommandForbids(..) | Cause::Denied(..) => {
                text("take that line out of the configuration, if it is to be loaded")
            }
            _ => None,
        }
    }
}

impl Rebuild {
    fn text(&self) -> String {
        match self {
            Rebuild::Own(name) => format!("modprobe {name}, which takes the one that came with this kernel"),
            Rebuild::Headers(build) => format!("build it again: make -C {build} M=DIRECTORY modules"),
            Rebuild::NoHeaders(release) => {
                format!("install the headers of {release} (linux-headers-{release}) and build it again")
            }
        }
    }
}

/// What a parameter of a type takes, by the kernel's `param_ops`.
fn accepted(kind: &str) -> Option<String> {
    let (element, list) = match kind.strip_prefix("array of ") {
        Some(element) => (element, true),
        None => (kind, false),
    };
    let one = match element {
        "bool" | "invbool" | "bint" => "Y or N",
        "byte" => "a whole number from 0 to 255",
        "short" => "a whole number from -32768 to 32767",
        "ushort" => "a whole number from 0 to 65535",
        "int" => "a whole number from -2147483648 to 2147483647",
        "uint" | "hexint" => "a whole number from 0 to 4294967295",
        "long" | "llong" => "a whole number",
        "ulong" | "ullong" => "a whole number, not negative",
        "charp" => "a text of at most 1024 bytes",
        "string" => "a shorter text",
        _ => return None,
    };
    Some(if list {
        format!("{one}, several with commas between them and none around them")
    } else {
        one.to_owned()
    })
}
