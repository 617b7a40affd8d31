//! `depmod`: makes the indexes by which modules are looked up.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;
use lkm_tree::depmod::DIRECTORIES;
use lkm_tree::depmod::Depmod;
use lkm_tree::depmod::DepmodError;
use lkm_tree::depmod::KernelSymbols;
use lkm_tree::depmod::Note;
use lkm_tree::depmod::Observer;
use lkm_tree::depmod::Rules;
use lkm_tree::depmod::Severity;
use lkm_tree::depmod::StoreError;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::explain;
use crate::getopt::Opt;
use crate::getopt::Spec;

mod check;
mod progress;

use progress::Progress;

pub(crate) const COMMAND: Command = Command {
    name: "depmod",
    about: "make the indexes of modules",
    synopsis: &["-[aA] [options] [forced_version]", "[-n -e -v] [options] forced_version filename ..."],
    description: "Reads the modules of a kernel and writes, beside them, the indexes that modprobe and others look modules up in: which
needs which, by which names of hardware each is asked for, which symbols each has. Without a version it is the
running kernel; without filenames all modules below /lib/modules/VERSION are taken.

If no options are given, -a is assumed.

The new indexes replace the old ones when all of them are complete, so that a look-up at that moment, or a depmod that
is killed, finds each file either old or new. If something cannot be written nothing is replaced and the exit code is 1.

What was read of each module is kept in modules.lkm-cache.bin unless --basedir or --outdir is given, and the next
run reads only modules that changed. The file may be removed at any time.

If there are several modules of one name, lines in /etc/depmod.d/*.conf tell which counts; see depmod.d(5).",
    options: OPTIONS,
    run,
};

/// Keys of options that have only a long form.
const CHECK: u8 = 1;
const JSON: u8 = 2;
const CACHE: u8 = 3;
const NO_CACHE: u8 = 4;
const SYNC: u8 = 5;
const DRY_RUN: u8 = 6;
const UNRESOLVED_ERROR: u8 = 7;
const QUIET: u8 = 8;
const ROOT: u8 = 9;
const MAP: u8 = 10;

const OPTIONS: &[Spec] = &[
    Spec::flag(b'a', "all", "probe all modules"),
    Spec::flag(b'A', "quick", "only do the work if there is a new module"),
    Spec::flag(b'e', "errsyms", "report symbols that nobody supplies; needs -E or -F"),
    Spec::flag(b'n', "show", "write the text indexes to standard output only"),
    Spec::flag(DRY_RUN, "dry-run", "the same").only_long(),
    Spec::with_value(b'P', "symbol-prefix", "CHAR", "what the architecture puts before symbols"),
    Spec::with_value(
        b'C',
        "config",
        "PATH",
        "read configuration from this file or directory;\nmay be repeated",
    ),
    command::VERBOSE,
    Spec::flag(b'w', "warn", "warn of duplicates"),
    command::VERSION,
    command::HELP,
    Spec::with_value(b'b', "basedir", "DIR", "work on the tree below this directory"),
    Spec::with_value(b'm', "moduledir", "DIR", "where kernels have their modules, /lib/modules"),
    Spec::with_value(b'o', "outdir", "DIR", "write the indexes below this directory"),
    Spec::with_value(b'F', "filesyms", "FILE", "take the kernel's symbols from this System.map"),
    Spec::with_value(
        b'E',
        "symvers",
        "FILE",
        "take the kernel's symbols and their versions\nfrom this Module.symvers",
    ),
    Spec::flag(CHECK, "check", "tell whether the indexes are current: exit code 0,\nor 1 and what is not")
        .only_long(),
    Spec::flag(JSON, "json", "print the answer of --check as JSON").only_long(),
    Spec::flag(CACHE, "cache", "keep what was read for next time, with -b or -o too").only_long(),
    Spec::flag(NO_CACHE, "no-cache", "read every module, and keep nothing for next time").only_long(),
    Spec::flag(SYNC, "sync", "wait until the new indexes are on the disk before\nthey replace the old ones")
        .only_long(),
    Spec::flag(b'u', "", ""),
    Spec::flag(UNRESOLVED_ERROR, "unresolved-error", "").only_long(),
    Spec::flag(b'q', "", ""),
    Spec::flag(QUIET, "quiet", "").only_long(),
    Spec::flag(b'r', "", ""),
    Spec::flag(ROOT, "root", "").only_long(),
    Spec::flag(MAP, "map", "").only_long(),
];

/// What the options say.
#[derive(Default)]
struct Request<'a> {
    all: bool,
    quick: bool,
    show: bool,
    unresolved: bool,
    duplicates: bool,
    check: bool,
    json: bool,
    cache: Option<bool>,
    durable: bool,
    base: Option<PathBuf>,
    module_directory: Option<&'a OsStr>,
    output: Option<PathBuf>,
    config: Vec<PathBuf>,
    system_map: Option<&'a Path>,
    symvers: Option<&'a Path>,
    prefix: Option<u8>,
    verbose: usize,
}

fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let parsed = match COMMAND.parse(context, args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let verbose = parsed.messages.len();
    context.set_info(verbose > 1);
    let mut request = Request { verbose, ..Request::default() };
    for option in &parsed.options {
        if let Err(code) = request.add(context, option) {
            return code;
        }
    }
    match request.carry_out(context, &parsed.operands) {
        Ok(code) | Err(code) => code,
    }
}

impl<'a> Request<'a> {
    fn add(&mut self, context: &mut Context<'_>, option: &Opt<'a>) -> Result<(), u8> {
        let value = option.value;
        match option.key {
            b'a' => self.all = true,
            b'A' => self.quick = true,
            b'e' => self.unresolved = true,
            b'n' | DRY_RUN => self.show = true,
            b'P' => match value.as_bytes() {
                [] => self.prefix = None,
                [prefix] => self.prefix = Some(*prefix),
                _ => {
                    context.fatal(&[b"-P only takes a single char"]);
                    return Err(1);
                }
            },
            b'C' => self.config.push(value.into()),
            b'w' => self.duplicates = true,
            b'b' => self.base = Some(absolute(context, value)?),
            b'm' => self.module_directory = Some(value),
            b'o' => self.output = Some(absolute(context, value)?),
            b'F' => self.system_map = Some(Path::new(value)),
            b'E' => self.symvers = Some(Path::new(value)),
            CHECK => self.check = true,
            JSON => self.json = true,
            CACHE => self.cache = Some(true),
            NO_CACHE => self.cache = Some(false),
            SYNC => self.durable = true,
            key @ (b'u' | b'q' | b'r') => {
                context.warning(&[b"Ignored deprecated option -", &[key]]);
            }
            key => {
                let long = OPTIONS.iter().find(|spec| spec.key == key).map_or("", |spec| spec.long);
                context.warning(&[b"Ignored deprecated option --", long.as_bytes()]);
            }
        }
        Ok(())
    }

    /// `BASE/lib/modules/RELEASE`.
    fn directory(&self, context: &Context<'_>, base: Option<&Path>, release: &[u8]) -> PathBuf {
        let base = base.map_or(&b""[..], |base| base.as_os_str().as_bytes());
        let middle = match self.module_directory {
            Some(directory) if directory.as_bytes().starts_with(b"/") => directory.as_bytes().to_vec(),
            Some(directory) => [b"/", directory.as_bytes()].concat(),
            None if base.is_empty() => context.module_root.as_bytes().to_vec(),
            None => b"/lib/modules".to_vec(),
        };
        PathBuf::from(OsStr::from_bytes(&[base, &middle, b"/", release].concat()))
    }

    fn carry_out(mut self, context: &mut Context<'_>, operands: &[&OsStr]) -> Result<u8, u8> {
        let (release, files) = match operands.split_first() {
            Some((version, files)) if is_version(version.as_bytes()) => (version.as_bytes().to_vec(), files),
            Some((other, _)) => {
                context.error(&[b"Bad version passed ", other.as_bytes()]);
                return Err(1);
            }
            None => (context.kernel.release(), &[][..]),
        };
        self.all |= files.is_empty();
        let mut depmod = Depmod::new(self.directory(context, self.base.as_deref(), &release));
        depmod.output = self.output.as_deref().map(|output| self.directory(context, Some(output), &release));
        if self.quick {
            if self.show {
                return Ok(0);
            }
            match depmod.is_quickly_current() {
                Ok(true) => return Ok(0),
                Ok(false) => {}
                Err(note) => context.error(&[note.to_string().as_bytes()]),
            }
            self.all = true;
        }
        depmod.symbol_prefix = self.prefix;
        depmod.kernel = self.kernel_symbols(context)?;
        if self.unresolved && depmod.kernel.is_none() {
            context.warning(&[b"-e needs -E or -F"]);
            self.unresolved = false;
        }
        depmod.unresolved = self.unresolved;
        depmod.duplicates = self.duplicates;
        depmod.needs = self.verbose > 0;
        depmod.durable = self.durable;
        let is_live = self.base.is_none() && self.output.is_none();
        depmod.cache = self.cache.unwrap_or(is_live && self.all && !self.show);
        if self.all {
            let sources = if self.config.is_empty() {
                DIRECTORIES.iter().map(PathBuf::from).collect()
            } else {
                std::mem::take(&mut self.config)
            };
            depmod.rules = Rules::read(&sources, &release, &mut |note| tell(context, &note));
        } else {
            for file in files {
                if !file.as_bytes().starts_with(b"/") {
                    context.fatal(&[file.as_bytes(), b": not absolute path."]);
                    return Err(1);
                }
            }
            depmod.modules = Some(files.iter().map(PathBuf::from).collect());
        }
        self.work(context, &depmod)
    }

    fn kernel_symbols(&self, context: &mut Context<'_>) -> Result<Option<KernelSymbols>, u8> {
        let Some(path) = self.symvers.or(self.system_map) else { return Ok(None) };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) => {
                let path = path.as_os_str().as_bytes();
                context.fatal(&[b"could not load ", path, b": ", errno_text(&error).as_bytes()]);
                return Err(1);
            }
        };
        let note = &mut |note| tell(context, &note);
        Ok(Some(match self.symvers {
            Some(path) => KernelSymbols::from_symvers(path, &text, note),
            None => KernelSymbols::from_system_map(path, &text, self.prefix, note),
        }))
    }

    fn work(&self, context: &mut Context<'_>, depmod: &Depmod) -> Result<u8, u8> {
        if self.check {
            let result = depmod.check(&mut Listener::new(context));
            let check = result.map_err(|error| fail(context, &error))?;
            check::show(context, &check, self.json);
            return Ok(u8::from(!check.is_current()));
        }
        if self.show {
            let result = depmod.texts(&mut Listener::new(context));
            let indexes = result.map_err(|error| fail(context, &error))?;
            // An index that kmod 30 does not know is shown where there is something in it.
            let is_shown = |name: &str, bytes: &[u8]| {
                name != "modules.weakdep"
                    || bytes.split(|byte| *byte == b'\n').nth(1).is_some_and(|line| !line.is_empty())
            };
            for file in indexes.files.iter().filter(|file| file.is_text() && is_shown(file.name, &file.bytes))
            {
                context.print(&file.bytes);
            }
            return Ok(0);
        }
        if let Some(output) = &depmod.output
            && let Err(error) = std::fs::create_dir_all(output)
        {
            let path = output.as_os_str().as_bytes();
            context.fatal(&[b"could not create directory ", path, b": ", errno_text(&error).as_bytes()]);
            return Err(1);
        }
        let result = depmod.update(&mut Listener::new(context));
        let summary = result.map_err(|error| fail(context, &error))?;
        let counts = [summary.modules, summary.modules - summary.cached, summary.written];
        let [modules, read, written] = counts.map(|count| count.to_string());
        context.info(&[
            modules.as_bytes(),
            b" modules, ",
            read.as_bytes(),
            b" read, ",
            written.as_bytes(),
            b" files written",
        ]);
        Ok(0)
    }
}

/// A path as it is from the root.
fn absolute(context: &mut Context<'_>, path: &OsStr) -> Result<PathBuf, u8> {
    let path = Path::new(path);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    match std::env::current_dir() {
        Ok(directory) => Ok(directory.join(path)),
        Err(error) => {
            context.fatal(&[b"the current directory is not known: ", errno_text(&error).as_bytes()]);
            Err(1)
        }
    }
}

fn errno_text(error: &std::io::Error) -> &'static str {
    let number = error.raw_os_error().and_then(|number| u16::try_from(number).ok());
    number.map_or("Input/output error", |number| Errno::from_raw(number).text())
}

/// Whether text starts as `6.1` does, which is all that a kernel release has to.
fn is_version(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let major = digits(text);
    let minor = text.get(major..).and_then(|rest| rest.strip_prefix(b".")).map_or(0, digits);
    major > 0 && minor > 0
}

/// Says why there are no indexes, where an [`Observer`] was not told already. Gives the exit code.
fn fail(context: &mut Context<'_>, error: &DepmodError) -> u8 {
    let text = error.to_string();
    match error {
        DepmodError::Cycles => {}
        DepmodError::Store(StoreError::Create(..) | StoreError::Write(..)) => {
            context.error(&[text.as_bytes()]);
            context.detail("effect", "no index was replaced");
        }
        _ => context.fatal(&[text.as_bytes()]),
    }
    1
}

/// Prints a note as kmod does.
fn tell(context: &mut Context<'_>, note: &Note) {
    let text = note.to_string();
    if let Note::Needs(..) = note {
        context.print(&[text.as_bytes(), b"\n"].concat());
        return;
    }
    match note.severity() {
        Severity::Error => context.error(&[text.as_bytes()]),
        Severity::Warning => context.warning(&[text.as_bytes()]),
        Severity::Info => context.info(&[text.as_bytes()]),
    }
    if let Note::Unreadable(path, errno) = note {
        explain::refusal(context, explain::Attempt::Read(path, *errno));
    }
}

/// Passes on what happens.
struct Listener<'a, 'b> {
    context: &'a mut Context<'b>,
    progress: Progress,
}

impl<'a, 'b> Listener<'a, 'b> {
    fn new(context: &'a mut Context<'b>) -> Listener<'a, 'b> {
        Listener { context, progress: Progress::new() }
    }
}

impl Observer for Listener<'_, '_> {
    fn note(&mut self, note: Note) {
        self.progress.clear(self.context);
        tell(self.context, &note);
    }

    fn progress(&mut self, done: usize, total: usize) {
        self.progress.show(self.context, done, total);
    }
}
