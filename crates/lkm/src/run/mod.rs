//! `lkm run`: a module through the whole loader into an embedded kernel, and back out of it.

mod faults;
mod recorder;
mod render;
pub mod report;
mod session;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use lkm_kernel::Profile;
use lkm_link::Arch;
use lkm_module::Module;
use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::elf::Header;
use lkm_tree::compress::Compression;
use lkm_tree::file::FileError;
use lkm_tree::file::ModuleFile;
use lkm_tree::file::read_module;
use lkm_tree::search::ModuleDirectory;

use self::report::ErrorNumber;
use self::report::Outcome;
use self::report::RunReport;
use self::session::Session;
use crate::cli::RunArgs;
use crate::output;
use crate::style::Palette;

/// Runs the command. Exit code 0: loaded, started, removed, nothing left behind; 1: not so; 2: wrong arguments.
pub fn main(arguments: &RunArgs) -> ExitCode {
    let report = match run(arguments) {
        Ok(report) => report,
        Err(usage) => {
            eprintln!("lkm: {usage}");
            return ExitCode::from(2);
        }
    };
    let text = if arguments.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => text + "\n",
            Err(error) => {
                eprintln!("lkm: cannot write the result as JSON: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        render::render(&report, arguments.quiet, Palette::for_stdout())
    };
    match output::print(&text) {
        ExitCode::SUCCESS if report.success => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The kernel profile that a file asks for: that of its architecture and vermagic. A file that is cut off still has its architecture; one
/// that no embedded kernel fits gets the first kernel, which then says what is wrong with it.
fn profile_for(bytes: &[u8]) -> Option<Profile> {
    let module = Module::parse(bytes).ok();
    let vermagic = module.as_ref().and_then(Module::vermagic).unwrap_or_default();
    let machine = Header::read(bytes, Class::Elf32, Endian::Little).map(|header| header.machine);
    let arch = machine.and_then(Arch::from_machine).unwrap_or(Arch::X86_64);
    if vermagic.is_empty() {
        return Profile::all().into_iter().find(|profile| profile.arch == arch);
    }
    let mut profile = Profile::for_vermagic(arch, vermagic)?;
    profile.adopt_vermagic(vermagic);
    Some(profile)
}

fn profile_named(name: &str) -> Result<Profile, String> {
    Profile::by_name(name).ok_or_else(|| {
        let names: Vec<String> = Profile::all().iter().map(|profile| profile.name.to_string()).collect();
        format!("there is no profile '{name}'; there are: {}", names.join(", "))
    })
}

/// Loads, starts and removes the module; the error is a wrong argument.
pub fn run(arguments: &RunArgs) -> Result<RunReport, String> {
    let start = Instant::now();
    let read = read_module(&arguments.file);
    let bytes = match &read {
        Ok(file) => &file.bytes[..],
        Err(FileError::NotAModule(bytes)) => bytes,
        Err(_) => &[],
    };
    let profile = match &arguments.profile {
        Some(name) => profile_named(name)?,
        None => profile_for(bytes).ok_or("this build has no embedded kernel")?,
    };
    let mut report = empty_report(&arguments.file, &profile);
    match &read {
        Ok(file) => {
            report.compression = file.compression.to_string();
            drive(arguments, profile, file, &mut report);
        }
        // The loader itself says what a kernel logs for such a start of a file; the cause is the file's.
        Err(FileError::NotAModule(bytes)) => {
            if let Ok(mut session) = Session::boot(profile, arguments.timeout) {
                let _ = session.load(bytes, Compression::None, &[]);
                session.note_log(&mut report);
            }
        }
        Err(_) => {}
    }
    if let Err(error) = &read {
        report.load = Outcome {
            ok: false,
            error: Some(error.errno().into()),
            stage: None,
            cause: Some(format!("{}: {error}", arguments.file.display())),
        };
    }
    report.success = report.load.ok
        && report.unload.as_ref().is_some_and(|unload| unload.ok)
        && report.left_behind.is_empty()
        && report.oopses.is_empty();
    report.microseconds = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(report)
}

fn empty_report(file: &Path, profile: &Profile) -> RunReport {
    RunReport {
        format: 1,
        file: file.display().to_string(),
        module: lkm_tree::search::name_of(file).unwrap_or_else(|| file.display().to_string()),
        compression: "uncompressed".into(),
        profile: profile.name.to_string(),
        kernel_release: profile.release.to_string(),
        architecture: profile.arch.name().into(),
        dependencies: Vec::new(),
        missing_dependencies: Vec::new(),
        stages: Vec::new(),
        log: Vec::new(),
        unimplemented_imports: Vec::new(),
        load: Outcome::success(),
        registrations: Vec::new(),
        proc_modules: None,
        parameters: Vec::new(),
        unload: None,
        left_behind: Vec::new(),
        oopses: Vec::new(),
        success: false,
        microseconds: 0,
    }
}

fn failed(error: Option<ErrorNumber>, cause: String) -> Outcome {
    Outcome { ok: false, error, stage: None, cause: Some(cause) }
}

/// The folders in which dependencies are looked for, in order.
fn directories(arguments: &RunArgs) -> Vec<ModuleDirectory> {
    let beside = arguments.file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = ModuleDirectory::scan_flat(beside.unwrap_or(Path::new(".")));
    let named = arguments.modules.iter().map(|directory| ModuleDirectory::scan(directory));
    named.chain([beside]).collect()
}

fn drive(arguments: &RunArgs, profile: Profile, file: &ModuleFile, report: &mut RunReport) {
    let mut session = match Session::boot(profile, arguments.timeout) {
        Ok(session) => session,
        Err(error) => {
            report.load = failed(None, error.to_string());
            return;
        }
    };
    let own_name = lkm_tree::search::own_name(&file.bytes).unwrap_or_else(|| report.module.clone());
    report.module = own_name.clone();
    // Most modules depend on nothing; then no folder is read.
    let needs_none = lkm_tree::search::depends(&file.bytes).is_empty();
    let directories = if needs_none { Vec::new() } else { directories(arguments) };
    let dependencies = match lkm_tree::search::dependencies(&own_name, &file.bytes, &directories) {
        Ok(dependencies) => dependencies,
        Err(error) => {
            report.load = failed(None, error.to_string());
            return;
        }
    };
    report.missing_dependencies = dependencies.missing;
    let mut loaded_first = Vec::new();
    for dependency in &dependencies.modules {
        report.dependencies.push(report::Dependency {
            module: dependency.name.clone(),
            file: dependency.path.display().to_string(),
        });
        session.begin(&dependency.name);
        match session.load(&dependency.file.bytes, dependency.file.compression, &[]) {
            Ok(id) => loaded_first.push(id),
            Err(mut outcome) => {
                let cause = outcome.cause.take().unwrap_or_default();
                outcome.cause =
                    Some(format!("the module '{}', which it depends on: {cause}", dependency.name));
                report.load = outcome;
                session.finish(report);
                return;
            }
        }
    }

    session.begin(&own_name);
    match session.load(&file.bytes, file.compression, &parameters(&arguments.parameters)) {
        Ok(id) => {
            session.note_loaded(id, report);
            report.unload = Some(session.unload(id));
        }
        Err(outcome) => report.load = outcome,
    }
    session.note_left_behind(report);
    for id in loaded_first.into_iter().rev() {
        if report.unload.as_ref().is_none_or(|unload| unload.ok) {
            let outcome = session.unload(id);
            if !outcome.ok {
                report.unload = Some(outcome);
            }
        }
    }
    session.finish(report);
}

/// Joins parameters into the text that the system call takes; a value with blanks is quoted, as kmod does.
fn parameters(given: &[OsString]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let quoted = given.iter().map(|parameter| {
        let bytes = parameter.as_bytes();
        let equals = bytes.iter().position(|&byte| byte == b'=');
        match equals {
            Some(at) if bytes.contains(&b' ') && !bytes.contains(&b'"') => {
                [&bytes[..=at], b"\"", &bytes[at + 1..], b"\""].concat()
            }
            _ => bytes.to_vec(),
        }
    });
    quoted.collect::<Vec<_>>().join(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_with_blanks_are_quoted() {
        let given: Vec<OsString> =
            ["a=1", "who=two words", "flag", "said=\"so be it\""].map(OsString::from).into();
        assert_eq!(parameters(&given), b"a=1 who=\"two words\" flag said=\"so be it\"");
    }
}
