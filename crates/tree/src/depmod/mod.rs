//! Making the indexes of a directory of modules, which is what `depmod` does.
//!
//! [`Depmod`] finds the modules of one kernel, reads of each what it has, what it needs and what it is known by, and makes
//! the files that [`index`](crate::index) reads. Their text files are byte for byte those of kmod 30 with glibc 2.36; the
//! `.bin` files are read by any kmod.
//!
//! ```no_run
//! use lkm_tree::depmod::Depmod;
//!
//! let mut depmod = Depmod::new("/lib/modules/6.1.0-56-amd64");
//! depmod.cache = true;
//! let done = depmod.update(&mut ())?;
//! println!("{} modules, {} of them read again", done.modules, done.modules - done.cached);
//! # Ok::<(), lkm_tree::depmod::DepmodError>(())
//! ```
//!
//! Files are read on all processors, and of each only the sections that count. With [`Depmod::cache`] what was read is
//! kept beside the indexes, and next time only files that changed are read.
//!
//! [`Depmod::update`] replaces the indexes so that whoever looks something up at that moment, and whoever comes after
//! a run that was killed, finds every file complete. [`Depmod::check`] tells whether they are current.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;

mod cache;
mod check;
mod digest;
mod ere;
mod graph;
mod hash;
mod kernel_symbols;
mod names;
mod note;
mod output;
mod part;
mod quick;
mod rules;
mod scan;
mod sections;
mod stamp;
mod store;
mod unpack;
mod walk;

pub use check::Check;
pub use check::FileState;
pub use check::Stale;
pub use kernel_symbols::KernelSymbols;
pub use note::Note;
pub use note::Severity;
pub use output::IndexFile;
pub use rules::DIRECTORIES;
pub use rules::Rules;
pub use store::Step;
pub use store::StoreError;

use crate::index::binary::BuildError;
use cache::Cache;
use digest::Group;
use names::Seeds;
use part::Wanted;
use walk::Found;
use walk::Walk;

/// Name of the file in which [`Depmod::cache`] keeps facts.
pub const CACHE_NAME: &str = cache::NAME;

/// Who hears what happens. Every function may be left out.
pub trait Observer {
    /// Something was met that does not stop the work.
    fn note(&mut self, note: Note) {
        let _ = note;
    }

    /// So many of so many modules have been read.
    fn progress(&mut self, done: usize, total: usize) {
        let _ = (done, total);
    }

    /// Something was done to the directory of the indexes.
    fn step(&mut self, step: Step<'_>) {
        let _ = step;
    }
}

/// Nobody listens.
impl Observer for () {}

/// What is to be indexed, and how.
#[derive(Clone, Debug)]
pub struct Depmod {
    /// The directory of the modules, `/lib/modules/VERSION`.
    pub directory: PathBuf,
    /// Where the indexes go, if not into the same directory.
    pub output: Option<PathBuf>,
    /// What `depmod.d` says.
    pub rules: Rules,
    /// Only these files are modules. `None`: all that are found.
    pub modules: Option<Vec<PathBuf>>,
    /// What the kernel itself exports, for [`unresolved`](Depmod::unresolved).
    pub kernel: Option<KernelSymbols>,
    /// Tell of symbols that a module needs and nobody has, or has in another version.
    pub unresolved: bool,
    /// What the architecture puts before every symbol.
    pub symbol_prefix: Option<u8>,
    /// Tell which module needs which.
    pub needs: bool,
    /// Tell of aliases that one module has twice.
    pub duplicates: bool,
    /// Keep what was read beside the indexes, and use what is there.
    pub cache: bool,
    /// Wait until the new files are on the disk before they replace the old ones, so that a power failure leaves complete
    /// files too on file systems that do not see to that themselves.
    pub durable: bool,
    /// Threads that read; `None`: one for each processor.
    pub threads: Option<NonZeroUsize>,
}

/// Why there are no indexes.
#[derive(Debug)]
#[non_exhaustive]
pub enum DepmodError {
    /// The directory of the modules cannot be opened.
    Search(PathBuf, Errno),
    /// One of [`Depmod::modules`] is not there, or has the name of another one.
    Module(PathBuf, Errno),
    /// Modules need each other; an [`Observer`] was told which.
    Cycles,
    /// An index would be too large.
    Build(BuildError),
    /// The files could not be written; the old ones are as they were, unless it was a rename that failed.
    Store(StoreError),
}

impl fmt::Display for DepmodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DepmodError::Search(_, errno) => write!(f, "could not search modules: {}", errno.text()),
            DepmodError::Module(path, errno) => {
                write!(f, "could not create module {}: {}", path.display(), errno.text())
            }
            DepmodError::Cycles => f.write_str("modules need each other"),
            DepmodError::Build(error) => error.fmt(f),
            DepmodError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DepmodError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DepmodError::Build(error) => Some(error),
            DepmodError::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// The index files as they should be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Indexes {
    /// In the order in which kmod writes them.
    pub files: Vec<IndexFile>,
    /// How many modules are in them.
    pub modules: usize,
    /// Of how many nothing had to be read.
    pub cached: usize,
    groups: [GroupState; 4],
    keep: Option<Keep>,
}

/// What is kept for next time.
#[derive(Clone, Debug)]
struct Keep {
    /// The cache, in which the states of the index files are still to be put.
    cache: Vec<u8>,
    /// The facts in it are not those of last time.
    changed: bool,
    /// States of the index files that were kept last time.
    groups: Vec<Group>,
}

/// What became of a group of index files.
#[derive(Clone, Copy, Debug, Default)]
struct GroupState {
    /// Of what it is made.
    sum: u64,
    /// Its files are as they should be and were not made again.
    stays: bool,
    /// Nothing was to be said about it. Otherwise it is made again next time, for that to be said again.
    silent: bool,
}

/// What [`Depmod::update`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How many modules are in the indexes.
    pub modules: usize,
    /// Of how many nothing had to be read.
    pub cached: usize,
    /// Files that were replaced; the others were as they should be.
    pub written: usize,
}

impl Depmod {
    /// All modules of a directory, without configuration, cache or anything else.
    pub fn new(directory: impl Into<PathBuf>) -> Depmod {
        Depmod {
            directory: directory.into(),
            output: None,
            rules: Rules::default(),
            modules: None,
            kernel: None,
            unresolved: false,
            symbol_prefix: None,
            needs: false,
            duplicates: false,
            cache: false,
            durable: false,
            threads: None,
        }
    }

    fn output(&self) -> &Path {
        self.output.as_deref().unwrap_or(&self.directory)
    }

    /// Makes the indexes and puts them in their place.
    pub fn update(&self, observer: &mut dyn Observer) -> Result<Summary, DepmodError> {
        // Who comes second waits here, so that what it read is not older than what it replaces.
        let store =
            store::Store::open(self.output(), &mut |note| observer.note(note)).map_err(
                |error| match error {
                    StoreError::Open(path, errno) if path == self.directory => {
                        observer.note(Note::OpenDirectory(path.clone(), errno));
                        DepmodError::Search(path, errno)
                    }
                    error => DepmodError::Store(error),
                },
            )?;
        let indexes = self.make_indexes(false, Some(&store), observer)?;
        let files: Vec<(&str, &[u8])> =
            indexes.files.iter().map(|file| (file.name, file.bytes.as_slice())).collect();
        let put = store.put(&files, self.durable, &mut |step| observer.step(step));
        let mut written = put.map_err(DepmodError::Store)?;
        let first_stays = indexes.groups.first().is_some_and(|group| group.stays);
        if let Some(Keep { mut cache, changed, groups: before }) = indexes.keep {
            if changed && first_stays {
                store.touch("modules.dep");
            }
            let states = indexes.groups.iter().zip(digest::GROUPS);
            let groups: Vec<Group> = states
                .map(|(state, names)| {
                    let stamps = names.iter().map(|name| store.stamp(name).unwrap_or_default()).collect();
                    Group { sum: if state.silent { state.sum } else { 0 }, stamps }
                })
                .collect();
            if changed || groups != before {
                cache::set_groups(&mut cache, &groups);
                match store.put(&[(CACHE_NAME, &cache)], false, &mut |step| observer.step(step)) {
                    Ok(count) => written += count,
                    // The indexes are whole; only the next run takes longer.
                    Err(error) => {
                        observer.note(Note::CacheNotWritten(self.output().join(CACHE_NAME), error.errno()));
                    }
                }
            }
        }
        Ok(Summary { modules: indexes.modules, cached: indexes.cached, written })
    }

    /// Makes the indexes and leaves everything as it is.
    ///
    /// ```
    /// use lkm_tree::depmod::Depmod;
    ///
    /// let empty = std::env::temp_dir().join(format!("lkm-depmod-example-{}", std::process::id()));
    /// std::fs::create_dir_all(&empty)?;
    /// let indexes = Depmod::new(&empty).indexes(&mut ())?;
    /// assert_eq!(indexes.modules, 0);
    /// assert!(indexes.files.iter().any(|file| file.name == "modules.dep.bin"));
    /// # std::fs::remove_dir(&empty)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn indexes(&self, observer: &mut dyn Observer) -> Result<Indexes, DepmodError> {
        self.make_indexes(false, None, observer)
    }

    /// Makes the text files only.
    pub fn texts(&self, observer: &mut dyn Observer) -> Result<Indexes, DepmodError> {
        self.make_indexes(true, None, observer)
    }

    /// Tells whether the indexes are what they should be.
    pub fn check(&self, observer: &mut dyn Observer) -> Result<Check, DepmodError> {
        let indexes = self.make_indexes(false, None, observer)?;
        Ok(check::check(self.output(), &indexes.files))
    }

    /// Whether no module and no directory with modules is newer than `modules.dep`. An error tells what could not be
    /// looked at.
    pub fn is_quickly_current(&self) -> Result<bool, Note> {
        quick::is_current(&self.directory, self.output(), &self.rules)
    }

    /// With a store, what is in it already and stays is not made again.
    fn make_indexes(
        &self,
        text_only: bool,
        store: Option<&store::Store>,
        observer: &mut dyn Observer,
    ) -> Result<Indexes, DepmodError> {
        let seeds = Seeds::random();
        let mut found = self.find(observer)?;
        let order = self.modules_order(observer);
        graph::order(&mut found, order.as_deref());
        let crcs = self.kernel.as_ref().is_some_and(KernelSymbols::has_crcs);
        // CRCs are wanted rarely and are not kept.
        let use_cache = self.cache && !crcs;
        let cache = if use_cache { Cache::load(self.output(), seeds) } else { None };
        let known = cache.as_ref().map_or(0, Cache::len);
        let kept = cache.as_ref().map_or_else(Vec::new, |cache| cache.groups.clone());
        let facts = scan::scan(
            &self.directory,
            &found,
            cache,
            seeds,
            self.threads,
            Wanted { crcs },
            &mut |done, total| observer.progress(done, total),
        )
        .map_err(|errno| DepmodError::Search(self.directory.clone(), errno))?;
        for (module, file) in found.iter().enumerate() {
            let error = facts.of(module).map_or(Some(Errno::EIO), |(_, record)| record.error);
            if let Some(errno) = error {
                observer.note(Note::Unreadable(self.path(file), errno));
            }
        }
        let look = graph::Look {
            kernel: self.kernel.as_ref(),
            prefix: self.symbol_prefix,
            unresolved: self.unresolved,
            needs: self.needs,
        };
        let graph =
            graph::Graph::new(&self.directory, &found, &facts, seeds, &look, &mut |note| observer.note(note))
                .map_err(|graph::Cycles| DepmodError::Cycles)?;
        let input = output::Input {
            root: &self.directory,
            found: &found,
            facts: &facts,
            graph: &graph,
            built_in: output::BuiltIn::read(&self.directory),
            duplicates: self.duplicates,
            text_only,
        };
        let mut groups = [GroupState::default(); 4];
        if use_cache {
            let [list, fields] = &input.built_in;
            let sums = digest::sums(&found, &facts, &graph, [&list.bytes, &fields.bytes]);
            for (index, (state, sum)) in groups.iter_mut().zip(sums).enumerate() {
                let (Some(names), Some(store)) = (digest::GROUPS.get(index), store) else { continue };
                state.sum = sum;
                state.stays = !self.duplicates
                    && kept.get(index).is_some_and(|kept| {
                        kept.sum == sum
                            && kept
                                .stamps
                                .iter()
                                .zip(*names)
                                .all(|(stamp, name)| store.stamp(name) == Some(*stamp))
                    });
            }
        }
        let threads = self.threads.is_none_or(|threads| threads.get() > 1) && found.len() > 500;
        let wanted = groups.map(|group| !group.stays);
        let (files, silent) = output::make(&input, wanted, threads, &mut |note| observer.note(note))
            .map_err(DepmodError::Build)?;
        groups.iter_mut().zip(silent).for_each(|(group, silent)| group.silent = silent);
        let same = facts.cached == found.len() && known == found.len();
        let all_stays = same && groups.iter().all(|group| group.stays);
        let keep = (use_cache && !text_only && !all_stays).then(|| Keep {
            cache: cache::write(&found, &facts, seeds),
            changed: !same,
            groups: kept,
        });
        Ok(Indexes { files, modules: found.len(), cached: facts.cached, groups, keep })
    }

    fn path(&self, found: &Found) -> PathBuf {
        self.directory.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&found.path))
    }

    fn find(&self, observer: &mut dyn Observer) -> Result<Vec<Found>, DepmodError> {
        use std::os::unix::ffi::OsStrExt;
        let Some(modules) = &self.modules else {
            return Walk::search(&self.directory, &self.rules, &mut |note| observer.note(note)).map_err(
                |errno| {
                    observer.note(Note::OpenDirectory(self.directory.clone(), errno));
                    DepmodError::Search(self.directory.clone(), errno)
                },
            );
        };
        let mut found: Vec<Found> = Vec::new();
        for path in modules {
            let metadata = std::fs::metadata(path);
            metadata.map_err(|error| DepmodError::Module(path.clone(), sections::errno_of(&error)))?;
            let below = path.strip_prefix(&self.directory).unwrap_or(path);
            let new = Found::new(below.as_os_str().as_bytes().to_vec());
            if found.iter().any(|other| other.name == new.name) {
                return Err(DepmodError::Module(path.clone(), Errno::EEXIST));
            }
            found.push(new);
        }
        Ok(found)
    }

    /// The contents of `modules.order`, if it is there and sound.
    fn modules_order(&self, observer: &mut dyn Observer) -> Option<Vec<u8>> {
        let name = "modules.order";
        match std::fs::read(self.directory.join(name)) {
            Ok(text) if text.last().is_none_or(|byte| *byte == b'\n') => Some(text),
            Ok(text) => {
                let line = text.split(|byte| *byte == b'\n').count();
                observer.note(Note::OrderCorrupted(self.directory.join(name), line));
                None
            }
            Err(error) => {
                observer.note(Note::Missing(name, self.directory.clone(), sections::errno_of(&error)));
                None
            }
        }
    }
}
