//! A kernel that answers as it is told and notes what it is asked.

use std::cell::RefCell;
use std::ffi::CStr;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;

use lkm_module::Errno;
use lkm_module::Level;
use lkm_syscall::DeleteFlags;
use lkm_syscall::InitFlags;
use lkm_syscall::LogMark;
use lkm_syscall::LogRecord;
use lkm_syscall::Syscalls;

use crate::Context;
use crate::Style;

#[derive(Debug, Default)]
pub(crate) struct Fake {
    /// `/proc/modules`.
    pub(crate) modules: Option<String>,
    pub(crate) sysfs: Vec<FakeModule>,
    pub(crate) compression: Option<&'static str>,
    /// What the calls give in turn, then success.
    pub(crate) answers: Vec<Result<(), Errno>>,
    pub(crate) calls: RefCell<Vec<String>>,
    /// The last image given to `init_module`.
    pub(crate) image: RefCell<Vec<u8>>,
    pub(crate) module_root: String,
    pub(crate) style: Style,
    /// Refusals are explained.
    pub(crate) explain: bool,
    /// What the log has after any call; `None` if it cannot be read.
    pub(crate) log: Option<Vec<&'static str>>,
    /// Files below `/proc` and `/sys`.
    pub(crate) files: Vec<(&'static str, String)>,
}

#[derive(Debug)]
pub(crate) struct FakeModule {
    name: &'static [u8],
    attributes: Vec<(String, String)>,
    pub(crate) holders: Vec<String>,
}

impl FakeModule {
    pub(crate) fn new(name: &str, attributes: &[(&str, &str)]) -> FakeModule {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        FakeModule {
            name: name.to_owned().into_bytes().leak(),
            attributes: attributes.iter().map(owned).collect(),
            holders: Vec::new(),
        }
    }
}

impl Fake {
    /// Runs a command: exit code, standard output, standard error.
    pub(crate) fn run(&self, args: &[&str]) -> (u8, String, String) {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut context = Context::new(self, &mut out, &mut err);
        context.module_root = &self.module_root;
        context.style = self.style;
        context.explain = self.explain;
        let code = crate::run(&mut context, &args);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn call(&self, text: String) -> Result<(), Errno> {
        let mut calls = self.calls.borrow_mut();
        calls.push(text);
        self.answers.get(calls.len() - 1).copied().unwrap_or(Ok(()))
    }

    fn find(&self, name: &[u8]) -> Result<&FakeModule, Errno> {
        self.sysfs.iter().find(|module| module.name == name).ok_or(Errno::ENOENT)
    }
}

impl Syscalls for Fake {
    fn init_module(&self, image: &[u8], parameters: &CStr) -> Result<(), Errno> {
        *self.image.borrow_mut() = image.to_vec();
        self.call(format!("init {} {}", image.len(), parameters.to_str().unwrap()))
    }

    fn finit_module(&self, mut file: &File, parameters: &CStr, flags: InitFlags) -> Result<(), Errno> {
        let mut bytes = Vec::new();
        let _ = file.read_to_end(&mut bytes);
        self.call(format!("finit {} {} {}", bytes.len(), flags.bits(), parameters.to_str().unwrap()))
    }

    fn delete_module(&self, name: &CStr, flags: DeleteFlags) -> Result<(), Errno> {
        self.call(format!("delete {} {:o}", name.to_str().unwrap(), flags.bits()))
    }

    fn modules(&self) -> Result<Vec<u8>, Errno> {
        self.modules.clone().map(String::into_bytes).ok_or(Errno::ENOENT)
    }

    fn has_module(&self, name: &[u8]) -> bool {
        self.find(name).is_ok()
    }

    fn module_attribute(&self, name: &[u8], attribute: &str) -> Result<Vec<u8>, Errno> {
        let found = self.find(name)?.attributes.iter().find(|(key, _)| key == attribute);
        found.map(|(_, value)| value.clone().into_bytes()).ok_or(Errno::ENOENT)
    }

    fn holders(&self, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.find(name)?.holders.iter().map(|holder| holder.clone().into_bytes()).collect())
    }

    fn compression(&self) -> Result<Vec<u8>, Errno> {
        self.compression.map(|name| name.into()).ok_or(Errno::ENOENT)
    }

    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno> {
        self.kernel_file(&format!("/proc/sys/{name}"))
    }

    fn release(&self) -> Vec<u8> {
        b"6.1.0-test".to_vec()
    }

    fn machine(&self) -> Vec<u8> {
        b"x86_64".to_vec()
    }

    fn kernel_file(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let found = self.files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.clone().into_bytes()).ok_or(Errno::ENOENT)
    }

    fn log_mark(&self) -> LogMark {
        match self.log {
            Some(_) => LogMark::sequence(0),
            None => LogMark::unreadable(Errno::EPERM),
        }
    }

    fn log_since(&self, mark: LogMark) -> Result<Vec<LogRecord>, Errno> {
        match (&self.log, mark.error()) {
            (Some(lines), None) => {
                Ok(lines.iter().map(|line| LogRecord::new(Level::Err, line.as_bytes())).collect())
            }
            (_, errno) => Err(errno.unwrap_or(Errno::EPERM)),
        }
    }
}
