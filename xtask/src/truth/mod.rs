//! Ground truth: real kernels under QEMU load real modules, and the loader must do the same to the byte.
//!
//! A kernel is stopped at the borders of its stages ([`capture`]), what it did is kept in the cache ([`store`]), and
//! the loader repeats it at the same addresses and is held against it ([`compare`]).

mod agent;
mod bytes;
mod capture;
mod compare;
mod conformance;
mod cpio;
mod facts;
mod gdb;
mod guest;
mod memory;
mod modules;
mod qemu;
mod qmp;
mod replay;
mod report;
mod store;
mod views;

use std::path::PathBuf;
use std::time::Instant;

use lkm_link::Arch;
use sha2::Digest;
use sha2::Sha256;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages;
use crate::packages::Package;
use crate::paths;

use self::agent::Agent;
use self::capture::Plan;
use self::memory::KernelMemory;
use self::modules::ModuleFile;
use self::qemu::Machine;
use self::store::Capture;

const USAGE: &str = "\
usage: cargo xtask truth [--arch x86_64|arm] [--machine pc|virt|vexpress-a9] [--recapture] [--module NAME]
                         [--conformance | --bytes]

    --arch, --machine  only these
    --conformance      only the answers to good and damaged modules
    --bytes            all but these answers
    --recapture        boot the kernels even if the cache has what they did
    --module           only this module's differences; for looking closely";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    arch: Option<Arch>,
    machine: Option<Machine>,
    recapture: bool,
    module: Option<String>,
    only_conformance: bool,
    only_bytes: bool,
}

/// `cargo xtask truth`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = options(arguments)?;
    let mut failures = Vec::new();
    for machine in Machine::ALL {
        let wanted = options.machine.is_none_or(|wanted| wanted == machine)
            && options.arch.is_none_or(|wanted| wanted == machine.arch());
        if wanted
            && !hold(machine, &options).with_context(|| format!("ground truth on {}", machine.name()))?
        {
            failures.push(machine.name());
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("the loader differs from the kernel on {}", failures.join(", ")).into())
    }
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| Error::new(format!("{argument} needs a value\n{USAGE}")));
        match argument.as_str() {
            "--recapture" => options.recapture = true,
            "--conformance" => options.only_conformance = true,
            "--bytes" => options.only_bytes = true,
            "--module" => options.module = Some(value()?.clone()),
            "--arch" => {
                options.arch = Some(match value()?.as_str() {
                    "x86_64" => Arch::X86_64,
                    "arm" => Arch::Arm,
                    other => return Err(format!("there is no architecture {other}\n{USAGE}").into()),
                });
            }
            "--machine" => {
                let name = value()?;
                let machine = Machine::ALL.into_iter().find(|machine| machine.name() == name);
                options.machine =
                    Some(machine.with_context(|| format!("there is no machine {name}\n{USAGE}"))?);
            }
            other => return Err(format!("unknown argument {other}\n{USAGE}").into()),
        }
    }
    Ok(options)
}

/// Files of one kernel.
struct Sources {
    kernel: PathBuf,
    device_tree: Option<PathBuf>,
    modules: Vec<ModuleFile>,
    symvers: String,
    release: String,
    digest: String,
}

impl Sources {
    fn find(machine: Machine) -> Result<Sources> {
        let flavour = match machine.arch() {
            Arch::X86_64 => packages::CLOUD_AMD64,
            Arch::Arm => packages::ARMMP,
        };
        let kernel = flavour.kernel()?;
        let release = kernel.release.clone();
        let headers = format!("linux-headers-{release}");
        let symvers = Package::new(flavour.arch, headers.as_str(), kernel.package.version.as_str())
            .unpack()?
            .join("usr/src")
            .join(&headers)
            .join("Module.symvers");
        let symvers = std::fs::read_to_string(&symvers)
            .with_context(|| format!("cannot read {}", symvers.display()))?;
        let device_tree = (machine == Machine::VexpressA9)
            .then(|| kernel.root.join(format!("usr/lib/linux-image-{release}")).join("vexpress-v2p-ca9.dtb"));
        let modules = modules::chosen(machine.arch(), &kernel.modules().join("kernel"))?;
        let mut digest = Sha256::new();
        digest.update(std::fs::read(kernel.image())?);
        for module in &modules {
            digest.update(&module.name);
            digest.update(&module.bytes);
        }
        let digest = store::hex(&digest.finalize());
        Ok(Sources { kernel: kernel.image(), device_tree, modules, symvers, release, digest })
    }
}

/// Holds the loader against one kernel on one machine; whether they agree.
fn hold(machine: Machine, options: &Options) -> Result<bool> {
    let arch = machine.arch();
    let sources = Sources::find(machine)?;
    let arch_name = match arch {
        Arch::X86_64 => "x86_64",
        Arch::Arm => "arm",
    };
    let directory =
        paths::cache()?.join("truth").join(format!("{arch_name}-{}-{}", machine.name(), sources.release));
    let kept = if options.recapture { None } else { Capture::load(&directory, &sources.digest) };
    let capture = match kept {
        Some(capture) => capture,
        None => {
            println!("{} on {}: loading {} modules", sources.release, machine.name(), sources.modules.len());
            let start = Instant::now();
            let agent = Agent::build(arch, &paths::root(), &paths::target().join("agent"))?;
            let plan = Plan {
                arch,
                machine,
                kernel: &sources.kernel,
                device_tree: sources.device_tree.as_deref(),
                modules: &sources.modules,
                sources: &sources.digest,
            };
            let capture = capture::capture(&plan, &agent, &directory)?;
            println!("    captured in {:.1} s", start.elapsed().as_secs_f64());
            capture
        }
    };
    let start = Instant::now();
    let kernel = KernelMemory::load(&capture, arch, &directory)?;
    let exports = kernel.exports()?;
    let (equal, different) = memory::check_exports(&exports, &sources.symvers);
    println!("{}", capture.version.trim_end());
    println!("    exports found in memory     {:>10}, {equal} of them as in Module.symvers", exports.len());
    let mut agree = different.is_empty();
    for name in &different {
        println!("    export {name} is not as in Module.symvers");
    }
    let input = compare::Input {
        capture: &capture,
        directory: &directory,
        machine,
        kernel: &kernel,
        exports: &exports,
        modules: &sources.modules,
        only: options.module.as_deref(),
    };
    if !options.only_conformance {
        agree &= compare::run(&input)?;
        println!("    compared in {:.1} s", start.elapsed().as_secs_f64());
    }
    // The answers do not depend on the board.
    if machine != Machine::VexpressA9 && !options.only_bytes && options.module.is_none() {
        println!("{} on {}: answers to good and damaged modules", sources.release, machine.name());
        let start = Instant::now();
        let input = conformance::Input {
            machine,
            kernel: &sources.kernel,
            exports: &exports,
            profile: &compare::profile(&input)?,
            fixtures: &paths::root().join("fixtures").join(arch_name),
            directory: &directory,
            recapture: options.recapture,
        };
        agree &=
            conformance::run(&input, || Agent::build(arch, &paths::root(), &paths::target().join("agent")))?;
        println!("    asked and compared in {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(agree)
}
