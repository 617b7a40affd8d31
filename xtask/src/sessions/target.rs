//! The kernels of the sessions, and what runs on each.

use std::path::PathBuf;
use std::process::Command;

use crate::error::Result;
use crate::packages;
use crate::packages::Arch;
use crate::packages::Flavour;
use crate::packages::Kernel;
use crate::packages::Package;
use crate::paths;
use crate::truth::qemu::Machine;

/// A kernel of the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Debian's cloud kernel on QEMU's `pc`.
    Amd64,
    /// Debian's ARMv7 kernel on the Versatile Express board.
    Armhf,
    /// Debian's cloud kernel for 64-bit ARM on QEMU's `virt`.
    Arm64,
}

/// Packages of the reference, with the versions that are taken as long as the archive has them.
const REFERENCE: &[(&str, &str)] = &[
    ("kmod", "30+20221128-1"),
    ("libc6", "2.36-9+deb12u14"),
    ("libzstd1", "1.5.4+dfsg2-5"),
    ("liblzma5", "5.4.1-1+deb12u1"),
    ("libssl3", "3.0.20-1~deb12u2"),
    ("dash", "0.5.12-2"),
    ("busybox-static", "1:1.35.0-4+deb12u1+b1"),
];

impl Target {
    /// All of them.
    pub(crate) const ALL: [Target; 3] = [Target::Amd64, Target::Armhf, Target::Arm64];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        self.flavour().arch.name()
    }

    /// Whose kernel.
    pub(crate) fn flavour(self) -> Flavour {
        match self {
            Target::Amd64 => packages::CLOUD_AMD64,
            Target::Armhf => packages::ARMMP,
            Target::Arm64 => packages::CLOUD_ARM64,
        }
    }

    /// The board, where the loader is held against the kernel on it, too.
    pub(crate) fn machine(self) -> Option<Machine> {
        match self {
            Target::Amd64 => Some(Machine::Pc),
            Target::Armhf => Some(Machine::VexpressA9),
            Target::Arm64 => None,
        }
    }

    /// The board's name.
    pub(crate) fn board(self) -> &'static str {
        self.machine().map_or("virt", Machine::name)
    }

    /// The device tree that the board needs.
    pub(crate) fn device_tree(self, kernel: &Kernel) -> Option<PathBuf> {
        let directory = kernel.root.join(format!("usr/lib/linux-image-{}", kernel.release));
        (self == Target::Armhf).then(|| directory.join("vexpress-v2p-ca9.dtb"))
    }

    /// The directory of its fixture modules.
    pub(crate) fn fixtures(self) -> PathBuf {
        let directory = match self {
            Target::Amd64 => "x86_64",
            Target::Armhf => "arm",
            Target::Arm64 => "arm64",
        };
        paths::root().join("fixtures").join(directory)
    }

    /// A target whose modules this one must refuse.
    pub(crate) fn other(self) -> Target {
        match self {
            Target::Amd64 => Target::Armhf,
            Target::Armhf => Target::Arm64,
            Target::Arm64 => Target::Amd64,
        }
    }

    /// Bytes of a word.
    pub(crate) fn word(self) -> usize {
        match self {
            Target::Amd64 | Target::Arm64 => 8,
            Target::Armhf => 4,
        }
    }

    /// The directory of its libraries, below `lib`.
    pub(crate) fn libraries(self) -> &'static str {
        match self {
            Target::Amd64 => "x86_64-linux-gnu",
            Target::Armhf => "arm-linux-gnueabihf",
            Target::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Where programs look for the dynamic linker.
    pub(crate) fn interpreter(self) -> &'static str {
        match self {
            Target::Amd64 => "lib64/ld-linux-x86-64.so.2",
            Target::Armhf => "lib/ld-linux-armhf.so.3",
            Target::Arm64 => "lib/ld-linux-aarch64.so.1",
        }
    }

    /// The unpacked packages of the reference: kmod, its libraries, a shell and busybox.
    pub(crate) fn reference(self) -> Result<Vec<PathBuf>> {
        let arch: Arch = self.flavour().arch;
        REFERENCE
            .iter()
            .map(|&(name, version)| Package::new(arch, name, version).unpack_or_newest())
            .collect()
    }

    /// Builds our commands, statically linked; the program.
    pub(crate) fn build(self) -> Result<PathBuf> {
        crate::package::program_for(match self {
            Target::Amd64 => "x86_64-unknown-linux-musl",
            Target::Arm64 => "aarch64-unknown-linux-musl",
            // The one ARMv7 target with a libc here is glibc's.
            Target::Armhf => "armv7-unknown-linux-gnueabihf",
        })
    }

    /// The emulator for this board.
    pub(crate) fn emulator(self) -> Command {
        let Some(machine) = self.machine() else {
            let mut command = Command::new("qemu-system-aarch64");
            command.args(["-M", "virt", "-cpu", "cortex-a57", "-smp", "1", "-m", "768"]);
            return command;
        };
        machine.command()
    }

    /// What the kernel is told about its console and what a crash means.
    pub(crate) fn kernel_arguments(self) -> &'static str {
        self.machine().unwrap_or(Machine::VexpressA9).kernel_arguments()
    }
}
