//! What the commands cost, beside kmod and busybox on the same machine in the same run.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use super::measure;
use super::measure::Run;
use super::measure::median;
use super::roots::Packing;
use super::roots::Roots;
use crate::error::Context;
use crate::error::Result;
use crate::paths;
use crate::process;

/// Runs of each that is timed; they take turns.
const RUNS: usize = 5;
const COMMANDS: [&str; 6] = ["insmod", "rmmod", "lsmod", "modinfo", "modprobe", "depmod"];
/// Modules that are changed one after the other.
const CHANGED: [&str; RUNS] = [
    "fs/ext4/ext4.ko",
    "drivers/net/dummy.ko",
    "fs/btrfs/btrfs.ko",
    "net/sctp/sctp.ko",
    "drivers/net/ethernet/intel/e1000e/e1000e.ko",
];
/// A card of Intel, as the kernel announces it.
const ALIAS: &str = "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00";
/// Modules that `lsmod` finds.
const LOADED: usize = 150;

/// Those that are compared, in the order of the columns.
const PROGRAMS: [&str; 3] = ["lkm", "kmod", "busybox"];

/// Valgrind where nobody may load or remove modules.
const VALGRIND: [&str; 4] = ["unshare", "--user", "--map-root-user", "valgrind"];

/// What a number means.
#[derive(Clone, Copy)]
enum Unit {
    Instructions,
    Seconds,
    MiB,
    MB,
    Ratio,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Instructions if value < 1e9 => format!("{:.3} M", value / 1e6),
            Unit::Instructions => format!("{:.3} G", value / 1e9),
            Unit::Seconds => format!("{value:.3} s"),
            Unit::MiB => format!("{value:.1} MiB"),
            Unit::MB => format!("{:.2} MB", value / 1e6),
            Unit::Ratio => format!("{value:.3}"),
        }
    }
}

/// A line of the table.
struct Row {
    title: &'static str,
    unit: Unit,
    /// For each program, if it can do that at all.
    values: [Option<f64>; 3],
    bar: Option<f64>,
}

struct Bench<'a> {
    /// The program that runs others.
    runner: &'a Path,
    /// Directory with a directory for each program, with its commands.
    programs: PathBuf,
    roots: Roots,
    /// A tree with the indexes that kmod made.
    indexed: PathBuf,
}

/// Prints the table; adds the bars that are missed.
pub(super) fn run(runner: &Path, missed: &mut Vec<String>) -> Result<()> {
    let ours = crate::package::program()?;
    let roots = Roots::prepare()?;
    let programs = links(&ours)?;
    let indexed = roots.fresh(Packing::Plain, "indexed")?;
    let release = roots.release.clone();
    process::output(Command::new(programs.join("kmod/depmod")).arg("-b").arg(&indexed).arg(&release))?;
    println!("\nThe commands on {release}; kmod's indexes for modprobe");
    println!("{:<50} {:>11} {:>11} {:>11} {:>11}", "", "lkm", "kmod", "busybox", "bar");
    let bench = Bench { runner, programs, roots, indexed };
    let mut show = |row: Row| {
        let [ours, kmod, busybox] =
            row.values.map(|value| value.map_or_else(|| "-".to_owned(), |value| row.unit.show(value)));
        let bar = row.bar.map_or_else(String::new, |bar| row.unit.show(bar));
        let mark = match (row.values[0], row.bar) {
            (None, _) => {
                missed.push(format!("{}: absent", row.title));
                "  absent"
            }
            (Some(value), Some(bar)) if value > bar => {
                missed.push(format!("{}: {ours} (bar: {bar})", row.title, bar = row.unit.show(bar)));
                "  missed"
            }
            _ => "",
        };
        println!("{:<50} {ours:>11} {kmod:>11} {busybox:>11} {bar:>11}{mark}", row.title);
    };

    let sizes = [ours, resolve("kmod")?, resolve("busybox")?].map(|path| fs::metadata(path).ok());
    show(Row {
        title: "size of the program (kmod: without its libraries)",
        unit: Unit::MB,
        values: sizes.map(|metadata| metadata.map(|metadata| metadata.len() as f64)),
        bar: Some(1.5e6),
    });
    bench.starts(&mut show)?;
    bench.depmod(&mut show)
}

impl Bench<'_> {
    fn command(&self, program: &str, command: &str) -> OsString {
        self.programs.join(program).join(command).into()
    }

    fn has(&self, program: &str, command: &str) -> bool {
        let known = Command::new(self.command(program, command)).arg("--help").output();
        known.is_ok_and(|output| !String::from_utf8_lossy(&output.stderr).contains("invalid command"))
    }

    /// What short runs cost: instructions from the start to the system call, and to the end.
    fn starts(&self, show: &mut dyn FnMut(Row)) -> Result<()> {
        let hello = paths::root().join("fixtures/x86_64/hello.ko");
        let ext4 = self.roots.module(&self.indexed, "fs/ext4/ext4.ko");
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let look_up = |name: &str| {
            let mut arguments = vec![OsString::from("-d"), self.indexed.clone().into()];
            arguments.extend(words(&["-S", &self.roots.release, "-D", name]));
            arguments
        };
        let license = [words(&["-F", "license"]), vec![ext4.into()]].concat();
        // busybox's modprobe looks at the running kernel's directory only.
        let hello = vec![hello.into()];
        let loaded = words(&["bench_140"]);
        for (title, command, arguments, programs, until, bar) in [
            ("insmod, to the system call", "insmod", &hello, 3, Some("313,175"), Some(0.045e6)),
            ("  to its end, refused", "insmod", &hello, 3, None, None),
            ("rmmod, to the system call", "rmmod", &loaded, 3, Some("176"), Some(0.045e6)),
            ("  to its end, refused", "rmmod", &loaded, 3, None, None),
            ("modprobe -D ext4", "modprobe", &look_up("ext4"), 2, None, Some(0.20e6)),
            ("modprobe -D, alias of a pci card", "modprobe", &look_up(ALIAS), 2, None, Some(0.20e6)),
            ("modinfo -F license ext4.ko", "modinfo", &license, 3, None, Some(0.10e6)),
            ("lsmod, 150 modules", "lsmod", &Vec::new(), 3, None, Some(0.35e6)),
        ] {
            let mut values = [None; 3];
            for (value, program) in values.iter_mut().zip(&PROGRAMS[..programs]) {
                if self.has(program, command) {
                    let path = self.command(program, command);
                    let count = match until {
                        Some(calls) => {
                            measure::steps(&mut self.apart(&[])?, self.runner, calls, &path, arguments)
                        }
                        None => measure::instructions(&mut self.apart(&VALGRIND)?, &path, arguments),
                    };
                    *value = Some(count? as f64);
                }
            }
            show(Row { title, unit: Unit::Instructions, values, bar });
        }
        Ok(())
    }

    /// Runs what follows where 150 modules are loaded.
    fn apart(&self, before: &[&str]) -> Result<Command> {
        const SCRIPT: &str = "\
            mount -t tmpfs bench /proc; mkdir /proc/.real; mount -t proc proc /proc/.real
            ln -s .real/self /proc/self; ln -s .real/cmdline /proc/cmdline; cp \"$1\" /proc/modules; shift
            mount -t tmpfs bench /sys; mkdir /sys/module; cd /sys/module
            while read -r name size count users rest; do
                mkdir -p $name/holders; echo $size >$name/coresize; echo $count >$name/refcnt; echo live >$name/initstate
                if [ $count = 1 ]; then mkdir $name/holders/${users%,}; fi
            done </proc/modules
            exec \"$@\"";
        let list = self.programs.join("modules");
        let mut lines = String::new();
        for number in 0..LOADED {
            let (count, users) = match number % 3 {
                0 => (1, format!("bench_{:03},", number + 1)),
                _ => (0, "-".to_owned()),
            };
            lines.push_str(&format!(
                "bench_{number:03} {} {count} {users} Live 0x0000000000000000\n",
                4096 * (number + 2)
            ));
        }
        fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", SCRIPT, "sh"]).arg(list).args(before);
        Ok(command)
    }

    fn depmod(&self, show: &mut dyn FnMut(Row)) -> Result<()> {
        let there: Vec<&str> = PROGRAMS.into_iter().filter(|program| self.has(program, "depmod")).collect();
        let index = |program: &str| PROGRAMS.iter().position(|other| *other == program).unwrap_or(0);

        let plain = self.runs(Packing::Plain, &there)?;
        let middle = |runs: &[Vec<Run>; 3], of: fn(&Run) -> f64| {
            [0, 1, 2].map(|program| {
                let runs: &Vec<Run> = &runs[program];
                (!runs.is_empty()).then(|| median(runs.iter().map(of).collect()))
            })
        };
        // busybox takes six times as many as kmod: not worth the minutes.
        let mut values = [None; 3];
        for program in there.iter().filter(|program| **program != "busybox") {
            let root = self.roots.fresh(Packing::Plain, program)?;
            let arguments = self.arguments(&root);
            let path = self.command(program, "depmod");
            let count = measure::instructions(&mut Command::new("valgrind"), &path, &arguments)?;
            values[index(program)] = Some(count as f64);
        }
        let title = "depmod, plain modules";
        show(Row { title, unit: Unit::Instructions, values, bar: Some(0.45e9) });
        let processor = middle(&plain, Run::processor);
        show(Row { title: "  processor", unit: Unit::Seconds, values: processor, bar: Some(0.22) });
        let memory = middle(&plain, |run| run.memory as f64 / 1024.0);
        show(Row { title: "  memory", unit: Unit::MiB, values: memory, bar: Some(35.0) });
        let wall = middle(&plain, |run| run.wall);
        show(Row { title: "  wall", unit: Unit::Seconds, values: wall, bar: None });
        let against = |values: [Option<f64>; 3], kmod: Option<f64>| {
            values.map(|value| value.zip(kmod).map(|(value, kmod)| value / kmod))
        };
        show(Row {
            title: "  wall against kmod",
            unit: Unit::Ratio,
            values: against(wall, wall[1]),
            bar: Some(0.30),
        });

        let again = self.again(&there)?;
        let again = middle(&again, |run| run.wall);
        show(Row {
            title: "depmod after one module changed, wall",
            unit: Unit::Seconds,
            values: again,
            bar: None,
        });
        show(Row {
            title: "  against a whole run of kmod",
            unit: Unit::Ratio,
            values: against(again, wall[1]),
            bar: Some(0.05),
        });

        let there: Vec<&str> = there.into_iter().filter(|program| *program != "busybox").collect();
        let zstd = middle(&self.runs(Packing::Zstd, &there)?, Run::processor);
        show(Row {
            title: "depmod, .zst modules, processor",
            unit: Unit::Seconds,
            values: zstd,
            bar: Some(0.6),
        });
        let xz = middle(&self.runs(Packing::Xz, &there)?, |run| run.wall);
        show(Row { title: "depmod, .xz modules, wall", unit: Unit::Seconds, values: xz, bar: None });
        show(Row { title: "  against kmod", unit: Unit::Ratio, values: against(xz, xz[1]), bar: Some(0.55) });
        Ok(())
    }

    fn arguments(&self, root: &Path) -> Vec<OsString> {
        vec!["-b".into(), root.into(), self.roots.release.clone().into()]
    }

    /// Whole runs without any index at the start, in turns.
    fn runs(&self, packing: Packing, programs: &[&str]) -> Result<[Vec<Run>; 3]> {
        let mut runs = [Vec::new(), Vec::new(), Vec::new()];
        let mut roots = Vec::new();
        for program in programs {
            roots.push(self.roots.fresh(packing, program)?);
        }
        for turn in 0..=RUNS {
            for (program, root) in programs.iter().zip(&roots) {
                self.roots.clean(root)?;
                let path = self.command(program, "depmod");
                let run = measure::run(self.runner, &path, &self.arguments(root))?;
                // The first turn brings the files into memory.
                if turn > 0 {
                    runs[PROGRAMS.iter().position(|other| other == program).unwrap_or(0)].push(run);
                }
            }
        }
        Ok(runs)
    }

    /// Runs after one module has changed.
    fn again(&self, programs: &[&str]) -> Result<[Vec<Run>; 3]> {
        let mut runs = [Vec::new(), Vec::new(), Vec::new()];
        for program in programs.iter().filter(|program| **program != "busybox") {
            let root = self.roots.fresh(Packing::Plain, program)?;
            let path = self.command(program, "depmod");
            measure::run(self.runner, &path, &self.arguments(&root))?;
            for module in CHANGED {
                self.roots.change(&root, module)?;
                let run = measure::run(self.runner, &path, &self.arguments(&root))?;
                runs[PROGRAMS.iter().position(|other| other == program).unwrap_or(0)].push(run);
            }
        }
        Ok(runs)
    }
}

fn resolve(program: &str) -> Result<PathBuf> {
    let path = paths::program(program).with_context(|| format!("there is no {program}"))?;
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

/// Each program under the names of its commands: they know by their own name what to do.
fn links(ours: &Path) -> Result<PathBuf> {
    let directory = paths::cache()?.join("bench/programs");
    for (program, path) in PROGRAMS.into_iter().zip([ours.to_owned(), resolve("kmod")?, resolve("busybox")?])
    {
        let directory = directory.join(program);
        paths::create(&directory)?;
        for command in COMMANDS {
            let link = directory.join(command);
            if link.symlink_metadata().is_ok() {
                fs::remove_file(&link)?;
            }
            symlink(&path, &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(directory)
}
