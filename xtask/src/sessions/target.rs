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
use crate::process;
use crate::truth::qemu::Machine;

/// A kernel of the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Debian's cloud kernel on QEMU's `pc`.
    Amd64,
    /// Debian's ARMv7 kernel on the Versatile Express board.
    Armhf,
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
    pub(crate) const ALL: [Target; 2] = [Target::Amd64, Target::Armhf];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        self.flavour().arch.name()
    }

    /// Whose kernel.
    pub(crate) fn flavour(self) -> Flavour {
        match self {
            Target::Amd64 => packages::CLOUD_AMD64,
            Target::Armhf => packages::ARMMP,
        }
    }

    /// The board.
    pub(crate) fn machine(self) -> Machine {
        match self {
            Target::Amd64 => Machine::Pc,
            Target::Armhf => Machine::VexpressA9,
        }
    }

    /// The board's name.
    pub(crate) fn board(self) -> &'static str {
        self.machine().name()
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
        };
        paths::root().join("fixtures").join(directory)
    }

    /// A target whose modules this one must refuse.
    pub(crate) fn other(self) -> Target {
        match self {
            Target::Amd64 => Target::Armhf,
            Target::Armhf => Target::Amd64,
        }
    }

    /// Bytes of a word.
    pub(crate) fn word(self) -> usize {
        match self {
            Target::Amd64 => 8,
            Target::Armhf => 4,
        }
    }

    /// The directory of its libraries, below `lib`.
    pub(crate) fn libraries(self) -> &'static str {
        match self {
            Target::Amd64 => "x86_64-linux-gnu",
            Target::Armhf => "arm-linux-gnueabihf",
        }
    }

    /// Where programs look for the dynamic linker.
    pub(crate) fn interpreter(self) -> &'static str {
        match self {
            Target::Amd64 => "lib64/ld-linux-x86-64.so.2",
            Target::Armhf => "lib/ld-linux-armhf.so.3",
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
        let (triple, linker) = match self {
            Target::Amd64 => ("x86_64-unknown-linux-musl", None),
            // The one ARMv7 target with a libc here is glibc's, which Debian's cross compiler links statically.
            Target::Armhf => ("armv7-unknown-linux-gnueabihf", Some("arm-linux-gnueabihf-gcc")),
        };
        let mut command = crate::cargo();
        command.args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "dist",
            "--package",
            "modutils",
            "--target",
            triple,
        ]);
        if let Some(linker) = linker {
            let variable = triple.to_uppercase().replace('-', "_");
            command.env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
            command.env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), "-Ctarget-feature=+crt-static");
        }
        process::run(&mut command)?;
        Ok(paths::target().join(triple).join("dist/modutils"))
    }

    /// The emulator for this board.
    pub(crate) fn emulator(self) -> Command {
        self.machine().command()
    }
}
