//! A machine under QEMU, from its start to its end.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use lkm_link::Arch;

use super::Result;
use super::gdb::Gdb;
use super::qmp::Qmp;

/// The machines that kernels are booted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// x86_64, QEMU's plain `pc` with one old processor.
    Pc,
    /// The same with two processors that have all that QEMU knows.
    PcMax,
    /// The same as [`Machine::Pc`], without any mitigation of processor bugs.
    PcOff,
    /// The same with a Haswell and the kernel at a random address: page tables apart, thunks for returns.
    PcHaswell,
    /// 32-bit ARM, `virt` with a Cortex-A15.
    Virt,
    /// 32-bit ARM, the Versatile Express board with a Cortex-A9.
    VexpressA9,
}

impl Machine {
    /// Those that are tried every time.
    pub(crate) const USUAL: [Machine; 3] = [Machine::Pc, Machine::Virt, Machine::VexpressA9];
    /// All of them.
    pub(crate) const ALL: [Machine; 6] =
        [Machine::Pc, Machine::Virt, Machine::VexpressA9, Machine::PcMax, Machine::PcOff, Machine::PcHaswell];

    /// Its name on the command line and in the names of captures.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Machine::Pc => "pc",
            Machine::PcMax => "pc-max",
            Machine::PcOff => "pc-off",
            Machine::PcHaswell => "pc-haswell",
            Machine::Virt => "virt",
            Machine::VexpressA9 => "vexpress-a9",
        }
    }

    /// Its architecture.
    pub(crate) const fn arch(self) -> Arch {
        match self {
            Machine::Pc | Machine::PcMax | Machine::PcOff | Machine::PcHaswell => Arch::X86_64,
            Machine::Virt | Machine::VexpressA9 => Arch::Arm,
        }
    }

    /// Physical address of its memory, as the kernel finds it (`PHYS_OFFSET`).
    pub(crate) const fn memory(self) -> u64 {
        match self {
            Machine::Pc | Machine::PcMax | Machine::PcOff | Machine::PcHaswell => 0,
            Machine::Virt => 0x4000_0000,
            Machine::VexpressA9 => 0x6000_0000,
        }
    }

    /// The emulator and its arguments for the machine.
    pub(crate) fn command(self) -> Command {
        let (program, board, processor, count) = match self {
            Machine::Pc | Machine::PcOff => ("qemu-system-x86_64", "pc", "qemu64", "1"),
            Machine::PcMax => ("qemu-system-x86_64", "pc", "max", "2"),
            Machine::PcHaswell => ("qemu-system-x86_64", "pc", "Haswell", "1"),
            Machine::Virt => ("qemu-system-arm", "virt,highmem=off", "cortex-a15", "1"),
            Machine::VexpressA9 => ("qemu-system-arm", "vexpress-a9", "cortex-a9", "1"),
        };
        let mut command = Command::new(program);
        command.args(["-M", board, "-cpu", processor, "-smp", count, "-m", "768"]);
        command
    }

    /// Kernel command line: mostly no random addresses, messages on the first serial port, a crash ends the machine.
    pub(crate) fn kernel_arguments(self) -> &'static str {
        match self {
            Machine::Pc | Machine::PcMax => "nokaslr console=ttyS0 panic=-1 oops=panic",
            Machine::PcOff => "nokaslr mitigations=off console=ttyS0 panic=-1 oops=panic",
            Machine::PcHaswell => "console=ttyS0 panic=-1 oops=panic",
            Machine::Virt | Machine::VexpressA9 => "nokaslr console=ttyAMA0 panic=-1 oops=panic",
        }
    }
}

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boot<'a> {
    pub(crate) machine: Machine,
    pub(crate) kernel: &'a Path,
    /// Device tree, for boards whose description QEMU does not make itself.
    pub(crate) device_tree: Option<&'a Path>,
    /// More arguments for the kernel.
    pub(crate) arguments: &'a str,
    /// The initramfs.
    pub(crate) initramfs: &'a [u8],
    /// A directory of its own, which is emptied at the start and removed at the end.
    pub(crate) directory: &'a Path,
}

/// A running emulator; it ends when this value does.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Child,
    directory: PathBuf,
    pub(crate) gdb: Gdb,
    pub(crate) qmp: Qmp,
}

impl Qemu {
    /// Starts a machine, stopped before its first instruction.
    pub(crate) fn start(boot: &Boot<'_>) -> Result<Qemu> {
        let directory = boot.directory;
        if directory.exists() {
            std::fs::remove_dir_all(directory)?;
        }
        std::fs::create_dir_all(directory)?;
        let initramfs = directory.join("initramfs");
        std::fs::write(&initramfs, boot.initramfs)?;
        let mut command = boot.machine.command();
        command.args(["-accel", "tcg,thread=single", "-display", "none", "-monitor", "none"]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-S", "-net", "none"]);
        command.arg("-serial").arg(format!("file:{}", directory.join("console").display()));
        for (name, option) in [("gdb", "-gdb"), ("qmp", "-qmp")] {
            let path = directory.join(name);
            command.arg("-chardev");
            command.arg(format!("socket,id={name},path={},server=on,wait=off", path.display()));
            command.arg(option).arg(format!("chardev:{name}"));
        }
        command.arg("-kernel").arg(boot.kernel).arg("-initrd").arg(&initramfs);
        command.arg("-append").arg(format!("{} {}", boot.machine.kernel_arguments(), boot.arguments));
        if let Some(path) = boot.device_tree {
            command.arg("-dtb").arg(path);
        }
        let errors = directory.join("errors");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors)?);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?;
        let connected = connect(&mut child, &directory.join("qmp"))
            .and_then(|qmp| Ok((connect(&mut child, &directory.join("gdb"))?, qmp)))
            .and_then(|(gdb, qmp)| Ok((Gdb::new(gdb)?, Qmp::new(qmp, directory.join("memory"))?)));
        match connected {
            Ok((gdb, qmp)) => Ok(Qemu { child, directory: directory.to_path_buf(), gdb, qmp }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = std::fs::read_to_string(errors).unwrap_or_default();
                Err(format!("QEMU did not come up: {error}\n{said}").into())
            }
        }
    }

    /// What the kernel wrote to its console so far.
    pub(crate) fn console(&self) -> String {
        let bytes = std::fs::read(self.directory.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until QEMU has opened a socket.
fn connect(child: &mut Child, path: &Path) -> Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if start.elapsed() > Duration::from_secs(20) => return Err(error.into()),
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("it ended with {status}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
