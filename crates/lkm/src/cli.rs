//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;

/// See, check, run and trace Linux kernel modules anywhere.
#[derive(Debug, Parser)]
#[command(name = "lkm", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `lkm` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a module into an embedded kernel, start it, show what it does, and remove it
    #[cfg(feature = "machine")]
    Run(RunArgs),
    /// List the kernels that the embedded one can stand for
    Profiles,
    /// Show what a kernel accepts: release, vermagic, exports, configuration, keys, and who says so
    Facts(FactsArgs),
}

/// Arguments of `lkm facts`.
#[derive(Args, Clone, Debug)]
pub struct FactsArgs {
    /// A release that is installed, `running`, or files and directories of one kernel with commas between them: vmlinuz,
    /// vmlinux, Module.symvers, System.map, a configuration, /lib/modules/V, kernel headers, a .deb, facts as JSON
    #[arg(value_name = "KERNEL", default_value = "running")]
    pub kernel: String,
    /// Print everything as JSON, which can be given back as KERNEL
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `lkm run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The module: a .ko file, plain or packed with gzip, xz or zstd
    pub file: PathBuf,
    /// Parameters of the module
    #[arg(value_name = "NAME=VALUE")]
    pub parameters: Vec<OsString>,
    /// Kernel to boot (see `lkm profiles`); by default the one that fits the module
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Where dependencies are looked for, besides the folder of FILE; may be repeated
    #[arg(long, value_name = "DIR")]
    pub modules: Vec<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Wall time that each of the module's functions may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: std::time::Duration,
    /// Print only what the module logged and what went wrong
    #[arg(long, short)]
    pub quiet: bool,
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err("a timeout is more than 0 and at most 86400 seconds".to_owned());
    }
    Ok(std::time::Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        crate::commands::listed(Cli::command()).debug_assert();
    }

    #[test]
    fn a_timeout_is_a_sane_number_of_seconds() {
        assert_eq!(seconds("0.5").unwrap().as_millis(), 500);
        for bad in ["0", "-1", "nan", "inf", "1e9", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    #[cfg(feature = "machine")]
    fn options_may_follow_the_parameters() {
        let cli = Cli::parse_from(["lkm", "run", "hello.ko", "who=world", "--json", "n=3"]);
        let Command::Run(args) = cli.command else { panic!() };
        assert_eq!(args.parameters, ["who=world", "n=3"]);
        assert!(args.json);
    }
}
