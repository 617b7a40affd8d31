//! What is measured: the modules of a kernel, and the addresses of what kernel and modules export.

use std::collections::HashMap;
use std::fs;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Module files in memory, in the order of their paths.
pub struct Tree {
    /// Path and content of each.
    pub modules: Vec<(PathBuf, Vec<u8>)>,
}

impl Tree {
    /// All `.ko` files below a directory, or one file.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut paths = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                for entry in fs::read_dir(&path)? {
                    open.push(entry?.path());
                }
            } else if path.extension().is_some_and(|extension| extension == "ko") {
                paths.push(path);
            }
        }
        paths.sort();
        let modules = paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes)));
        Ok(Self { modules: modules.collect::<io::Result<_>>()? })
    }
}

/// Names and addresses of everything exported.
pub type Exports = HashMap<Vec<u8>, u64, BuildHasherDefault<NameHasher>>;

/// Every name of a `Module.symvers`, at addresses of its own from `base` upwards.
pub fn exports(symvers: &Path, base: u64) -> io::Result<Exports> {
    let text = fs::read_to_string(symvers)?;
    let names = text.lines().filter_map(|line| line.split('\t').nth(1));
    Ok(names.zip(0u64..).map(|(name, number)| (name.as_bytes().to_vec(), base + 16 * number)).collect())
}

/// FNV-1a, eight bytes at a time: the cost of looking names up is the same and small for all that are compared.
#[derive(Default)]
pub struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn write_u8(&mut self, _: u8) {}

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
