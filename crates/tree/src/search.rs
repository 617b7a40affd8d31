//! Modules by name in a directory, and the modules that one depends on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Module;
use lkm_module::Text;

use crate::file::FileError;
use crate::file::ModuleFile;
use crate::file::read_module;

/// Directories below the start that are looked into.
const DEPTH: usize = 16;

/// A module name as tools compare it: `-` and `_` are the same.
pub fn normalise(name: &str) -> String {
    name.replace('-', "_")
}

/// The module name that a file name stands for: what precedes `.ko`, normalised.
///
/// ```
/// assert_eq!(lkm_tree::search::name_of("snd-pcm.ko.xz".as_ref()), Some("snd_pcm".into()));
/// assert_eq!(lkm_tree::search::name_of("modules.dep".as_ref()), None);
/// ```
pub fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    ["", ".gz", ".xz", ".zst"].iter().find_map(|packed| {
        let stem = name.strip_suffix(packed)?.strip_suffix(".ko")?;
        (!stem.is_empty()).then(|| normalise(stem))
    })
}

/// Where the modules of a directory tree lie, by normalised name.
#[derive(Clone, Debug, Default)]
pub struct ModuleDirectory {
    paths: BTreeMap<String, PathBuf>,
}

impl ModuleDirectory {
    /// Takes in every module at or below `directory`. What cannot be read is left out; symbolic links to directories
    /// are not followed. Of two files with one name, the one met first in sorted order stays.
    pub fn scan(directory: &Path) -> ModuleDirectory {
        let mut found = ModuleDirectory::default();
        found.scan_below(directory, DEPTH);
        found
    }

    /// Takes in the modules that lie in `directory` itself.
    pub fn scan_flat(directory: &Path) -> ModuleDirectory {
        let mut found = ModuleDirectory::default();
        found.scan_below(directory, 0);
        found
    }

    fn scan_below(&mut self, directory: &Path, depth: usize) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if depth > 0 {
                    self.scan_below(&entry.path(), depth - 1);
                }
            } else if let Some(name) = name_of(&entry.path()) {
                self.paths.entry(name).or_insert_with(|| entry.path());
            }
        }
    }

    /// The file of a module.
    pub fn path(&self, name: &str) -> Option<&Path> {
        self.paths.get(&normalise(name)).map(PathBuf::as_path)
    }

    /// Every module with its file, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.paths.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }
}

/// The names in a module's `depends=`, normalised.
pub fn depends(bytes: &[u8]) -> Vec<String> {
    let Ok(module) = Module::parse(bytes) else { return Vec::new() };
    module.depends().map(|name| normalise(&Text(name).to_string())).collect()
}

/// The name that a module gives itself, as it is.
pub fn own_name(bytes: &[u8]) -> Option<String> {
    Module::parse(bytes).ok()?.name().map(|name| Text(name).to_string())
}

/// A module that has to be loaded first.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// Its name, normalised.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What the file holds.
    pub file: ModuleFile,
}

/// Why the dependencies of a module could not be gathered.
#[derive(Debug)]
pub enum DependencyError {
    /// A file with that name could not be read.
    File(String, PathBuf, FileError),
    /// The module depends on itself, through the modules named.
    Cycle(Vec<String>),
}

impl fmt::Display for DependencyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DependencyError::File(name, path, error) => {
                write!(f, "the module '{name}', which it depends on, is at {} but: {error}", path.display())
            }
            DependencyError::Cycle(names) => {
                write!(f, "the modules depend on each other in a circle: {}", names.join(" -> "))
            }
        }
    }
}

impl std::error::Error for DependencyError {}

/// What a module needs first, in the order of loading, and the names that were found nowhere.
#[derive(Debug, Default)]
pub struct Dependencies {
    /// To load, first to last.
    pub modules: Vec<Dependency>,
    /// Named in `depends=`, but in none of the directories.
    pub missing: Vec<String>,
}

/// Gathers what `module` (whose own normalised name is `name`) depends on, directly and through others.
pub fn dependencies(
    name: &str,
    module: &[u8],
    directories: &[ModuleDirectory],
) -> Result<Dependencies, DependencyError> {
    let mut result = Dependencies::default();
    // A stack of its own instead of recursion: chains are as long as the tree's author wants.
    let mut open = vec![(name.to_owned(), depends(module).into_iter(), None::<Dependency>)];
    while let Some((_, todo, _)) = open.last_mut() {
        let Some(next) = todo.next() else {
            if let Some((_, _, Some(done))) = open.pop() {
                result.modules.push(done);
            }
            continue;
        };
        if let Some(start) = open.iter().position(|(name, ..)| *name == next) {
            let mut circle: Vec<String> = open[start..].iter().map(|(name, ..)| name.clone()).collect();
            circle.push(next);
            return Err(DependencyError::Cycle(circle));
        }
        if result.modules.iter().any(|module| module.name == next) || result.missing.contains(&next) {
            continue;
        }
        let Some(path) = directories.iter().find_map(|directory| directory.path(&next)) else {
            result.missing.push(next);
            continue;
        };
        let file =
            read_module(path).map_err(|error| DependencyError::File(next.clone(), path.to_owned(), error))?;
        let inner = depends(&file.bytes).into_iter();
        open.push((next.clone(), inner, Some(Dependency { name: next, path: path.to_owned(), file })));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use lkm_module::elf::Class;
    use lkm_module::elf::Endian;
    use lkm_module::elf::consts::EM_X86_64;
    use lkm_module::testing::ObjectBuilder;

    use super::*;

    /// A directory of modules that depend on each other as told, gone afterwards.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, modules: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("lkm-search-{name}-{}", std::process::id()));
            for (file, depends) in modules {
                let path = root.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, module(&name_of(file.as_ref()).unwrap(), depends)).unwrap();
            }
            Tree(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn module(name: &str, depends: &str) -> Vec<u8> {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.modinfo(&[("name", name), ("depends", depends)]);
        object.finish()
    }

    fn order(dependencies: &Dependencies) -> Vec<&str> {
        dependencies.modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn each_dependency_comes_before_what_needs_it_and_once() {
        let tree = Tree::new(
            "order",
            &[
                ("a/snd-card.ko", "snd-pcm,snd"),
                ("b/snd-pcm.ko", "snd,snd_timer"),
                ("snd_timer.ko", "snd"),
                ("c/d/snd.ko", ""),
            ],
        );
        let found = [ModuleDirectory::scan(&tree.0)];
        let result = dependencies("drv", &module("drv", "snd_card,absent"), &found).unwrap();
        assert_eq!(order(&result), ["snd", "snd_timer", "snd_pcm", "snd_card"]);
        assert_eq!(result.missing, ["absent"]);
        assert_eq!(own_name(&result.modules[0].file.bytes).as_deref(), Some("snd"));
    }

    #[test]
    fn a_circle_is_named() {
        let tree = Tree::new("circle", &[("a.ko", "b"), ("b.ko", "c"), ("c.ko", "a")]);
        let found = [ModuleDirectory::scan(&tree.0)];
        match dependencies("drv", &module("drv", "a"), &found) {
            Err(DependencyError::Cycle(names)) => assert_eq!(names, ["a", "b", "c", "a"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_folder_itself_is_scanned_flat() {
        let tree = Tree::new("flat", &[("top.ko", ""), ("below/deep.ko", "")]);
        let flat = ModuleDirectory::scan_flat(&tree.0);
        assert_eq!(flat.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["top"]);
        assert!(ModuleDirectory::scan(&tree.0).path("deep").is_some());
    }
}
