//! The embedded kernel in the place of the running one: what the commands of module loading ask of a kernel, answered
//! by the loader and the machine in this process.

use std::cell::RefCell;
use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::io::Seek;

use lkm_kernel::BootOptions;
use lkm_kernel::Capabilities;
use lkm_kernel::EntryKind;
use lkm_kernel::FileFacts;
use lkm_kernel::Kernel;
use lkm_kernel::Lockdown;
use lkm_kernel::Profile;
use lkm_kernel::profile::Decompress;
use lkm_machine::Config;
use lkm_machine::Machine;
use lkm_machine::MachineError;
use lkm_module::Errno;
use lkm_syscall::DeleteFlags;
use lkm_syscall::InitFlags;
use lkm_syscall::LogMark;
use lkm_syscall::LogRecord;
use lkm_syscall::Syscalls;

/// Bit of `CAP_SYS_MODULE` in `CapEff` of `/proc/self/status`.
const CAP_SYS_MODULE: u64 = 1 << 16;

/// An embedded kernel that commands can load modules into.
///
/// It answers as the kernel of its profile does: an import that nobody exports is an unknown symbol.
pub struct Embedded {
    state: RefCell<State>,
}

struct State {
    kernel: Kernel,
    machine: Machine,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Embedded").field("profile", &state.kernel.profile.name).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Boots a kernel of a profile with what its command line says.
    pub fn boot(profile: Profile, options: BootOptions) -> Result<Embedded, MachineError> {
        let mut config = Config::new(profile.arch);
        config.release = profile.release.to_string();
        config.stand_ins = false;
        let machine = Machine::new(config)?;
        let mut kernel = Kernel::new(profile);
        kernel.options = options;
        Ok(Embedded { state: RefCell::new(State { kernel, machine }) })
    }

    /// What processes that call from here on may do.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.state.borrow_mut().kernel.capabilities = capabilities;
    }
}

impl State {
    /// A file below `/sys/module`, without the newline at its end.
    fn attribute(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = self.kernel.sysfs_read(&mut self.machine, path)?;
        if value.last() == Some(&b'\n') {
            value.pop();
        }
        Ok(value)
    }
}

impl Syscalls for Embedded {
    fn init_module(&self, image: &[u8], parameters: &CStr) -> Result<(), Errno> {
        let State { kernel, machine } = &mut *self.state.borrow_mut();
        let loaded = lkm_kernel::init_module(kernel, machine, image, Some(parameters.to_bytes()));
        loaded.map(|_| ()).map_err(|error| error.errno())
    }

    fn finit_module(&self, mut file: &File, parameters: &CStr, flags: InitFlags) -> Result<(), Errno> {
        let State { kernel, machine } = &mut *self.state.borrow_mut();
        let (mut facts, mut image) = (FileFacts::regular(0), Vec::new());
        let metadata = file.metadata().map_err(|_| Errno::EBADF)?;
        facts.regular = metadata.is_file();
        facts.directory = metadata.is_dir();
        facts.size = metadata.len();
        if facts.regular {
            // Whoever calls has read the file's start.
            let read = file.rewind().and_then(|()| file.read_to_end(&mut image));
            read.map_err(|_| Errno::EIO)?;
        }
        let parameters = Some(parameters.to_bytes());
        let loaded = lkm_kernel::finit_module(kernel, machine, &facts, &image, parameters, flags.bits());
        loaded.map(|_| ()).map_err(|error| error.errno())
    }

    fn delete_module(&self, name: &CStr, flags: DeleteFlags) -> Result<(), Errno> {
        let State { kernel, machine } = &mut *self.state.borrow_mut();
        let deleted = lkm_kernel::delete_module(kernel, machine, Some(name.to_bytes()), flags.bits());
        deleted.map_err(|error| error.errno())
    }

    fn modules(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.state.borrow().kernel.proc_modules().into_bytes())
    }

    fn has_module(&self, name: &[u8]) -> bool {
        !name.contains(&b'/') && self.state.borrow().kernel.sysfs_list(name).is_some()
    }

    fn module_attribute(&self, name: &[u8], attribute: &str) -> Result<Vec<u8>, Errno> {
        let mut state = self.state.borrow_mut();
        if (name, attribute) == (b"module", "parameters/sig_enforce") {
            return Ok(if state.kernel.options.sig_enforce { b"Y".into() } else { b"N".into() });
        }
        state.attribute(&[name, b"/", attribute.as_bytes()].concat())
    }

    fn holders(&self, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let state = self.state.borrow();
        let entries = state.kernel.sysfs_list(&[name, b"/holders"].concat()).ok_or(Errno::ENOENT)?;
        let links = entries.into_iter().filter(|entry| matches!(entry.kind, EntryKind::Link(_)));
        Ok(links.map(|entry| entry.name).collect())
    }

    fn compression(&self) -> Result<Vec<u8>, Errno> {
        let format = self.state.borrow().kernel.profile.config.decompress.ok_or(Errno::ENOENT)?;
        Ok(match format {
            Decompress::Gzip => b"gzip".to_vec(),
            Decompress::Xz => b"xz".to_vec(),
            Decompress::Zstd => b"zstd".to_vec(),
        })
    }

    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let state = self.state.borrow();
        let options = &state.kernel.options;
        match name {
            "kernel/modules_disabled" => Ok(u8::from(options.modules_disabled).to_string().into_bytes()),
            "kernel/kptr_restrict" => Ok(options.kptr_restrict.to_string().into_bytes()),
            "kernel/osrelease" => Ok(state.kernel.profile.release.as_bytes().to_vec()),
            _ => Err(Errno::ENOENT),
        }
    }

    fn release(&self) -> Vec<u8> {
        self.state.borrow().kernel.profile.release.as_bytes().to_vec()
    }

    fn machine(&self) -> Vec<u8> {
        match self.state.borrow().kernel.profile.arch {
            lkm_link::Arch::Arm => b"armv7l".to_vec(),
            arch => arch.name().as_bytes().to_vec(),
        }
    }

    fn kernel_file(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let state = self.state.borrow();
        let kernel = &state.kernel;
        let text = match path {
            "/proc/modules" => kernel.proc_modules(),
            "/proc/kallsyms" => kernel.proc_kallsyms(),
            "/proc/self/status" => {
                let capabilities = if kernel.capabilities.sys_module { u64::MAX } else { !CAP_SYS_MODULE };
                format!("Uid:\t0\t0\t0\t0\nCapEff:\t{capabilities:016x}\n")
            }
            "/proc/cmdline" => format!(
                "module_blacklist={} initcall_blacklist={}\n",
                kernel.options.module_blacklist.join(","),
                kernel.options.initcall_blacklist.join(",")
            ),
            "/sys/kernel/security/lockdown" => match kernel.options.lockdown {
                Lockdown::None => "[none] integrity confidentiality\n".into(),
                Lockdown::Integrity => "none [integrity] confidentiality\n".into(),
                Lockdown::Confidentiality => "none integrity [confidentiality]\n".into(),
            },
            _ => return Err(Errno::ENOENT),
        };
        Ok(text.into_bytes())
    }

    fn log_mark(&self) -> LogMark {
        LogMark::sequence(self.state.borrow().machine.log_lines().len() as u64)
    }

    fn log_since(&self, mark: LogMark) -> Result<Vec<LogRecord>, Errno> {
        let first = match (mark.number(), mark.error()) {
            (Some(number), _) => usize::try_from(number).unwrap_or(usize::MAX),
            (None, errno) => return Err(errno.unwrap_or(Errno::EINVAL)),
        };
        let state = self.state.borrow();
        let lines = state.machine.log_lines().iter().enumerate().skip(first);
        Ok(lines
            .map(|(number, line)| LogRecord {
                sequence: number as u64,
                microseconds: line.time / 1000,
                ..LogRecord::new(line.level, line.text.as_bytes())
            })
            .collect())
    }
}
