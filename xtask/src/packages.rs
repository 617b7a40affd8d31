//! Debian packages of any architecture, without touching the system: fetched by apt with lists of its own, verified, unpacked
//! into the cache.
//!
//! apt checks the archive's signatures and the hashes below them; the SHA-256 of each package is kept beside it and checked
//! again at every use.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sha2::Digest;
use sha2::Sha256;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::paths;
use crate::process;

/// The release of Debian that all packages come from.
const SUITE: &str = "bookworm";
/// The parts of a release that are asked: the release itself, its updates, its security updates.
const PARTS: [&str; 3] = ["", "-updates", "-security"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The newest of something is looked up in lists that are at most this old.
const LISTS_AGE: Duration = Duration::from_secs(6 * 3600);
/// A package that is in no list is looked for in new lists, unless these are this new.
const JUST_NOW: Duration = Duration::from_secs(60);
/// A mirror that is being updated has lists that do not match their hashes for a while.
const ATTEMPTS: u32 = 3;

/// An architecture of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// x86_64.
    Amd64,
    /// 32-bit ARM with hardware floating point.
    Armhf,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// Debian's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Armhf => "armhf",
            Arch::Arm64 => "arm64",
        }
    }
}

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Whose list it is looked up in; a package for all architectures is in each.
    pub arch: Arch,
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision.
    pub version: String,
}

impl Package {
    /// The package of that name and version.
    pub(crate) fn new(arch: Arch, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { arch, name: name.into(), version: version.into() }
    }

    /// The package in that version, or, if the archive has dropped it, in its newest: said aloud.
    pub(crate) fn unpack_or_newest(&self) -> Result<PathBuf> {
        let error = match self.unpack() {
            Ok(root) => return Ok(root),
            Err(error) => error,
        };
        let lists = Lists::open(self.arch)?;
        let newest = lists.versions(&self.name)?.into_iter().find(|version| *version != self.version);
        let Some(newest) = newest else { return Err(error) };
        let newest = Package::new(self.arch, self.name.as_str(), newest);
        println!("    {self} is not to be had; its newest version is taken: {newest}");
        newest.unpack()
    }

    /// The verified .deb in the cache, fetched if it is not there.
    pub(crate) fn fetch(&self) -> Result<PathBuf> {
        let dir = cache(self.arch)?.join("debs");
        paths::create(&dir)?;
        let deb = dir.join(format!("{}.deb", self.file_stem()));
        if verify(&deb)? {
            return Ok(deb);
        }
        self.download(&dir, &deb).with_context(|| format!("cannot fetch {self}"))?;
        Ok(deb)
    }

    /// The directory with the package's files, fetched and unpacked if it is not there.
    pub(crate) fn unpack(&self) -> Result<PathBuf> {
        let deb = self.fetch()?;
        let dir = cache(self.arch)?.join(self.file_stem());
        unpack(&[deb], &dir)?;
        Ok(dir)
    }

    /// Name and version as part of a file's name.
    pub(crate) fn file_stem(&self) -> String {
        format!("{}_{}", self.name, self.version.replace([':', '/'], "%"))
    }

    fn download(&self, dir: &Path, deb: &Path) -> Result<()> {
        let lists = Lists::open(self.arch)?;
        let record = lists.show(&self.name, &self.version)?;
        let expected = field(&record, "SHA256").context("the package list gives no SHA-256")?.to_owned();
        println!("    fetching {self}");
        let partial = dir.join(format!("{}.partial-{}", self.file_stem(), std::process::id()));
        paths::create(&partial)?;
        let wanted = format!("{}={}", self.name, self.version);
        let fetched =
            process::output(lists.command("apt-get").args(["download", &wanted]).current_dir(&partial))
                .and_then(|_| single_file(&partial))
                .and_then(|file| {
                    let actual = sha256(&file)?;
                    if actual != expected {
                        return Err(Error::new(format!(
                            "its SHA-256 is {actual}, but the archive says {expected}"
                        )));
                    }
                    // The hash is in place before the package is: a package without its hash is fetched again.
                    let sum = hash_file(deb);
                    fs::write(&sum, &expected).with_context(|| format!("cannot write {}", sum.display()))?;
                    fs::rename(&file, deb).with_context(|| format!("cannot write {}", deb.display()))
                });
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        fetched
    }
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({})", self.name, self.version, self.arch.name())
    }
}

/// A Debian kernel as its package has it.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// What `uname -r` says on it.
    pub release: String,
    /// Its package.
    pub package: Package,
    /// The package's files.
    pub root: PathBuf,
}

impl Kernel {
    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The directory with its modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

/// A line of kernels: the version that the fixtures and the expected numbers belong to, and the package that leads to the newest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flavour {
    /// Its architecture.
    pub arch: Arch,
    /// The release that is taken as long as the archive has it.
    pub release: &'static str,
    /// The version of that release's packages.
    pub version: &'static str,
    /// The package whose dependency is the newest of the line.
    pub meta: &'static str,
}

/// Linux 6.1 for virtual machines on x86_64.
pub(crate) const CLOUD_AMD64: Flavour = Flavour {
    arch: Arch::Amd64,
    release: "6.1.0-56-cloud-amd64",
    version: "6.1.192-2",
    meta: "linux-image-cloud-amd64",
};

/// Linux 6.1 for ARMv7 boards.
pub(crate) const ARMMP: Flavour =
    Flavour { arch: Arch::Armhf, release: "6.1.0-50-armmp", version: "6.1.176-1", meta: "linux-image-armmp" };

/// Linux 6.1 for virtual machines on 64-bit ARM.
pub(crate) const CLOUD_ARM64: Flavour = Flavour {
    arch: Arch::Arm64,
    release: "6.1.0-56-cloud-arm64",
    version: "6.1.192-2",
    meta: "linux-image-cloud-arm64",
};

impl Flavour {
    /// The unpacked kernel: the pinned one, or the newest of its line, said aloud, when the archive has dropped that.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        let pinned = Package::new(self.arch, format!("linux-image-{}", self.release), self.version);
        let error = match pinned.unpack() {
            Ok(root) => return Ok(Kernel { release: self.release.to_owned(), package: pinned, root }),
            Err(error) => error,
        };
        let (package, release) = self.newest().map_err(|newest| {
            Error::new(format!("{error}\nand the newest of its line cannot be found either: {newest}"))
        })?;
        if package == pinned {
            return Err(error);
        }
        println!("    {pinned} is not to be had; the newest of its line is taken: {package}");
        let root = package.unpack()?;
        Ok(Kernel { release, package, root })
    }

    /// The newest kernel of the line, and its release.
    pub(crate) fn newest(&self) -> Result<(Package, String)> {
        let lists = Lists::open(self.arch)?;
        if !lists.fresh(LISTS_AGE) {
            lists.update()?;
        }
        let version = lists
            .versions(self.meta)?
            .into_iter()
            .next()
            .with_context(|| format!("there is no {}", self.meta))?;
        let record = lists.show(self.meta, &version)?;
        let depends = field(&record, "Depends").unwrap_or_default();
        let (name, version) = exact_dependency(depends, "linux-image-")
            .with_context(|| format!("{} depends on no exact kernel: {depends}", self.meta))?;
        Ok((Package::new(self.arch, format!("linux-image-{name}"), version), name.to_owned()))
    }
}

/// Unpacks packages together into a directory, unless that is there. It appears complete or not at all.
pub(crate) fn unpack(debs: &[PathBuf], dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().context("packages cannot be unpacked into the root directory")?;
    paths::create(parent)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let partial = parent.join(format!("{name}.partial-{}", std::process::id()));
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    for deb in debs {
        process::output(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&partial))
            .with_context(|| format!("cannot unpack {}", deb.display()))?;
    }
    match fs::rename(&partial, dir) {
        Err(error) if !dir.is_dir() => {
            Err(error).with_context(|| format!("cannot rename {} to {}", partial.display(), dir.display()))
        }
        // Someone else was faster: theirs holds the same.
        Err(_) => {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))
        }
        Ok(()) => Ok(()),
    }
}

/// Where packages of an architecture are kept.
fn cache(arch: Arch) -> Result<PathBuf> {
    Ok(paths::cache()?.join("deb").join(arch.name()))
}

/// The lines of a `sources.list` for the release: the archives that the system's own apt uses, or those that the environment names
/// (`LKM_DEBIAN_MIRROR`, and `LKM_DEBIAN_SECURITY_MIRROR` for the security updates).
fn sources() -> Result<String> {
    let signed = if Path::new(KEYRING).is_file() { format!(" [signed-by={KEYRING}]") } else { String::new() };
    let mut archives = Vec::new();
    if let Ok(mirror) = std::env::var("LKM_DEBIAN_MIRROR") {
        archives.extend(["", "-updates"].map(|part| (mirror.clone(), part)));
        archives.extend(std::env::var("LKM_DEBIAN_SECURITY_MIRROR").map(|mirror| (mirror, "-security")));
    } else {
        let format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";
        let targets = process::output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            format,
            "Identifier: Packages",
        ]))?;
        archives = debian_archives(&targets);
    }
    if archives.is_empty() {
        return Err(Error::new(
            "apt on this system knows no archive of Debian; the variable LKM_DEBIAN_MIRROR can name one",
        ));
    }
    let line = |(uri, part): &(String, &str)| format!("deb{signed} {uri} {SUITE}{part} main\n");
    Ok(archives.iter().map(line).collect())
}

/// Debian's archives among the lines `URI RELEASE COMPONENT ORIGIN` that apt prints, each with the part of a release it has. Before
/// the first update apt does not know whose an archive is; then the last part of its address tells.
fn debian_archives(targets: &str) -> Vec<(String, &'static str)> {
    let mut archives = Vec::new();
    for line in targets.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some(release), Some("main"), Some(origin)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let named =
            ["/debian", "/debian-security"].iter().any(|end| uri.trim_end_matches('/').ends_with(end));
        if origin != "Debian" && !(origin.starts_with('$') && named) {
            continue;
        }
        let suffix = release.find('-').map_or("", |dash| &release[dash..]);
        let Some(part) = PARTS.into_iter().find(|part| *part == suffix) else { continue };
        let archive = (uri.to_owned(), part);
        if !archives.contains(&archive) {
            archives.push(archive);
        }
    }
    archives
}

/// apt's view of the archive, kept in the cache and independent of what the system is and has installed.
struct Lists {
    arch: Arch,
    dir: PathBuf,
}

impl Lists {
    /// The lists of an architecture as they were fetched last, if ever.
    fn open(arch: Arch) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if paths::program(program).is_none() {
                return Err(Error::new(format!(
                    "{program} is not there: Debian packages are fetched by Debian's own tools (on other systems: the package `apt`)"
                )));
            }
        }
        let lists = Self { arch, dir: paths::cache()?.join("apt").join(arch.name()) };
        lists.prepare()?;
        Ok(lists)
    }

    fn prepare(&self) -> Result<()> {
        for dir in ["lists/partial", "cache/archives/partial", "etc"] {
            paths::create(&self.dir.join(dir))?;
        }
        let sources = sources()?;
        for (file, content) in [("etc/sources.list", sources.as_str()), ("status", "")] {
            let path = self.dir.join(file);
            if fs::read_to_string(&path).ok().as_deref() != Some(content) {
                fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
                let _ = fs::remove_file(self.stamp());
            }
        }
        Ok(())
    }

    /// A command of apt that sees only these lists.
    fn command(&self, program: &str) -> Command {
        let dir = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("APT::Architecture={}", self.arch.name()),
            format!("APT::Architectures={}", self.arch.name()),
            format!("Dir::State::Lists={}", dir("lists")),
            format!("Dir::State::status={}", dir("status")),
            format!("Dir::Cache={}", dir("cache")),
            format!("Dir::Etc::SourceList={}", dir("etc/sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // The user that apt downloads as may not enter the cache.
            "APT::Sandbox::User=".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }

    fn fresh(&self, limit: Duration) -> bool {
        let age = fs::metadata(self.stamp()).and_then(|stamp| stamp.modified()).ok();
        age.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age < limit)
    }

    /// Fetches the lists. One that cannot be had is no failure yet: the package wanted may be in another, or in an older copy.
    fn update(&self) -> Result<()> {
        println!("    fetching Debian's package lists for {}", self.arch.name());
        let mut trouble = String::new();
        for attempt in 1..=ATTEMPTS {
            let output = process::capture(self.command("apt-get").args(["--quiet", "update"]))?;
            trouble = output.stderr;
            if output.status.success() && !trouble.contains("Failed to fetch") {
                return fs::write(self.stamp(), "").context("cannot note when the lists were fetched");
            }
            // Missing lists are no reason to ask for all of them again at the next package.
            let _ = fs::write(self.stamp(), "");
            if attempt < ATTEMPTS {
                std::thread::sleep(Duration::from_secs(2 * u64::from(attempt)));
            }
        }
        let has_lists = fs::read_dir(self.dir.join("lists"))?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
        if !has_lists {
            return Err(Error::new(format!("apt-get update failed: {}", trouble.trim())));
        }
        println!("    some lists could not be fetched, the others are used: {}", first_error(&trouble));
        Ok(())
    }

    /// The versions of a package, the newest first.
    fn versions(&self, name: &str) -> Result<Vec<String>> {
        let table = process::output(self.command("apt-cache").args(["madison", name]))?;
        let versions =
            table.lines().filter_map(|line| line.split('|').nth(1)).map(|text| text.trim().to_owned());
        Ok(versions.collect())
    }

    /// The record of a package.
    fn show(&self, name: &str, version: &str) -> Result<String> {
        let mut versions = self.versions(name)?;
        if !versions.iter().any(|known| known == version) && !self.fresh(JUST_NOW) {
            self.update()?;
            versions = self.versions(name)?;
        }
        if !versions.iter().any(|known| known == version) {
            let instead = if versions.is_empty() {
                "no version of it".to_owned()
            } else {
                format!("only {}", versions.join(", "))
            };
            return Err(Error::new(format!("the archive does not have this version, it has {instead}")));
        }
        process::output(self.command("apt-cache").args(["show", &format!("{name}={version}")]))
    }
}

/// A one-line field of a package's record.
fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The dependency with that prefix and an exact version: the rest of its name, and the version.
fn exact_dependency<'a>(depends: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    depends.split(',').find_map(|one| {
        let (name, version) = one.trim().strip_prefix(prefix)?.split_once(" (=")?;
        Some((name, version.trim().strip_suffix(')')?))
    })
}

fn first_error(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("E:") || line.starts_with("W:")).unwrap_or("no reason given")
}

fn single_file(dir: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(dir)?.next().context("apt-get download left no file")??;
    Ok(entry.path())
}

fn hash_file(deb: &Path) -> PathBuf {
    deb.with_extension("deb.sha256")
}

/// Whether the package is in the cache as it was fetched; what is there and differs is an error, not a reason to fetch again.
fn verify(deb: &Path) -> Result<bool> {
    let Ok(expected) = fs::read_to_string(hash_file(deb)) else { return Ok(false) };
    if !deb.is_file() {
        return Ok(false);
    }
    let actual = sha256(deb)?;
    if actual != expected.trim() {
        return Err(Error::new(format!(
            "{} has changed since it was fetched: its SHA-256 is {actual}, not {}; remove it to have it fetched again",
            deb.display(),
            expected.trim()
        )));
    }
    Ok(true)
}

/// The SHA-256 of a file in hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if length == 0 {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&buffer[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_archives_of_debian_are_used() {
        let targets = "http://mirror/debian/ trixie main Debian\n\
            http://mirror/debian/ trixie contrib Debian\n\
            http://mirror/debian/ trixie-backports main Debian\n\
            http://mirror/debian/ trixie-updates main $(ORIGIN)\n\
            http://mirror/debian-security/ trixie-security main $(ORIGIN)\n\
            http://mirror/debian-security/ trixie-security main $(ORIGIN)\n\
            http://other/tools/ stable main Other\n\
            http://other/tools/ stable main $(ORIGIN)\n";
        let expected = [
            ("http://mirror/debian/".to_owned(), ""),
            ("http://mirror/debian/".to_owned(), "-updates"),
            ("http://mirror/debian-security/".to_owned(), "-security"),
        ];
        assert_eq!(debian_archives(targets), expected);
    }

    const RECORD: &str =
        "Package: linux-image-armmp\nDepends: linux-image-6.1.0-50-armmp (= 6.1.176-1), kmod\nSHA256: abc\n";

    #[test]
    fn fields_and_dependencies_are_found() {
        assert_eq!(field(RECORD, "SHA256"), Some("abc"));
        assert_eq!(field(RECORD, "SHA"), None);
        let depends = field(RECORD, "Depends").unwrap();
        assert_eq!(exact_dependency(depends, "linux-image-"), Some(("6.1.0-50-armmp", "6.1.176-1")));
        assert_eq!(exact_dependency("linux-image-6.1 (>= 6), kmod (= 1)", "linux-image-"), None);
    }

    #[test]
    fn an_epoch_makes_no_odd_file_name() {
        let package = Package::new(Arch::Armhf, "busybox-static", "1:1.35.0-4+b1");
        assert_eq!(package.file_stem(), "busybox-static_1%1.35.0-4+b1");
    }

    #[test]
    fn a_changed_package_is_noticed() {
        let dir = std::env::temp_dir().join(format!("lkm-packages-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let deb = dir.join("a.deb");
        fs::write(&deb, "abc").unwrap();
        assert!(!verify(&deb).unwrap());
        // The SHA-256 of "abc", from FIPS 180-2.
        fs::write(hash_file(&deb), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n")
            .unwrap();
        assert!(verify(&deb).unwrap());
        fs::write(&deb, "abd").unwrap();
        assert!(verify(&deb).unwrap_err().to_string().contains("has changed"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
