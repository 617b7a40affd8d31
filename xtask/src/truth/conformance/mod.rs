//! Conformance: the same good and damaged modules for a real kernel and for the loader, and what each answers.

mod answers;
mod ask;
mod cases;
mod edit;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use lkm_kernel::Profile;
use sha2::Digest;
use sha2::Sha256;

use self::ask::Answer;
use self::ask::Answers;
use self::cases::Case;
use super::Result;
use super::agent::Agent;
use super::memory::Export;
use super::qemu::Machine;
use super::store;

/// A kernel to be asked, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) machine: Machine,
    pub(crate) kernel: &'a Path,
    pub(crate) exports: &'a HashMap<Vec<u8>, Export>,
    pub(crate) profile: &'a Profile,
    /// Where the fixture modules of the architecture are.
    pub(crate) fixtures: &'a Path,
    /// Where the answers are kept.
    pub(crate) directory: &'a Path,
    /// Ask again even if answers are kept.
    pub(crate) recapture: bool,
}

/// Asks the kernel, or takes what it answered before, and holds the loader against it; whether they agree.
pub(crate) fn run(input: &Input<'_>, agent: impl FnOnce() -> Result<Agent>) -> Result<bool> {
    let cases = cases::all(input.machine.arch(), input.fixtures)?;
    let mut digest = Sha256::new();
    digest.update(std::fs::read(input.kernel)?);
    digest.update(format!("{cases:?}"));
    let sources = store::hex(&digest.finalize());
    let file: PathBuf = input.directory.join("conformance.json");
    let kept = if input.recapture { None } else { Answers::load(&file, &sources) };
    let answers = match kept {
        Some(answers) => answers,
        None => {
            println!("    asking {} cases", cases.len());
            let answers = ask::ask(input, &agent()?, &cases, sources)?;
            answers.save(&file)?;
            answers
        }
    };
    Ok(answers::compare(input, &cases, &answers.answers))
}

/// Whether code of the module ran, or the kernel dumped its stack: then the log has lines that are not the loader's.
fn code_ran(case: &Case, answer: &Answer) -> bool {
    answer.result >= 0 || !case.returns.is_empty() || case.dumps
}
