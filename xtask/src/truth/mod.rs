//! Ground truth: real kernels under QEMU load real modules, and the loader must do the same to the byte.
//!
//! A kernel is stopped at the borders of its stages ([`capture`]), what it did is kept in the cache ([`store`]), and
//! the loader repeats it at the same addresses and is held against it ([`compare`]).

pub(crate) mod agent;
mod bytes;
pub(crate) mod capture;
mod compare;
mod conformance;
pub(crate) mod cpio;
mod facts;
mod gdb;
pub(crate) mod guest;
mod memory;
mod modules;
pub(crate) mod qemu;
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
use self::conformance::Questions;
use self::memory::KernelMemory;
use self::modules::ModuleFile;
use self::qemu::Machine;
use self::store::Capture;

const USAGE: &str = "\
usage: cargo xtask truth [--arch x86_64|arm] [--machine NAME | --more] [--recapture] [--module NAME]
                         [--conformance | --bytes]

    --arch             only machines of this architecture
    --machine          only pc, virt, vexpress-a9, pc-max, pc-off or pc-haswell
    --more             all of these; without it the first three
    --conformance      only the answers to good and damaged modules
    --bytes            all but these answers
    --recapture        boot the kernels even if the cache has what they did
    --module           only this module's differences; for looking closely";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    arch: Option<Arch>,
    machine: Option<Machine>,
    more: bool,
    recapture: bool,
    module: Option<String>,
    only_conformance: bool,
    only_bytes: bool,
}

/// `cargo xtask truth`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = options(arguments)?;
    let wanted = |machine: &Machine| {
        options.machine.map_or(options.more || Machine::USUAL.contains(machine), |wanted| wanted == *machine)
            && options.arch.is_none_or(|wanted| wanted == machine.arch())
    };
    let machines: Vec<Machine> = Machine::ALL.into_iter().filter(wanted).collect();
    let grounds = machines.iter().map(|&machine| Ground::find(machine)).collect::<Result<Vec<_>>>()?;
    watch(&grounds, &options)?;
    let mut failures = Vec::new();
    for ground in grounds.iter().filter(|ground| !options.only_conformance || ground.questions.is_some()) {
        let name = ground.machine.name();
        if !ground.hold(&options).with_context(|| format!("ground truth on {name}"))? {
            failures.push(name);
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("the loader differs from the kernel on {}", failures.join(", ")).into())
    }
}

/// `/proc/kallsyms` of the kernel for an architecture before its first module, from its capture, which is made if there is
/// none.
pub(crate) fn kallsyms(arch: Arch) -> Result<String> {
    let machine = match arch {
        Arch::X86_64 => Machine::Pc,
        Arch::Arm => Machine::Virt,
    };
    let ground = Ground::find(machine)?;
    let path = ground.directory.join(store::KALLSYMS);
    watch(&[ground], &Options::default())?;
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Runs the kernels whose doings are not in the cache, all at the same time.
fn watch(grounds: &[Ground], options: &Options) -> Result<()> {
    let missing: Vec<&Ground> =
        grounds.iter().filter(|ground| options.recapture || !ground.is_watched()).collect();
    let mut agents = Vec::new();
    for ground in &missing {
        agents.push(Agent::build(ground.machine.arch(), &paths::root(), &paths::target().join("agent"))?);
    }
    std::thread::scope(|scope| {
        let watch = |(ground, agent)| scope.spawn(move || Ground::watch(ground, agent, options.recapture));
        let threads: Vec<_> = missing.iter().copied().zip(&agents).map(watch).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(Error::new("a thread that watched a kernel panicked")),
        })
    })
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| Error::new(format!("{argument} needs a value\n{USAGE}")));
        match argument.as_str() {
            "--more" => options.more = true,
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

/// A kernel on a machine: its files, and where is kept what it did.
struct Ground {
    machine: Machine,
    kernel: PathBuf,
    device_tree: Option<PathBuf>,
    modules: Vec<ModuleFile>,
    symvers: String,
    release: String,
    /// Digest of the kernel and of the modules.
    sources: String,
    directory: PathBuf,
    /// Questions about good and damaged modules.
    questions: Option<Questions>,
}

impl Ground {
    fn find(machine: Machine) -> Result<Ground> {
        let (flavour, arch) = match machine.arch() {
            Arch::X86_64 => (packages::CLOUD_AMD64, "x86_64"),
            Arch::Arm => (packages::ARMMP, "arm"),
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
        let image = std::fs::read(kernel.image())?;
        let mut digest = Sha256::new();
        digest.update(&image);
        for module in &modules {
            digest.update(&module.name);
            digest.update(&module.bytes);
        }
        let fixtures = paths::root().join("fixtures").join(arch);
        let ask = |symvers| Questions::new(machine.arch(), &image, &fixtures, symvers);
        let questions = match machine {
            Machine::Pc | Machine::Virt => Some(ask(Some(&symvers))?),
            // It is the same kernel on another board: what every kernel of these is asked is enough.
            Machine::VexpressA9 => Some(ask(None)?),
            Machine::PcMax | Machine::PcOff | Machine::PcHaswell => None,
        };
        Ok(Ground {
            machine,
            kernel: kernel.image(),
            device_tree,
            modules,
            symvers,
            sources: store::hex(&digest.finalize()),
            directory: paths::cache()?.join("truth").join(format!("{arch}-{}-{release}", machine.name())),
            release,
            questions,
        })
    }

    /// Everything is in the cache.
    fn is_watched(&self) -> bool {
        Capture::load(&self.directory, &self.sources).is_some()
            && self.questions.as_ref().is_none_or(|questions| questions.answers(&self.directory).is_some())
    }

    /// Boots the kernel for whatever the cache does not have.
    fn watch(&self, agent: &Agent, again: bool) -> Result<()> {
        let name = format!("{} on {}", self.release, self.machine.name());
        if again || Capture::load(&self.directory, &self.sources).is_none() {
            println!("{name}: loading {} modules", self.modules.len());
            let start = Instant::now();
            let plan = Plan {
                machine: self.machine,
                kernel: &self.kernel,
                device_tree: self.device_tree.as_deref(),
                modules: &self.modules,
                sources: &self.sources,
            };
            capture::capture(&plan, agent, &self.directory).with_context(|| name.clone())?;
            println!("{name}: loaded in {:.1} s", start.elapsed().as_secs_f64());
        }
        if let Some(questions) = &self.questions
            && (again || questions.answers(&self.directory).is_none())
        {
            println!("{name}: asking about {} good and damaged modules", questions.cases.len());
            let start = Instant::now();
            questions
                .ask(self.machine, &self.kernel, self.device_tree.as_deref(), agent, &self.directory)
                .with_context(|| name.clone())?;
            println!("{name}: answered in {:.1} s", start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Holds the loader against what the kernel did; whether they agree.
    fn hold(&self, options: &Options) -> Result<bool> {
        let capture = Capture::load(&self.directory, &self.sources)
            .context("what the kernel did is not in the cache")?;
        let start = Instant::now();
        let kernel = KernelMemory::load(&capture, self.machine.arch(), &self.directory)?;
        let exports = kernel.exports()?;
        let (equal, different) = memory::check_exports(&exports, &self.symvers);
        println!("\n{} on {}: {}", self.release, self.machine.name(), capture.version.trim_end());
        println!(
            "    exports found in memory     {:>10}, {equal} of them as in Module.symvers",
            exports.len()
        );
        let mut agree = different.is_empty();
        for name in &different {
            println!("    export {name} is not as in Module.symvers");
        }
        let input = compare::Input {
            capture: &capture,
            directory: &self.directory,
            machine: self.machine,
            kernel: &kernel,
            exports: &exports,
            modules: &self.modules,
            only: options.module.as_deref(),
        };
        if !options.only_conformance {
            agree &= compare::run(&input)?;
        }
        if let Some(questions) =
            self.questions.as_ref().filter(|_| !options.only_bytes && options.module.is_none())
        {
            let answers =
                questions.answers(&self.directory).context("the kernel's answers are not in the cache")?;
            agree &= questions.compare(&answers, &compare::profile(&input)?, &exports);
        }
        println!("    compared in {:.1} s", start.elapsed().as_secs_f64());
        Ok(agree)
    }
}
