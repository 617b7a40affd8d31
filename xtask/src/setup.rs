//! What has to be on the machine, why, and how it gets there.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::paths;
use crate::process;

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building `lkm`, that is: the CPU emulator in it, a C library with generated bindings.
    Build,
    /// Checks of the sources.
    Lint,
    /// Tests that compare with a tool.
    Test,
    /// Rebuilding the fixture modules.
    Fixtures,
    /// Real kernels under QEMU.
    Truth,
    /// Sessions of the commands on real kernels.
    Sessions,
    /// The program of the commands and its packages.
    Package,
    /// The commands in a root of their own, and their packages looked at from all sides.
    PackageTest,
    /// Benchmarks.
    Bench,
}

impl Purpose {
    /// Everything.
    pub(crate) const ALL: &'static [Purpose] = &[
        Purpose::Build,
        Purpose::Lint,
        Purpose::Test,
        Purpose::Fixtures,
        Purpose::Truth,
        Purpose::Sessions,
        Purpose::Package,
        Purpose::PackageTest,
        Purpose::Bench,
    ];
}

/// How one sees that a package is there, however it came.
enum Sign {
    Program(&'static str),
    File(&'static str),
    /// A library that the bindings' generator opens.
    Libclang,
    /// A library that the dynamic linker finds.
    Library(&'static str),
}

struct Need {
    package: &'static str,
    sign: Sign,
    purposes: &'static [Purpose],
    why: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        package: "gcc",
        sign: Sign::Program("cc"),
        purposes: &[Purpose::Build],
        why: "compiles the CPU emulator",
    },
    Need {
        package: "g++",
        sign: Sign::Program("c++"),
        purposes: &[Purpose::Build],
        why: "is asked for by the emulator's build",
    },
    Need {
        package: "libc6-dev",
        sign: Sign::File("/usr/include/stdio.h"),
        purposes: &[Purpose::Build],
        why: "headers for the emulator",
    },
    Need {
        package: "cmake",
        sign: Sign::Program("cmake"),
        purposes: &[Purpose::Build],
        why: "configures the CPU emulator",
    },
    Need {
        package: "ninja-build",
        sign: Sign::Program("ninja"),
        purposes: &[Purpose::Build],
        why: "builds the CPU emulator",
    },
    Need {
        package: "pkg-config",
        sign: Sign::Program("pkg-config"),
        purposes: &[Purpose::Build],
        why: "is asked for by the emulator's build",
    },
    Need {
        package: "make",
        sign: Sign::Program("make"),
        purposes: &[Purpose::Build, Purpose::Fixtures],
        why: "builds the CPU emulator and the fixture modules",
    },
    Need {
        package: "libclang-dev",
        sign: Sign::Libclang,
        purposes: &[Purpose::Build],
        why: "generates the bindings to the CPU emulator",
    },
    Need {
        package: "kmod",
        sign: Sign::Program("depmod"),
        purposes: &[Purpose::Test, Purpose::PackageTest, Purpose::Sessions, Purpose::Bench],
        why: "makes and reads the indexes that ours are compared with",
    },
    Need {
        package: "busybox-static",
        sign: Sign::Program("busybox"),
        purposes: &[Purpose::Test, Purpose::PackageTest, Purpose::Bench],
        why: "is measured beside the commands",
    },
    Need {
        package: "cpio",
        sign: Sign::Program("cpio"),
        purposes: &[Purpose::PackageTest],
        why: "packs and unpacks the images of initramfs-tools",
    },
    Need {
        package: "debian-archive-keyring",
        sign: Sign::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        purposes: &[
            Purpose::Fixtures,
            Purpose::Truth,
            Purpose::Sessions,
            Purpose::PackageTest,
            Purpose::Bench,
        ],
        why: "verifies the Debian kernels that are fetched",
    },
    Need {
        package: "gcc-12",
        sign: Sign::Program("gcc-12"),
        purposes: &[Purpose::Fixtures],
        why: "compiles the fixture modules for x86_64, as Debian compiled the kernel",
    },
    Need {
        package: "gcc-12-arm-linux-gnueabihf",
        sign: Sign::Program("arm-linux-gnueabihf-gcc-12"),
        purposes: &[Purpose::Fixtures],
        why: "compiles the fixture modules for ARM",
    },
    Need {
        package: "binutils-arm-linux-gnueabihf",
        sign: Sign::Program("arm-linux-gnueabihf-ld"),
        purposes: &[Purpose::Fixtures],
        why: "links the fixture modules for ARM",
    },
    Need {
        package: "musl-tools",
        sign: Sign::Program("musl-gcc"),
        purposes: &[Purpose::Sessions, Purpose::Package, Purpose::PackageTest, Purpose::Bench],
        why: "compiles the C libraries in the static commands",
    },
    Need {
        package: "gcc-arm-linux-gnueabihf",
        sign: Sign::Program("arm-linux-gnueabihf-gcc"),
        purposes: &[Purpose::Sessions],
        why: "links the commands for ARM",
    },
    Need {
        package: "libc6-dev-armhf-cross",
        sign: Sign::File("/usr/arm-linux-gnueabihf/lib/libc.a"),
        purposes: &[Purpose::Sessions],
        why: "is linked into the commands for ARM",
    },
    Need {
        package: "gcc-12-aarch64-linux-gnu",
        sign: Sign::Program("aarch64-linux-gnu-gcc-12"),
        purposes: &[Purpose::Fixtures],
        why: "compiles the fixture modules for 64-bit ARM",
    },
    Need {
        package: "binutils-aarch64-linux-gnu",
        sign: Sign::Program("aarch64-linux-gnu-ld"),
        purposes: &[Purpose::Fixtures],
        why: "links the fixture modules for 64-bit ARM",
    },
    Need {
        package: "libelf1",
        sign: Sign::Library("libelf.so.1"),
        purposes: &[Purpose::Fixtures],
        why: "is used by the kernel's objtool",
    },
    Need {
        package: "xz-utils",
        sign: Sign::Program("xz"),
        purposes: &[Purpose::Test, Purpose::Fixtures, Purpose::Sessions, Purpose::Bench],
        why: "packs modules",
    },
    Need {
        package: "zstd",
        sign: Sign::Program("zstd"),
        purposes: &[Purpose::Test, Purpose::Fixtures, Purpose::Sessions, Purpose::Bench],
        why: "packs modules",
    },
    Need {
        package: "qemu-system-x86",
        sign: Sign::Program("qemu-system-x86_64"),
        purposes: &[Purpose::Truth, Purpose::Sessions],
        why: "boots the x86_64 kernel that the loader and the commands are compared with",
    },
    Need {
        package: "qemu-system-arm",
        sign: Sign::Program("qemu-system-arm"),
        purposes: &[Purpose::Truth, Purpose::Sessions],
        why: "boots the ARM kernel that the loader and the commands are compared with",
    },
    Need {
        package: "man-db",
        sign: Sign::Program("lexgrog"),
        purposes: &[Purpose::PackageTest],
        why: "shows the manual pages",
    },
    Need {
        package: "groff-base",
        sign: Sign::Program("groff"),
        purposes: &[Purpose::PackageTest],
        why: "checks the manual pages",
    },
    Need {
        package: "lintian",
        sign: Sign::Program("lintian"),
        purposes: &[Purpose::PackageTest],
        why: "checks the Debian package",
    },
    Need {
        package: "zsh",
        sign: Sign::Program("zsh"),
        purposes: &[Purpose::PackageTest],
        why: "tries its completions",
    },
    Need {
        package: "fish",
        sign: Sign::Program("fish"),
        purposes: &[Purpose::PackageTest],
        why: "tries its completions",
    },
    Need {
        package: "valgrind",
        sign: Sign::Program("valgrind"),
        purposes: &[Purpose::Bench],
        why: "counts instructions",
    },
];

/// Something that rustup adds to the toolchain.
struct Part {
    kind: &'static str,
    name: &'static str,
    purposes: &'static [Purpose],
    why: &'static str,
}

const PARTS: &[Part] = &[
    Part { kind: "component", name: "rustfmt", purposes: &[Purpose::Lint], why: "checks the formatting" },
    Part { kind: "component", name: "clippy", purposes: &[Purpose::Lint], why: "checks for common mistakes" },
    Part {
        kind: "target",
        name: "x86_64-unknown-linux-musl",
        purposes: &[
            Purpose::Truth,
            Purpose::Sessions,
            Purpose::Package,
            Purpose::PackageTest,
            Purpose::Bench,
        ],
        why: "the programs that run inside the x86_64 kernel, and the packaged one",
    },
    Part {
        kind: "target",
        name: "aarch64-unknown-linux-musl",
        purposes: &[Purpose::Sessions],
        why: "the commands that run on the 64-bit ARM kernel",
    },
    Part {
        kind: "target",
        name: "armv7-unknown-linux-gnueabihf",
        purposes: &[Purpose::Truth, Purpose::Sessions],
        why: "the programs that run inside the ARM kernel",
    },
];

/// Installs what is missing for these purposes; says what and why. Touches nothing when nothing is missing.
pub(crate) fn run(purposes: &[Purpose]) -> Result<()> {
    let asked = |of: &[Purpose]| of.iter().any(|purpose| purposes.contains(purpose));
    let missing: Vec<&Need> =
        NEEDS.iter().filter(|need| asked(need.purposes) && !need.sign.is_there()).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let parts: Vec<&Part> = PARTS.iter().filter(|part| asked(part.purposes)).collect();
    toolchain(&parts)
}

fn install(missing: &[&Need]) -> Result<()> {
    println!("Missing on this machine:");
    for need in missing {
        println!("    {:<30} {}", need.package, need.why);
    }
    let packages: BTreeSet<&str> = missing.iter().map(|need| need.package).collect();
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    let shown = format!("apt-get update && apt-get {}", arguments.join(" "));
    if paths::program("apt-get").is_none() {
        return Err(Error::new(format!(
            "this system has no apt-get; install what corresponds to these Debian packages: {}",
            arguments[3..].join(" ")
        )));
    }
    if !is_root()? {
        return Err(Error::new(format!("packages are installed by root: sudo sh -c '{shown}'")));
    }
    println!("They are installed by: {shown}");
    // A repository that cannot be reached does not matter unless it is the one that has the packages.
    let updated = process::capture(apt_get().arg("update"))?;
    if !updated.status.success() {
        println!("    apt-get update: {}", updated.stderr.trim());
    }
    process::output(apt_get().args(&arguments)).context("installing what is missing")?;
    let still: Vec<&str> =
        missing.iter().filter(|need| !need.sign.is_there()).map(|need| need.package).collect();
    if still.is_empty() {
        Ok(())
    } else {
        Err(Error::new(format!("installed, but what it is needed for is not found: {}", still.join(", "))))
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300"]);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn toolchain(parts: &[&Part]) -> Result<()> {
    if paths::program("rustup").is_none() && env::var_os("RUSTUP_HOME").is_none() {
        return toolchain_without_rustup(parts);
    }
    for kind in ["component", "target"] {
        let parts: Vec<&&Part> = parts.iter().filter(|part| part.kind == kind).collect();
        if parts.is_empty() {
            continue;
        }
        let installed = process::output(rustup().args([kind, "list", "--installed"]))?;
        for part in parts {
            // Components are listed with the platform that they are for.
            if installed.lines().any(|line| line.starts_with(part.name)) {
                continue;
            }
            println!("Adding the {kind} {} to the Rust toolchain: {}", part.name, part.why);
            process::output(rustup().args([kind, "add", part.name]))?;
        }
    }
    Ok(())
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.current_dir(paths::root());
    command
}

fn toolchain_without_rustup(parts: &[&Part]) -> Result<()> {
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
    let there = |part: &Part| match part.kind {
        "target" => rustlib.join(part.name).is_dir(),
        _ => {
            paths::program(&format!("cargo-{}", part.name)).is_some()
                || part.name == "rustfmt" && paths::program("rustfmt").is_some()
        }
    };
    let missing: Vec<String> = parts
        .iter()
        .filter(|part| !there(part))
        .map(|part| format!("the {} {} ({})", part.kind, part.name, part.why))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("the Rust toolchain lacks {}; rustup would add it", missing.join(", "))))
}

impl Sign {
    fn is_there(&self) -> bool {
        match self {
            Sign::Program(name) => paths::program(name).is_some(),
            Sign::File(path) => Path::new(path).exists(),
            Sign::Library(name) => library_directories().iter().any(|dir| Path::new(dir).join(name).exists()),
            Sign::Libclang => has_libclang(),
        }
    }
}

fn library_directories() -> Vec<String> {
    let triple = format!("{}-linux-gnu", env::consts::ARCH);
    let mut directories = vec!["/usr/lib".to_owned(), "/usr/lib64".to_owned(), "/usr/local/lib".to_owned()];
    directories.extend([format!("/usr/lib/{triple}"), format!("/lib/{triple}")]);
    directories
}

/// Whether a libclang with its own headers is where the generator of bindings looks.
fn has_libclang() -> bool {
    let mut directories = library_directories();
    if let Ok(path) = env::var("LIBCLANG_PATH") {
        directories.push(path);
    }
    if let Ok(entries) = fs::read_dir("/usr/lib") {
        let versions =
            entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"));
        directories.extend(versions.map(|entry| entry.path().join("lib").display().to_string()));
    }
    directories.iter().any(|dir| {
        fs::read_dir(dir).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name.starts_with("libclang") && !name.starts_with("libclang-cpp") && name.contains(".so")
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_its_needs_and_each_need_is_said_once() {
        for purpose in Purpose::ALL {
            assert!(
                NEEDS.iter().any(|need| need.purposes.contains(purpose))
                    || PARTS.iter().any(|part| part.purposes.contains(purpose)),
                "{purpose:?}"
            );
        }
        let names: BTreeSet<&str> = NEEDS.iter().map(|need| need.package).collect();
        assert_eq!(names.len(), NEEDS.len());
    }

    #[test]
    fn signs_tell_there_from_not_there() {
        assert!(Sign::Program("sh").is_there());
        assert!(!Sign::Program("no-such-program-here").is_there());
        assert!(Sign::File("/proc/self/exe").is_there());
        assert!(!Sign::Library("libnosuch.so.99").is_there());
    }
}
