//! What a run found, as data: the JSON document of `lkm run --json`, and what the text is rendered from.

use serde::Serialize;

/// The result of `lkm run`.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Version of this document's form.
    pub format: u32,
    /// The file as named on the command line.
    pub file: String,
    /// Name of the module.
    pub module: String,
    /// How the file was compressed.
    pub compression: String,
    /// Profile of the embedded kernel.
    pub profile: String,
    /// Its release, as `uname -r`.
    pub kernel_release: String,
    /// Architecture, as `uname -m`.
    pub architecture: String,
    /// Modules that were loaded first, in order.
    pub dependencies: Vec<Dependency>,
    /// Modules that it names in `depends=` and that were found nowhere.
    pub missing_dependencies: Vec<String>,
    /// Stages of the load and the unload, of this module and of its dependencies.
    pub stages: Vec<StageReport>,
    /// The kernel log.
    pub log: Vec<LogLine>,
    /// Imports that the embedded kernel has no code for; calling one ends the run.
    pub unimplemented_imports: Vec<String>,
    /// How loading ended.
    pub load: Outcome,
    /// What was registered while the module was loaded.
    pub registrations: Vec<Registration>,
    /// The module's line in `/proc/modules` while it was loaded.
    pub proc_modules: Option<String>,
    /// Its parameters while it was loaded.
    pub parameters: Vec<Parameter>,
    /// How unloading ended; absent if the module was not loaded.
    pub unload: Option<Outcome>,
    /// What the module did not give back.
    pub left_behind: Vec<String>,
    /// Reports of faults, one text each.
    pub oopses: Vec<String>,
    /// Loaded, started, removed, and nothing left behind.
    pub success: bool,
    /// Wall time of everything, in microseconds.
    pub microseconds: u64,
}

/// A module that was loaded first.
#[derive(Clone, Debug, Serialize)]
pub struct Dependency {
    /// Its name.
    pub module: String,
    /// Its file.
    pub file: String,
}

/// One stage.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// The module it worked on.
    pub module: String,
    /// The kernel's name for it.
    pub stage: &'static str,
    /// `None` on success, else the error.
    pub error: Option<ErrorNumber>,
    /// Its key numbers.
    pub numbers: Vec<Number>,
    /// Wall time, in microseconds.
    pub microseconds: u64,
}

/// A key number of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Number {
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// `count`, `bytes` or `address`.
    pub unit: &'static str,
}

/// An error number.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorNumber {
    /// As user space sees it: positive.
    pub number: u16,
    /// C name; empty if it has none.
    pub name: &'static str,
    /// glibc's text.
    pub text: &'static str,
}

impl From<lkm_module::Errno> for ErrorNumber {
    fn from(errno: lkm_module::Errno) -> ErrorNumber {
        ErrorNumber { number: errno.raw(), name: errno.name().unwrap_or(""), text: errno.text() }
    }
}

/// How a load or an unload ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// It succeeded.
    pub ok: bool,
    /// What the system call returned, if it failed.
    pub error: Option<ErrorNumber>,
    /// The stage that refused.
    pub stage: Option<&'static str>,
    /// One sentence: why, and what to do.
    pub cause: Option<String>,
}

impl Outcome {
    /// Success.
    pub fn success() -> Outcome {
        Outcome { ok: true, error: None, stage: None, cause: None }
    }
}

/// A line of the kernel log.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine {
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Seconds since the embedded kernel's boot.
    pub seconds: f64,
    /// Its text.
    pub text: String,
}

/// Something that the module registered with the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Registration {
    /// What, such as `chrdev` or `proc`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A parameter of the module.
#[derive(Clone, Debug, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value as `/sys/module/NAME/parameters` shows it; absent if it cannot be read there.
    pub value: Option<String>,
    /// Permissions of that file; 0 means that there is none.
    pub mode: u16,
}
