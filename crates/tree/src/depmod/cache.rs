//! What was read last time: the facts of every module, beside the indexes.
//!
//! ```text
//! magic and version (8 bytes), check sum of the rest (u64)
//! groups of index files: sum (u64), for each file size, inode, modified, changed (u64)
//! six counts (u32): names, bytes of names, bytes of fields, exports, imports, modules
//! names: their bytes, then where each ends (u32)
//! fields, exports (u32), imports (u32)
//! modules: size, inode, modified, changed (u64); error (u16); lengths of its fields, exports, imports, path (u32); path
//! ```
//!
//! All numbers are little-endian. A file with another magic or check sum, or in which a length does not fit, is none: the
//! modules are read again.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use lkm_module::Errno;

use super::digest::GROUPS;
use super::digest::Group;
use super::digest::Sum;
use super::names::Names;
use super::names::Seeds;
use super::part::Part;
use super::part::WEAK;
use super::scan::Facts;
use super::stamp::Stamp;
use super::walk::Found;
use crate::file::LIMIT;

/// Name of the file. Packages that remove a kernel remove `modules.*.bin` along with it.
pub(super) const NAME: &str = "modules.lkm-cache.bin";

const MAGIC: [u8; 8] = *b"lkmfact2";

/// Facts of last time.
pub(super) struct Cache {
    pub(super) part: Part,
    /// What the index files were made of.
    pub(super) groups: Vec<Group>,
    /// Paths, whose numbers are those of the records.
    paths: Names,
}

impl Cache {
    /// Reads the cache of a directory, if it has a sound one.
    pub(super) fn load(directory: &Path, seeds: Seeds) -> Option<Cache> {
        let file = File::open(directory.join(NAME)).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() > LIMIT {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()? + 1);
        file.take(LIMIT).read_to_end(&mut bytes).ok()?;
        Cache::parse(&bytes, seeds)
    }

    pub(super) fn parse(bytes: &[u8], seeds: Seeds) -> Option<Cache> {
        let mut rest = Reader(bytes.strip_prefix(&MAGIC)?);
        if rest.u64()? != checksum(rest.0) {
            return None;
        }
        let mut groups = Vec::new();
        for names in GROUPS {
            let sum = rest.u64()?;
            let stamps = names.iter().map(|_| rest.stamp()).collect::<Option<Vec<_>>>()?;
            groups.push(Group { sum, stamps });
        }
        let mut count = || rest.u32().and_then(|count| usize::try_from(count).ok());
        let (names, name_bytes, fields) = (count()?, count()?, count()?);
        let (exports, imports, modules) = (count()?, count()?, count()?);
        let mut part = Part::new(seeds);
        let text = rest.take(name_bytes)?;
        let ends = rest.take(names.checked_mul(4)?)?;
        let mut start = 0;
        for end in ends.as_chunks::<4>().0 {
            let end = u32::from_le_bytes(*end) as usize;
            let (name, hash) = seeds.string(text.get(start..end)?);
            part.names.intern(name, hash);
            start = end;
        }
        // Two of one name would shift all that follow.
        if part.names.len() != names {
            return None;
        }
        let mut fields = Reader(rest.take(fields)?);
        let mut exports = Reader(rest.take(exports.checked_mul(4)?)?);
        let mut imports = Reader(rest.take(imports.checked_mul(4)?)?);
        let mut paths = Names::new(seeds);
        for module in 0..modules {
            let stamp = rest.stamp()?;
            let error = u16::from_le_bytes(*rest.take(2)?.first_chunk()?);
            let mut length = || rest.u32().and_then(|length| usize::try_from(length).ok());
            let lengths = (length()?, length()?, length()?, length()?);
            let (path, hash) = seeds.string(rest.take(lengths.3)?);
            if paths.intern(path, hash) as usize != module {
                return None;
            }
            part.begin(stamp, (error != 0).then_some(Errno::from_raw(error)));
            part.add_info(fields.take(lengths.0)?);
            let known = |number: u32| ((number & !WEAK) as usize) < names;
            for number in exports.take(lengths.1.checked_mul(4)?)?.as_chunks::<4>().0 {
                let number = u32::from_le_bytes(*number);
                part.add_export(known(number).then_some(number)?);
            }
            for number in imports.take(lengths.2.checked_mul(4)?)?.as_chunks::<4>().0 {
                let number = u32::from_le_bytes(*number);
                part.add_import(known(number).then_some(number)?);
            }
            part.end();
        }
        rest.0.is_empty().then_some(Cache { part, groups, paths })
    }

    /// Number of the record of a module with this path.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        let (text, hash) = self.paths.seeds.string(path);
        self.paths.find(text, hash).map(|number| number as usize)
    }

    /// State in which the file of a record was read.
    pub(super) fn stamp(&self, record: usize) -> Option<Stamp> {
        self.part.record(record).map(|record| record.stamp)
    }

    /// How many modules it knows.
    pub(super) fn len(&self) -> usize {
        self.part.records.len()
    }
}

fn add_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    for word in [stamp.size, stamp.inode, stamp.modified as u64, stamp.changed as u64] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

/// The bytes of a cache file with the facts of these modules. What is kept of the index files comes in later, by
/// [`set_groups`].
pub(super) fn write(found: &[Found], facts: &Facts, seeds: Seeds) -> Vec<u8> {
    let mut names = Names::new(seeds);
    // Numbers of the parts' names in `names`.
    let mut numbers: Vec<Vec<Option<u32>>> =
        facts.parts.iter().map(|part| vec![None; part.names.len()]).collect();
    let (mut fields, mut exports, mut imports, mut modules) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut count = 0_u32;
    for (module, found) in found.iter().enumerate() {
        let Some((part, record)) = facts.of(module) else { continue };
        let Some(numbers) = facts.places.get(module).and_then(|place| numbers.get_mut(place.0)) else {
            continue;
        };
        count += 1;
        add_stamp(&mut modules, record.stamp);
        modules.extend_from_slice(&record.error.map_or(0, Errno::raw).to_le_bytes());
        let (own_fields, own_exports, own_imports) =
            (part.info(record), part.exports(record), part.imports(record));
        for length in [own_fields.len(), own_exports.len(), own_imports.len(), found.path.len()] {
            modules.extend_from_slice(&(length as u32).to_le_bytes());
        }
        modules.extend_from_slice(&found.path);
        fields.extend_from_slice(own_fields);
        let mut renumber = |number: u32| {
            let local = number & !WEAK;
            let known = numbers.get(local as usize).copied().flatten();
            let global = known.unwrap_or_else(|| {
                let new = names.intern(part.names.get(local), part.names.hash(local));
                if let Some(to) = numbers.get_mut(local as usize) {
                    *to = Some(new);
                }
                new
            });
            (global | (number & WEAK)).to_le_bytes()
        };
        own_exports.iter().for_each(|number| exports.extend_from_slice(&renumber(*number)));
        own_imports.iter().for_each(|number| imports.extend_from_slice(&renumber(*number)));
    }
    let mut out = Vec::with_capacity(
        64 + names.size() + names.len() * 4 + fields.len() + exports.len() + imports.len() + modules.len(),
    );
    out.extend_from_slice(&MAGIC);
    out.resize(HEADER, 0);
    let sizes = [names.len(), names.size(), fields.len(), exports.len() / 4, imports.len() / 4];
    sizes.iter().for_each(|size| out.extend_from_slice(&(*size as u32).to_le_bytes()));
    out.extend_from_slice(&count.to_le_bytes());
    let mut end = 0_u32;
    let ends: Vec<u8> = (0..names.len() as u32)
        .flat_map(|number| {
            out.extend_from_slice(names.get(number));
            end += names.get(number).len() as u32;
            end.to_le_bytes()
        })
        .collect();
    for piece in [&ends, &fields, &exports, &imports, &modules] {
        out.extend_from_slice(piece);
    }
    seal(&mut out);
    out
}

/// Bytes before the counts.
const HEADER: usize = {
    let mut files = 0;
    let mut group = 0;
    while group < GROUPS.len() {
        files += GROUPS[group].len();
        group += 1;
    }
    16 + GROUPS.len() * 8 + files * 32
};

/// Puts in what is kept of the index files.
pub(super) fn set_groups(cache: &mut [u8], groups: &[Group]) {
    let mut bytes = Vec::new();
    for group in groups {
        bytes.extend_from_slice(&group.sum.to_le_bytes());
        group.stamps.iter().for_each(|stamp| add_stamp(&mut bytes, *stamp));
    }
    if let Some(to) = cache.get_mut(16..HEADER)
        && to.len() == bytes.len()
    {
        to.copy_from_slice(&bytes);
        seal(cache);
    }
}

fn seal(cache: &mut [u8]) {
    let sum = checksum(cache.get(16..).unwrap_or(&[]));
    if let Some(to) = cache.get_mut(8..16) {
        to.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Tells damaged bytes from sound ones; not meant against those who forge them.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.value()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn stamp(&mut self) -> Option<Stamp> {
        Some(Stamp {
            size: self.u64()?,
            inode: self.u64()?,
            modified: self.u64()? as i64,
            changed: self.u64()? as i64,
        })
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two modules in two parts, as threads leave them.
    fn sample() -> (Vec<Found>, Facts, Seeds) {
        let seeds = Seeds::random();
        let part = |names: [&str; 3], inode: u64, info: &[u8]| {
            let mut part = Part::new(seeds);
            let numbers = names.map(|name| {
                let (name, hash) = seeds.string(name.as_bytes());
                part.names.intern(name, hash)
            });
            part.begin(Stamp { size: 1, inode, modified: -5, changed: 7 }, None);
            part.add_info(info);
            part.add_export(numbers[0]);
            part.add_import(numbers[1]);
            part.add_import(numbers[2] | WEAK);
            part.end();
            part
        };
        let parts = vec![part(["a", "b", "c"], 10, b"alias=x\0"), part(["b", "c", "a"], 11, b"")];
        let found = vec![Found::new(b"kernel/p.ko".to_vec()), Found::new(b"kernel/q.ko".to_vec())];
        (found, Facts { parts, places: vec![(1, 0), (0, 0)], cached: 0 }, seeds)
    }

    #[test]
    fn what_was_written_is_found_again() {
        let (found, facts, seeds) = sample();
        let bytes = write(&found, &facts, seeds);
        let cache = Cache::parse(&bytes, seeds).unwrap();
        assert_eq!(cache.len(), 2);
        let index = cache.find(b"kernel/q.ko").unwrap();
        assert_eq!(cache.stamp(index).unwrap(), Stamp { size: 1, inode: 10, modified: -5, changed: 7 });
        let record = cache.part.record(index).unwrap();
        assert_eq!(cache.part.info(record), b"alias=x\0");
        let names = |numbers: &[u32]| -> Vec<(String, bool)> {
            let name = |number: &u32| {
                let text = String::from_utf8(cache.part.names.get(number & !WEAK).to_vec()).unwrap();
                (text, number & WEAK != 0)
            };
            numbers.iter().map(name).collect()
        };
        assert_eq!(names(cache.part.exports(record)), [("a".into(), false)]);
        assert_eq!(names(cache.part.imports(record)), [("b".into(), false), ("c".into(), true)]);
        assert_eq!(cache.find(b"kernel/r.ko"), None);
    }

    #[test]
    fn what_is_kept_of_index_files_comes_in_later() {
        let (found, facts, seeds) = sample();
        let mut bytes = write(&found, &facts, seeds);
        let stamp = Stamp { size: 9, inode: 8, modified: 7, changed: 6 };
        let groups: Vec<Group> =
            GROUPS.iter().map(|names| Group { sum: 5, stamps: vec![stamp; names.len()] }).collect();
        set_groups(&mut bytes, &groups);
        assert_eq!(Cache::parse(&bytes, seeds).unwrap().groups, groups);
    }

    #[test]
    fn a_damaged_cache_is_none() {
        let (found, facts, seeds) = sample();
        let bytes = write(&found, &facts, seeds);
        for cut in 0..bytes.len() {
            assert!(Cache::parse(&bytes[..cut], seeds).is_none(), "cut to {cut}");
        }
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x20;
            assert!(Cache::parse(&damaged, seeds).is_none(), "byte {position}");
        }
        assert!(Cache::parse(&[bytes.clone(), vec![0]].concat(), seeds).is_none());
    }

    proptest! {
        #[test]
        fn forged_contents_are_read_without_harm(edits in prop::collection::vec((16usize..700, any::<u8>()), 1..9)) {
            let (found, facts, seeds) = sample();
            let mut bytes = write(&found, &facts, seeds);
            for (position, byte) in edits {
                if let Some(place) = bytes.get_mut(position) {
                    *place = byte;
                }
            }
            let sum = checksum(&bytes[16..]);
            bytes[8..16].copy_from_slice(&sum.to_le_bytes());
            let _ = Cache::parse(&bytes, seeds);
        }
    }
}
