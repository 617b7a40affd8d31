//! `modprobe`: loads and unloads modules by name with everything that goes with them.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use lkm_syscall::InitFlags;
use lkm_tree::lookup::Modules;
use lkm_tree::lookup::Rules;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::getopt::Opt;
use crate::getopt::Spec;

mod environment;
mod load;
mod remove;
mod shell;
mod show;
mod state;
mod why;

/// Keys of the options that have no letter.
const FIRST_TIME: u8 = 1;
const FORCE_MODVERSION: u8 = 2;
const FORCE_VERMAGIC: u8 = 3;
const SHOW_MODVERSIONS: u8 = 4;
const SHOW_EXPORTS: u8 = 5;
const REMOVE_HOLDERS: u8 = 6;
const STRICT: u8 = 8;
const WHY: u8 = 9;

pub(crate) const COMMAND: Command = Command {
    name: "modprobe",
    about: "load and unload modules with what they need",
    synopsis: &[
        "[options] [-i] [-b] modulename [name=value ...]",
        "[options] -a [-i] [-b] modulename ...",
        "[options] -r [-i] modulename ...",
        "[options] -D|-R|--why modulename",
        "[options] -c",
        "[options] --show-modversions|--show-exports modulename|filename",
    ],
    description: "Loads the modules that a name or an alias stands for, after those that they need, with the parameters that the
configuration in modprobe.d and the kernel's command line have for them. A name that starts with / or ./ is a file.

With MODPROBE_OPTIONS in the environment its words precede the arguments. Commands of install and remove lines find
there -C, -q, -s and -v as this modprobe got them, and the module in MODPROBE_MODULE. With MODUTILS_STYLE=kmod, or
--strict-kmod, only the first softdep line of a module counts, and a module with soft dependencies is not loaded by its
install line, both as in kmod.

Behind the message of a refusal stand lines that begin with two blanks: kernel: and what the kernel logged meanwhile,
cause: and why, try: and what to do about it. They are left out with --quiet and with MODUTILS_STYLE=kmod.

The exit code is 0 if everything was done or had been before, 1 otherwise.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[Spec] = &[
    Spec::flag(b'a', "all", "every argument is the name of a module to load"),
    Spec::flag(b'r', "remove", "unload modules instead"),
    Spec::flag(REMOVE_HOLDERS, "remove-holders", "with -r: also unload the modules that use them")
        .only_long(),
    Spec::flag(REMOVE_HOLDERS, "remove-dependencies", "").only_long(),
    Spec::with_value(b'w', "wait", "MSEC", "with -r: wait so long for a module that is in use"),
    Spec::flag(FIRST_TIME, "first-time", "fail if it is loaded, or unloaded, already").only_long(),
    Spec::flag(b'i', "ignore-install", "pass over install lines"),
    Spec::flag(b'i', "ignore-remove", "pass over remove lines").only_long(),
    Spec::flag(b'b', "use-blacklist", "blacklist lines count for names too, not only for\naliases"),
    Spec::flag(b'f', "force", "both of the following"),
    Spec::flag(FORCE_MODVERSION, "force-modversion", "load even if versions of symbols differ").only_long(),
    Spec::flag(FORCE_VERMAGIC, "force-vermagic", "load even if it was built for another kernel").only_long(),
    Spec::flag(b'D', "show-depends", "print what would be done for a load"),
    Spec::flag(b'R', "show-alias", "print the modules that a name stands for"),
    Spec::flag(b'R', "resolve-alias", "").only_long(),
    Spec::flag(WHY, "why", "tell which lines and indexes decide about a name").only_long(),
    Spec::flag(b'c', "show-config", "print the configuration and the aliases of all modules"),
    Spec::flag(b'c', "showconfig", "").only_long(),
    Spec::flag(SHOW_MODVERSIONS, "show-modversions", "print versions of the symbols that a module uses")
        .only_long(),
    Spec::flag(SHOW_MODVERSIONS, "dump-modversions", "").only_long(),
    Spec::flag(SHOW_EXPORTS, "show-exports", "print the symbols that a module exports").only_long(),
    Spec::flag(b'n', "dry-run", "do everything but change the kernel"),
    Spec::flag(b'n', "show", "").only_long(),
    Spec::with_value(
        b'C',
        "config",
        "PATH",
        "a file or directory in the place of modprobe.d; may be\ngiven several times",
    ),
    Spec::with_value(b'd', "dirname", "DIR", "the directory that lib/modules is in, instead of /"),
    Spec::with_value(
        b'S',
        "set-version",
        "VERSION",
        "the kernel's release, instead of that of the running one",
    ),
    Spec::flag(STRICT, "strict-kmod", "softdep and install lines mean what they do to kmod").only_long(),
    command::SYSLOG,
    Spec::flag(b'q', "quiet", "no messages"),
    command::VERBOSE,
    command::VERSION,
    command::HELP,
];

/// What the options ask for.
#[derive(Debug, Default)]
struct Request {
    remove: bool,
    remove_holders: bool,
    wait: Option<Duration>,
    all: bool,
    first_time: bool,
    ignore_commands: bool,
    use_blacklist: bool,
    flags: InitFlagsOrNone,
    show_depends: bool,
    lookup_only: bool,
    dry_run: bool,
    quiet: bool,
    /// Steps are printed.
    show: bool,
    /// `MODPROBE_OPTIONS` for the commands of `install` and `remove` lines.
    child_options: Option<OsString>,
}

/// Flags for the kernel, none unless asked for.
#[derive(Debug)]
struct InitFlagsOrNone(InitFlags);

impl Default for InitFlagsOrNone {
    fn default() -> Self {
        InitFlagsOrNone(InitFlags::empty())
    }
}

/// A fatal error, which has been printed: the command ends where it stands.
struct Fatal;

/// Prints something about a name instead of loading it.
type Show = fn(&mut Session<'_, '_>, &OsStr) -> Result<bool, Fatal>;

/// The command at work.
struct Session<'c, 'a> {
    context: &'c mut Context<'a>,
    modules: ManuallyDrop<Modules>,
    request: Request,
}

pub(crate) fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    run_with(context, args, std::env::var_os("MODPROBE_OPTIONS"))
}

/// The command with that value of `MODPROBE_OPTIONS`.
fn run_with(context: &mut Context<'_>, args: &[OsString], environment: Option<OsString>) -> u8 {
    let prepended;
    let args = match &environment {
        None => args,
        Some(options) => {
            prepended = [environment::words(options.as_bytes()), args.to_vec()].concat();
            &prepended
        }
    };
    let parsed = match COMMAND.parse(context, args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let mut request = Request::default();
    let mut child = environment::Children::new(environment);
    let mut show: Option<Show> = None;
    let mut show_config = false;
    let mut strict = context.strict;
    let (mut root, mut release, mut sources) = (None, None, Vec::new());
    for Opt { key, value } in parsed.options {
        match key {
            b'a' => request.all = true,
            b'r' => request.remove = true,
            REMOVE_HOLDERS => request.remove_holders = true,
            b'w' => match environment::number(value.as_bytes()) {
                Some(milliseconds) => request.wait = Some(Duration::from_millis(milliseconds)),
                None => {
                    context.error(&[b"unexpected wait value '", value.as_bytes(), b"'."]);
                    return 1;
                }
            },
            FIRST_TIME => request.first_time = true,
            b'i' => request.ignore_commands = true,
            b'b' => request.use_blacklist = true,
            b'f' => request.flags.0 |= InitFlags::IGNORE_MODVERSIONS | InitFlags::IGNORE_VERMAGIC,
            FORCE_MODVERSION => request.flags.0 |= InitFlags::IGNORE_MODVERSIONS,
            FORCE_VERMAGIC => request.flags.0 |= InitFlags::IGNORE_VERMAGIC,
            b'D' => {
                request.show_depends = true;
                request.dry_run = true;
                request.show = true;
            }
            b'R' => request.lookup_only = true,
            b'c' => show_config = true,
            SHOW_MODVERSIONS => show = Some(show::modversions),
            SHOW_EXPORTS => show = show.or(Some(show::exports)),
            WHY => show = Some(why::why),
            b'n' => request.dry_run = true,
            b'C' => {
                child.add(&[b"-C", value.as_bytes()]);
                sources.push(PathBuf::from(value));
            }
            b'd' => root = Some(value),
            b'S' => release = Some(value),
            b'q' => {
                child.add(&[b"-q"]);
                request.quiet = true;
            }
            STRICT => strict = true,
            _ => {}
        }
    }
    for letter in &parsed.messages {
        child.add(&[&[b'-', *letter]]);
    }
    request.show |= context.is_verbose() && !request.quiet;
    request.child_options = child.value();
    // The steps are for standard output; what the kernel is given is told only when it is asked for twice.
    context.set_info(parsed.messages.iter().filter(|letter| **letter == b'v').count() > 1);
    let Some((first, rest)) = parsed.operands.split_first().map_or_else(
        || show_config.then_some((OsStr::new(""), &[][..])),
        |(first, rest)| Some((*first, rest)),
    ) else {
        context.error(&[b"missing parameters. See -h."]);
        return 1;
    };
    if request.quiet {
        context.set_quiet();
    }
    let modules = open(context, root, release, &sources, strict);
    // The process ends soon: giving back what the configuration takes would cost more than all the rest of a look-up.
    let modules = ManuallyDrop::new(modules);
    let mut session = Session { context, modules, request };
    let result = if show_config {
        show::config(&mut session);
        Ok(true)
    } else if let Some(show) = show {
        show(&mut session, first)
    } else if session.request.remove {
        session.remove_all(&parsed.operands)
    } else if session.request.all {
        session.load_all(&parsed.operands)
    } else {
        session.load(first, &crate::insmod::join(rest))
    };
    u8::from(!result.unwrap_or(false))
}

/// The modules of the kernel in question; says what is wrong with the configuration.
fn open(
    context: &mut Context<'_>,
    root: Option<&OsStr>,
    release: Option<&OsStr>,
    sources: &[PathBuf],
    strict: bool,
) -> Modules {
    let release = release.map_or_else(|| OsString::from_vec(context.kernel.release()), OsStr::to_os_string);
    let directory = match root {
        Some(root) => {
            let mut path = Vec::new();
            if !root.is_empty() && !root.as_bytes().starts_with(b"/") {
                let here = std::env::current_dir().unwrap_or_default();
                path.extend_from_slice(here.as_os_str().as_bytes());
                path.push(b'/');
            }
            // The root's name is kept as it was written: it is part of what is printed.
            path.extend_from_slice(root.as_bytes());
            path.extend_from_slice(b"/lib/modules");
            PathBuf::from(OsString::from_vec(path))
        }
        None => PathBuf::from(context.module_root),
    };
    let command_line = context.kernel.kernel_file("/proc/cmdline").unwrap_or_default();
    let sources = (!sources.is_empty()).then_some(sources);
    let modules = Modules::open(directory.join(release), sources, &command_line);
    for problem in &modules.config().problems {
        context.error(&[problem.to_string().as_bytes()]);
    }
    modules.with_rules(if strict { Rules::KMOD } else { Rules::default() })
}

impl Session<'_, '_> {
    /// An error that ends the command; with `--all`, or as in kmod with `--quiet`, this name only.
    fn give_up(&mut self, parts: &[&[u8]]) -> Result<bool, Fatal> {
        if self.request.all || self.request.quiet {
            self.context.warning(parts);
            Ok(false)
        } else {
            self.context.fatal(parts);
            Err(Fatal)
        }
    }

    fn directory(&self) -> &Path {
        self.modules.directory()
    }
}

#[cfg(test)]
mod tests;
