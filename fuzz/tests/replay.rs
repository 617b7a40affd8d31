//! Runs every target over its committed corpus and over every fixture module, whole, cut short and slightly damaged.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use lkm_fuzz::TARGETS;

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_corpus() {
    for target in TARGETS {
        let seeds = files(&root().join("corpus").join(target.name));
        assert!(!seeds.is_empty(), "{} has no corpus", target.name);
        for path in seeds {
            (target.run)(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn fixtures_cut_short_and_damaged() {
    let fixtures = root().join("../fixtures");
    for directory in ["x86_64", "arm"] {
        for path in files(&fixtures.join(directory)) {
            let whole = fs::read(path).unwrap();
            for target in TARGETS.iter().filter(|target| target.takes_modules) {
                let target = target.run;
                target(&whole);
                for part in 0..32 {
                    target(&whole[..whole.len() * part / 32]);
                }
                // A step that is no multiple of any record's size meets every field in time.
                let mut damaged = whole.clone();
                for at in (0..whole.len()).step_by(61) {
                    damaged[at] ^= 0x41;
                    target(&damaged);
                    damaged[at] = whole[at];
                }
            }
        }
    }
}
