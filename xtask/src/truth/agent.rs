//! The program that is PID 1 of the guest: how it is built, where its labels are.

use std::path::Path;
use std::process::Command;

use lkm_link::Arch;
use object::Object as _;
use object::ObjectSymbol as _;
use object::elf::FileHeader32;
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::read::elf::FileHeader;

use super::Result;

/// The built program.
#[derive(Debug)]
pub(crate) struct Agent {
    /// The executable.
    pub(crate) file: Vec<u8>,
    /// Where it waits for the host.
    pub(crate) stop: u64,
    /// Where it goes on.
    pub(crate) go: u64,
    /// What the host and the program share.
    pub(crate) mailbox: u64,
}

/// Linked without libc by the linker that comes with Rust; at fixed addresses, so that breakpoints are known
/// before the kernel runs.
const FLAGS: &[&str] = &[
    "-Clinker=rust-lld",
    "-Clinker-flavor=ld.lld",
    "-Clink-self-contained=no",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=--no-pie",
    "-Clink-arg=-nostdlib",
];

impl Agent {
    /// Builds the program for an architecture. `root` is the workspace, `target` a directory for the build.
    pub(crate) fn build(arch: Arch, root: &Path, target: &Path) -> Result<Agent> {
        let triple = match arch {
            Arch::X86_64 => "x86_64-unknown-linux-musl",
            Arch::Arm => "armv7-unknown-linux-gnueabihf",
        };
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--release", "--target", triple, "--manifest-path"])
            .arg(root.join("xtask/agent/Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
            .status()?;
        if !status.success() {
            return Err(format!("the agent does not build for {triple}: {status}").into());
        }
        let file = std::fs::read(target.join(triple).join("release/truth-agent"))?;
        match arch {
            Arch::X86_64 => Agent::read::<FileHeader64<object::Endianness>>(file),
            Arch::Arm => Agent::read::<FileHeader32<object::Endianness>>(file),
        }
    }

    fn read<Header: FileHeader<Endian = object::Endianness>>(file: Vec<u8>) -> Result<Agent> {
        let elf = ElfFile::<Header>::parse(&*file).map_err(|error| error.to_string())?;
        let symbol = |name| {
            let found = elf.symbols().find(|symbol| symbol.name_bytes() == Ok(name));
            found.map(|symbol| symbol.address()).ok_or("the agent lacks a symbol")
        };
        let (stop, go, mailbox) = (symbol(b"agent_stop")?, symbol(b"agent_go")?, symbol(b"MAILBOX")?);
        Ok(Agent { stop, go, mailbox, file })
    }
}
