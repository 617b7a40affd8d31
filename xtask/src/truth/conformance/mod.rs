//! Conformance: the same good and damaged modules for a real kernel and for the loader, and what each answers.

mod answers;
mod ask;
mod cases;
mod edit;
mod mutants;

use std::collections::HashMap;
use std::path::Path;

use lkm_kernel::Profile;
use lkm_link::Arch;
use sha2::Digest;
use sha2::Sha256;

use self::ask::Answer;
pub(crate) use self::ask::Answers;
use self::cases::Case;
use super::Result;
use super::agent::Agent;
use super::memory::Export;
use super::qemu::Machine;
use super::store;

/// File with the kernel's answers.
const ANSWERS: &str = "conformance.json";

/// What a kernel is asked.
#[derive(Debug)]
pub(crate) struct Questions {
    pub(crate) cases: Vec<Case>,
    /// Digest of the kernel and of the cases.
    sources: String,
}

impl Questions {
    /// The questions for an architecture's kernel, made from the fixture modules in a directory, and from the kernel's list
    /// of exports if files with single damaged places are to be asked about, too.
    pub(crate) fn new(
        arch: Arch,
        kernel: &[u8],
        fixtures: &Path,
        symvers: Option<&str>,
    ) -> Result<Questions> {
        let cases = cases::all(arch, fixtures, symvers)?;
        let mut digest = Sha256::new();
        digest.update(kernel);
        digest.update(format!("{cases:?}"));
        Ok(Questions { cases, sources: store::hex(&digest.finalize()) })
    }

    /// What the kernel answered, if that is kept.
    pub(crate) fn answers(&self, directory: &Path) -> Option<Answers> {
        Answers::load(&directory.join(ANSWERS), &self.sources)
    }

    /// Asks a kernel and keeps its answers.
    pub(crate) fn ask(
        &self,
        machine: Machine,
        kernel: &Path,
        device_tree: Option<&Path>,
        agent: &Agent,
        directory: &Path,
    ) -> Result<()> {
        let answers = ask::ask(machine, kernel, device_tree, agent, &self.cases)?;
        Answers { sources: self.sources.clone(), answers }.save(&directory.join(ANSWERS))
    }

    /// Holds the loader against the answers and prints how that comes out; whether they agree.
    pub(crate) fn compare(
        &self,
        theirs: &Answers,
        profile: &Profile,
        exports: &HashMap<Vec<u8>, Export>,
    ) -> bool {
        answers::compare(profile, exports, &self.cases, &theirs.answers)
    }
}

/// Whether code of the module ran, or the kernel dumped its stack: then the log has lines that are not the loader's.
fn code_ran(case: &Case, answer: &Answer) -> bool {
    answer.result >= 0 || !case.returns.is_empty() || case.dumps
}
