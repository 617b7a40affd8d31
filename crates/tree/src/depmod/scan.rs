//! Reading the facts of many modules, on all processors.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use lkm_module::Errno;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;

use super::cache::Cache;
use super::names::Seeds;
use super::part::Part;
use super::part::Record;
use super::part::Scratch;
use super::part::Wanted;
use super::sections::Memory;
use super::sections::OnDisk;
use super::sections::errno_of;
use super::stamp::Stamp;
use super::unpack::Unpacker;
use super::walk::Found;
use crate::compress::Compression;
use crate::file::LIMIT;

/// Modules that a thread takes at a time.
const BATCH: usize = 16;

/// The facts of all modules that were found.
pub(super) struct Facts {
    /// What each thread gathered, and the cache.
    pub(super) parts: Vec<Part>,
    /// For each module its part and its record there.
    pub(super) places: Vec<(usize, usize)>,
    /// Modules whose facts came from the cache.
    pub(super) cached: usize,
}

impl Facts {
    /// Part and record of a module.
    pub(super) fn of(&self, module: usize) -> Option<(&Part, &Record)> {
        let &(part, record) = self.places.get(module)?;
        let part = self.parts.get(part)?;
        Some((part, part.record(record)?))
    }
}

/// What all threads share.
struct Job<'a> {
    root: BorrowedFd<'a>,
    found: &'a [Found],
    /// The order in which files are read.
    order: Option<Vec<u32>>,
    cache: Option<&'a Cache>,
    wanted: Wanted,
    now: SystemTime,
    next: AtomicUsize,
    done: AtomicUsize,
}

/// Where the facts of a module are.
enum Place {
    Cached(usize),
    Own(usize),
}

/// What one thread has.
struct Worker {
    part: Part,
    places: Vec<(usize, Place)>,
    scratch: Scratch,
    packed: Vec<u8>,
    buffer: Vec<u8>,
    unpacker: Unpacker,
}

/// Reads the facts of all modules; those that the cache knows and whose files are unchanged come from there.
pub(super) fn scan(
    root: &Path,
    found: &[Found],
    cache: Option<Cache>,
    seeds: Seeds,
    threads: Option<NonZeroUsize>,
    wanted: Wanted,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Facts, Errno> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(errno)?;
    let job = Job {
        root: std::os::fd::AsFd::as_fd(&root),
        found,
        order: largest_first(&root, found),
        cache: cache.as_ref(),
        wanted,
        now: SystemTime::now(),
        next: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
    };
    let processors =
        threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let threads = processors.min(found.len() / BATCH + 1);
    let workers = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map_while(|_| {
                let work = || Worker::new(seeds).run(&job, &mut |_, _| {});
                std::thread::Builder::new().spawn_scoped(scope, work).ok()
            })
            .collect();
        let own = Worker::new(seeds).run(&job, progress);
        // A thread that panicked has lost its modules; they are read again below.
        let others = others.into_iter().filter_map(|thread| thread.join().ok());
        std::iter::once(own).chain(others).collect::<Vec<_>>()
    });
    progress(found.len(), found.len());
    let mut facts = Facts { parts: Vec::new(), places: vec![(usize::MAX, 0); found.len()], cached: 0 };
    let cache_part = workers.len();
    for (part, worker) in workers.into_iter().enumerate() {
        for (module, place) in worker.places {
            let place = match place {
                Place::Own(record) => (part, record),
                Place::Cached(record) => {
                    facts.cached += 1;
                    (cache_part, record)
                }
            };
            if let Some(to) = facts.places.get_mut(module) {
                *to = place;
            }
        }
        facts.parts.push(worker.part);
    }
    facts.parts.extend(cache.map(|cache| cache.part));
    Ok(facts)
}

fn errno(error: rustix::io::Errno) -> Errno {
    u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_raw)
}

/// The largest files first if they have to be unpacked: one that comes last keeps a single thread busy.
fn largest_first(root: &OwnedFd, found: &[Found]) -> Option<Vec<u32>> {
    if !found.iter().any(|found| !found.path.ends_with(b".ko")) {
        return None;
    }
    let size = |found: &Found| {
        rustix::fs::statat(root, found.path.as_slice(), AtFlags::empty()).map_or(0, |stat| stat.st_size)
    };
    let mut order: Vec<(i64, u32)> =
        found.iter().enumerate().map(|(index, found)| (-size(found), index as u32)).collect();
    order.sort_unstable();
    Some(order.into_iter().map(|(_, index)| index).collect())
}

impl Worker {
    fn new(seeds: Seeds) -> Worker {
        Worker {
            part: Part::new(seeds),
            places: Vec::new(),
            scratch: Scratch::default(),
            packed: Vec::new(),
            buffer: Vec::new(),
            unpacker: Unpacker::default(),
        }
    }

    fn run(mut self, job: &Job<'_>, progress: &mut dyn FnMut(usize, usize)) -> Worker {
        let count = job.found.len();
        loop {
            let start = job.next.fetch_add(BATCH, Ordering::Relaxed);
            if start >= count {
                return self;
            }
            let batch = start..count.min(start + BATCH);
            let length = batch.len();
            for index in batch {
                let index = match &job.order {
                    Some(order) => order.get(index).map_or(index, |index| *index as usize),
                    None => index,
                };
                if let Some(found) = job.found.get(index) {
                    let place = self.one(job, found);
                    self.places.push((index, place));
                }
            }
            let done = job.done.fetch_add(length, Ordering::Relaxed) + length;
            progress(done, count);
        }
    }

    fn one(&mut self, job: &Job<'_>, found: &Found) -> Place {
        if let Some(record) = job.cache.and_then(|cache| cache.find(&found.path))
            && let Ok(stat) = rustix::fs::statat(job.root, found.path.as_slice(), AtFlags::empty())
            && job.cache.is_some_and(|cache| cache.stamp(record) == Some(Stamp::of(&stat)))
        {
            return Place::Cached(record);
        }
        let here = self.part.records.len();
        if let Err(errno) = self.read(job, found) {
            self.part.records.truncate(here);
            self.part.add_unreadable(Stamp::default(), errno);
        }
        Place::Own(here)
    }

    fn read(&mut self, job: &Job<'_>, found: &Found) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file =
            rustix::fs::openat(job.root, found.path.as_slice(), flags, Mode::empty()).map_err(errno)?;
        let stat: Stat = rustix::fs::fstat(&file).map_err(errno)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::EINVAL);
        }
        let mut stamp = Stamp::of(&stat);
        let size = stamp.size;
        if !stamp.is_settled(job.now) {
            // It must not be taken for known next time.
            stamp = Stamp::default();
        }
        if size == 0 {
            return Err(Errno::EINVAL);
        }
        let file = File::from(file);
        let mut header = [0; 64];
        let header = header.get_mut(..usize::try_from(size).unwrap_or(64).min(64)).unwrap_or(&mut []);
        file.read_exact_at(header, 0).map_err(|error| errno_of(&error))?;
        if Compression::of(header) == Compression::None {
            let mut source = OnDisk { file: &file, size, buffer: &mut self.buffer };
            self.part.read(stamp, header, &mut source, &mut self.scratch, job.wanted);
            return Ok(());
        }
        if size > LIMIT {
            return Err(Errno::EFBIG);
        }
        self.packed.clear();
        let mut limited = (&file).take(LIMIT);
        limited.read_to_end(&mut self.packed).map_err(|error| errno_of(&error))?;
        self.unpacker.unpack(&self.packed, &mut self.buffer)?;
        let bytes = self.buffer.as_slice();
        let header = bytes.get(..bytes.len().min(64)).unwrap_or(&[]);
        self.part.read(stamp, header, &mut Memory(bytes), &mut self.scratch, job.wanted);
        Ok(())
    }
}
