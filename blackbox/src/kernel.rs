//! A kernel made up: which modules are loaded, what it answers, and the files in which it shows that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use lkm_module::elf::Elf;
use lkm_module::modinfo::Modinfo;
use lkm_tree::compress;
use lkm_tree::compress::Compression;

/// Numbers of Linux's errors.
pub(crate) mod errno {
    pub(crate) const EPERM: i64 = 1;
    pub(crate) const ENOENT: i64 = 2;
    pub(crate) const ENOEXEC: i64 = 8;
    pub(crate) const EAGAIN: i64 = 11;
    pub(crate) const ENOMEM: i64 = 12;
    pub(crate) const EFAULT: i64 = 14;
    pub(crate) const EBUSY: i64 = 16;
    pub(crate) const EEXIST: i64 = 17;
    pub(crate) const ENODEV: i64 = 19;
    pub(crate) const EINVAL: i64 = 22;
    pub(crate) const ENOSYS: i64 = 38;
    pub(crate) const EOPNOTSUPP: i64 = 95;
}

use errno::*;

/// The symbol that the kernel itself exports.
pub(crate) const KERNEL_SYMBOL: &str = "kernel_fn";
/// Its CRC.
pub(crate) const KERNEL_CRC: u32 = 0x0cafe123;

const IGNORE_MODVERSIONS: u64 = 1;
const IGNORE_VERMAGIC: u64 = 2;
const COMPRESSED_FILE: u64 = 4;

/// A module that is loaded.
#[derive(Clone, Debug)]
struct Loaded {
    name: String,
    size: usize,
    /// References that are not of other modules.
    held: u32,
    depends: Vec<String>,
    /// It came without an exit function.
    permanent: bool,
}

/// The kernel of one case.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// What `uname` gives as release.
    pub(crate) release: &'static str,
    /// `finit_module` exists.
    pub(crate) finit: bool,
    /// It decompresses modules, and says so in sysfs.
    pub(crate) decompresses: bool,
    /// Errors that loading the module of that name gives.
    pub(crate) refuses: BTreeMap<&'static str, i64>,
    /// Errors that unloading it gives.
    pub(crate) keeps: BTreeMap<&'static str, i64>,
    /// `/proc` and `/sys` are there.
    pub(crate) mounted: bool,
    loaded: Vec<Loaded>,
    /// Every call that reached the kernel, with its result.
    pub(crate) calls: Vec<String>,
}

impl Default for Kernel {
    fn default() -> Kernel {
        Kernel {
            release: crate::fixture::RELEASE,
            finit: true,
            decompresses: false,
            refuses: BTreeMap::new(),
            keeps: BTreeMap::new(),
            mounted: true,
            loaded: Vec::new(),
            calls: Vec::new(),
        }
    }
}

impl Kernel {
    /// Puts a module in place without a call.
    pub(crate) fn preload(&mut self, name: &str, held: u32, depends: &[&str]) {
        let depends = depends.iter().map(|&name| name.to_owned()).collect();
        self.loaded.push(Loaded { name: name.to_owned(), size: 16384, held, depends, permanent: false });
    }

    /// The module cannot be unloaded.
    pub(crate) fn make_permanent(&mut self, name: &str) {
        if let Some(module) = self.loaded.iter_mut().find(|module| module.name == name) {
            module.permanent = true;
        }
    }

    /// Names of what is loaded, oldest first.
    pub(crate) fn loaded(&self) -> Vec<String> {
        self.loaded.iter().map(|module| module.name.clone()).collect()
    }

    fn users(&self, name: &str) -> Vec<&str> {
        let uses = |module: &&Loaded| module.depends.iter().any(|other| other == name);
        self.loaded.iter().filter(uses).map(|module| module.name.as_str()).collect()
    }

    /// `finit_module` with what the descriptor leads to.
    pub(crate) fn finit_module(&mut self, file: io::Result<Vec<u8>>, parameters: &[u8], flags: u64) -> i64 {
        if !self.finit {
            return -ENOSYS;
        }
        let result = match file {
            Ok(bytes) if flags & COMPRESSED_FILE != 0 => match self.decompress(&bytes) {
                Ok(bytes) => self.load(&bytes, parameters, flags),
                Err(error) => (String::from("?"), -error),
            },
            Ok(bytes) if bytes.is_empty() => (String::from("?"), -EINVAL),
            Ok(bytes) => self.load(&bytes, parameters, flags),
            Err(error) => (String::from("?"), -i64::from(error.raw_os_error().unwrap_or(EINVAL as i32))),
        };
        self.note("load", result, parameters, flags)
    }

    /// `init_module`.
    pub(crate) fn init_module(&mut self, bytes: &[u8], parameters: &[u8]) -> i64 {
        let result = self.load(bytes, parameters, 0);
        self.note("load", result, parameters, 0)
    }

    /// A call with an address where nothing is.
    pub(crate) fn fault(&mut self, call: &str) -> i64 {
        self.calls.push(format!("{call} of a bad address = -{EFAULT}"));
        -EFAULT
    }

    fn note(&mut self, verb: &str, (name, result): (String, i64), parameters: &[u8], flags: u64) -> i64 {
        let mut call = format!("{verb} {name}");
        for (flag, word) in [(IGNORE_MODVERSIONS, "any-modversions"), (IGNORE_VERMAGIC, "any-vermagic")] {
            if flags & flag != 0 {
                call.push_str(&format!(" {word}"));
            }
        }
        call.push_str(&format!(" \"{}\" = {result}", parameters.escape_ascii()));
        self.calls.push(call);
        result
    }

    fn decompress(&self, bytes: &[u8]) -> Result<Vec<u8>, i64> {
        match Compression::of(bytes) {
            _ if !self.decompresses => Err(EOPNOTSUPP),
            Compression::None => Err(EINVAL),
            _ => compress::decompress(bytes, 1 << 24).map(|bytes| bytes.into_owned()).map_err(|_| EINVAL),
        }
    }

    fn load(&mut self, bytes: &[u8], parameters: &[u8], flags: u64) -> (String, i64) {
        let Ok(elf) = Elf::parse(bytes) else { return (String::from("?"), -ENOEXEC) };
        let info = Modinfo::of(&elf);
        let text = |tag: &[u8]| {
            info.get(tag).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let name = text(b"name");
        if name.is_empty() {
            return (String::from("?"), -ENOEXEC);
        }
        // Without the tag it is a forced load.
        let vermagic = text(b"vermagic");
        let stranger = !vermagic.is_empty() && vermagic.split(' ').next() != Some(self.release);
        if flags & IGNORE_VERMAGIC == 0 && stranger {
            return (name, -ENOEXEC);
        }
        if flags & IGNORE_MODVERSIONS == 0 && has_wrong_version(&elf) {
            return (name, -EINVAL);
        }
        if self.loaded.iter().any(|module| module.name == name) {
            return (name, -EEXIST);
        }
        if let Some(error) = self.refuses.get(name.as_str()) {
            return (name, -error);
        }
        if parameters.windows(7).any(|window| window == b"invalid") {
            return (name, -EINVAL);
        }
        let depends = text(b"depends");
        let depends: Vec<String> =
            depends.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if depends.iter().any(|needed| !self.loaded.iter().any(|module| module.name == *needed)) {
            return (name, -ENOENT);
        }
        self.loaded.push(Loaded {
            name: name.clone(),
            size: bytes.len(),
            held: 0,
            depends,
            permanent: false,
        });
        (name, 0)
    }

    /// `delete_module`.
    pub(crate) fn delete_module(&mut self, name: &str, flags: u64) -> i64 {
        const O_NONBLOCK: u64 = 0o4000;
        const O_TRUNC: u64 = 0o1000;
        let result = match self.loaded.iter().position(|module| module.name == name) {
            None => -ENOENT,
            Some(_) if self.keeps.contains_key(name) => -self.keeps.get(name).copied().unwrap_or(EBUSY),
            Some(_) if !self.users(name).is_empty() => -EAGAIN,
            Some(at) if self.loaded[at].permanent && flags & O_TRUNC == 0 => -EBUSY,
            Some(at) if self.loaded[at].held > 0 && flags & O_TRUNC == 0 => -EAGAIN,
            Some(at) => {
                self.loaded.remove(at);
                0
            }
        };
        let mut call = format!("unload {name}");
        for (flag, word) in [(O_NONBLOCK, "nonblock"), (O_TRUNC, "force")] {
            if flags & flag != 0 {
                call.push_str(&format!(" {word}"));
            }
        }
        self.calls.push(format!("{call} = {result}"));
        result
    }

    /// Writes `/proc` and `/sys` of a root.
    pub(crate) fn show(&self, root: &Path) -> io::Result<()> {
        if !self.mounted {
            return Ok(());
        }
        let mut list = String::new();
        let sys = root.join("sys/module");
        fs::create_dir_all(&sys)?;
        if let Ok(entries) = fs::read_dir(&sys) {
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let builtin =
                    entry.path().join("uevent").exists() && !entry.path().join("initstate").exists();
                if entry.file_type()?.is_dir()
                    && !builtin
                    && !self.loaded.iter().any(|module| *module.name == *name)
                {
                    fs::remove_dir_all(entry.path())?;
                }
            }
        }
        if self.decompresses {
            fs::write(root.join("sys/module/compression"), "xz\n")?;
        }
        for module in self.loaded.iter().rev() {
            let users = self.users(&module.name);
            let count = users.len() + module.held as usize + usize::from(module.permanent);
            let mut shown: String = users.iter().map(|user| format!("{user},")).collect();
            if module.permanent {
                shown.push_str("[permanent],");
            }
            if shown.is_empty() {
                shown.push('-');
            }
            list.push_str(&format!(
                "{} {} {count} {shown} Live 0x0000000000000000\n",
                module.name, module.size
            ));
            let directory = sys.join(&module.name);
            let holders = directory.join("holders");
            if holders.exists() {
                fs::remove_dir_all(&holders)?;
            }
            fs::create_dir_all(&holders)?;
            for user in users {
                std::os::unix::fs::symlink(format!("../../{user}"), holders.join(user))?;
            }
            fs::write(directory.join("initstate"), "live\n")?;
            fs::write(directory.join("refcnt"), format!("{count}\n"))?;
            fs::write(directory.join("coresize"), format!("{}\n", module.size))?;
        }
        fs::create_dir_all(root.join("proc"))?;
        fs::write(root.join("proc/modules"), list)
    }
}

/// Whether `__versions` knows another CRC of the symbol that this kernel exports.
fn has_wrong_version(elf: &Elf<'_>) -> bool {
    let Some(data) = elf.find_sec(b"__versions").and_then(|section| elf.section_data(section)) else {
        return false;
    };
    data.chunks_exact(64).any(|record| {
        let (crc, name) = record.split_at(8);
        name.starts_with(format!("{KERNEL_SYMBOL}\0").as_bytes())
            && crc != u64::from(KERNEL_CRC).to_le_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Module;

    #[test]
    fn what_needs_another_module_waits_for_it_and_holds_it() {
        let base = Module::new("base").file();
        let user = Module::new("user").depends("base").file();
        let mut kernel = Kernel::default();
        assert_eq!(kernel.init_module(&user, b""), -ENOENT);
        assert_eq!(kernel.init_module(&base, b"a=b"), 0);
        assert_eq!(kernel.init_module(&base, b""), -EEXIST);
        assert_eq!(kernel.finit_module(Ok(user), b"", IGNORE_VERMAGIC), 0);
        assert_eq!(kernel.loaded(), ["base", "user"]);
        assert_eq!(kernel.delete_module("base", 0o4000), -EAGAIN);
        assert_eq!(kernel.delete_module("user", 0o4000), 0);
        assert_eq!(kernel.delete_module("base", 0o5000), 0);
        assert_eq!(kernel.delete_module("base", 0), -ENOENT);
        let expected = [
            "load user \"\" = -2",
            "load base \"a=b\" = 0",
            "load base \"\" = -17",
            "load user any-vermagic \"\" = 0",
            "unload base nonblock = -11",
            "unload user nonblock = 0",
            "unload base nonblock force = 0",
            "unload base = -2",
        ];
        assert_eq!(kernel.calls, expected);
    }

    #[test]
    fn another_kernels_module_and_what_is_none_are_refused() {
        let mut kernel = Kernel { release: "5.0", ..Kernel::default() };
        let file = Module::new("base").file();
        assert_eq!(kernel.init_module(&file, b""), -ENOEXEC);
        assert_eq!(kernel.finit_module(Ok(file.clone()), b"", IGNORE_VERMAGIC), 0);
        assert_eq!(kernel.init_module(b"text", b""), -ENOEXEC);
        assert_eq!(kernel.finit_module(Ok(Vec::new()), b"", 0), -EINVAL);
        assert_eq!(kernel.finit_module(Ok(file), b"", COMPRESSED_FILE), -EOPNOTSUPP);
        kernel.finit = false;
        assert_eq!(kernel.finit_module(Ok(Vec::new()), b"", 0), -ENOSYS);
    }
}
