//! Debian's `mkinitramfs` with kmod and with our commands in its place: the images hold the same, and before that: what
//! `modinfo` says of every module.
//!
//! It runs in a mount namespace of its own, where `initramfs-tools`, the modules of a kernel and `/usr/bin/kmod` are laid over the
//! system's files. What differs is what the commands bring along: kmod's libraries, and the order of nodes in binary indexes, whose
//! contents are compared instead.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use lkm_tree::index::binary::Index;
use lkm_tree::search::ModuleDirectory;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::package;
use crate::packages;
use crate::packages::Arch;
use crate::packages::Package;
use crate::paths;
use crate::process;

/// The tool's packages: the tool, and its configuration.
const TOOLS: [&str; 2] = ["initramfs-tools-core", "initramfs-tools"];
const VERSION: &str = "0.142+deb12u3";

/// Ends with this where namespaces or overlays are not allowed.
const IMPOSSIBLE: i32 = 77;

/// Makes and unpacks an image. `kmod` is the program that takes kmod's place, or empty.
const SCRIPT: &str = r#"
mount -t tmpfs tmpfs "$work/ns" || exit 77
cd "$work/ns" && mkdir -p etc etc.work usr/lib/modules/"$release" usr.work modules modules.work conf || exit 1
mount -t overlay overlay -o "lowerdir=$core/etc:$conf/etc:/etc,upperdir=$PWD/etc,workdir=$PWD/etc.work" /etc || exit 77
mount -t overlay overlay -o "lowerdir=$core/usr:$conf/usr:/usr,upperdir=$PWD/usr,workdir=$PWD/usr.work" /usr || exit 77
mount -t overlay overlay -o "lowerdir=$kernel/lib/modules/$release,upperdir=$PWD/modules,workdir=$PWD/modules.work" \
    /usr/lib/modules/"$release" || exit 77
mount --bind "$kernel/boot" /boot || exit 77
set -e
if [ -n "$kmod" ]; then
    cp "$kmod" /usr/bin/kmod.new
    mv /usr/bin/kmod.new /usr/bin/kmod
fi
cp -r /etc/initramfs-tools/. conf
/usr/sbin/mkinitramfs -d "$PWD/conf" -c gzip -o "$work/image" "$release" 2> "$work/messages"
mkdir "$work/files"
cd "$work/files"
zcat ../image | cpio --extract --make-directories --quiet
chmod -R u+rwX .
"#;

/// What an image holds: a file's hash or a link's target by path, and the indexes' contents.
struct Image {
    files: BTreeMap<String, String>,
    indexes: BTreeMap<String, Vec<String>>,
    messages: String,
}

/// Makes the images and compares them. The error that is no failure: it cannot be done here, and why.
pub(crate) fn check() -> Result<std::result::Result<(), String>> {
    let program = package::program()?;
    let [core, conf] = TOOLS;
    let unpack = |name| Package::new(Arch::Amd64, name, VERSION).unpack_or_newest();
    let kernel = packages::CLOUD_AMD64.kernel()?;
    let maker =
        Maker { core: unpack(core)?, conf: unpack(conf)?, release: kernel.release, kernel: kernel.root };
    let Some(theirs) = maker.image("kmod", None, "")? else {
        return Ok(Err("mount namespaces or overlays are not allowed here".to_owned()));
    };
    let mut wrong = Vec::new();
    let asked = modinfo(&maker.kernel.join("lib/modules").join(&maker.release), &program, &mut wrong)?;
    println!("    modinfo of {asked} modules");
    for (name, style) in [("strict", "kmod"), ("ours", "")] {
        let Some(ours) = maker.image(name, Some(&program), style)? else {
            return Err(Error::new("a mount failed that did not fail before"));
        };
        let extra = compare(&theirs, &ours, !style.is_empty(), &mut wrong);
        println!(
            "    {name}: {} files, {} of them in kmod's image too{}",
            ours.files.len(),
            ours.files.len() - extra.len(),
            if extra.is_empty() { String::new() } else { format!("; besides {}", extra.join(", ")) }
        );
    }
    if wrong.is_empty() { Ok(Ok(())) } else { Err(Error::new(wrong.join("\n"))) }
}

/// Gives every module of a directory to both `modinfo`s; how many there are.
fn modinfo(directory: &Path, ours: &Path, wrong: &mut Vec<String>) -> Result<usize> {
    let modules = ModuleDirectory::scan(directory);
    let paths: Vec<&Path> = modules.iter().map(|(_, path)| path).collect();
    for options in [&[][..], &["-0"], &["-p"], &["-F", "firmware"], &["-F", "signature"]] {
        for some in paths.chunks(500) {
            let say = |program: &Path| {
                let mut command = Command::new(program);
                command.arg0("modinfo").args(options).args(some).env("MODUTILS_STYLE", "kmod");
                process::capture(&mut command)
            };
            let (theirs, ours) = (say(Path::new("/usr/bin/kmod"))?, say(ours)?);
            if (&theirs.stdout, &theirs.stderr) != (&ours.stdout, &ours.stderr) {
                let pairs = theirs.stdout.lines().zip(ours.stdout.lines());
                let first = pairs.into_iter().find(|(theirs, ours)| theirs != ours);
                wrong.push(format!("modinfo {options:?} differs, first (kmod, ours): {first:?}"));
            }
        }
    }
    Ok(paths.len())
}

struct Maker {
    core: PathBuf,
    conf: PathBuf,
    kernel: PathBuf,
    release: String,
}

impl Maker {
    /// The image that is made with a program in kmod's place; `None` if that cannot be done on this machine.
    fn image(&self, name: &str, kmod: Option<&Path>, style: &str) -> Result<Option<Image>> {
        let work = paths::cache()?.join("initramfs").join(name);
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        paths::create(&work.join("ns"))?;
        let is_root = process::output(Command::new("id").arg("-u"))?.trim() == "0";
        let mut command = Command::new("unshare");
        command.arg("--mount").args((!is_root).then_some("--map-root-user")).args(["sh", "-c", SCRIPT]);
        command.env("work", &work).env("core", &self.core).env("conf", &self.conf);
        command.env("kernel", &self.kernel).env("release", &self.release);
        command.env("kmod", kmod.unwrap_or(Path::new(""))).env("MODUTILS_STYLE", style);
        command.stdout(Stdio::null());
        let status = process::status(&mut command)?;
        if status.code() == Some(IMPOSSIBLE) {
            return Ok(None);
        }
        let messages = fs::read(work.join("messages")).unwrap_or_default();
        let messages = String::from_utf8_lossy(&messages).into_owned();
        if !status.success() {
            return Err(Error::new(format!("mkinitramfs with {name} failed: {status}\n{messages}")));
        }
        let mut image = Image { files: BTreeMap::new(), indexes: BTreeMap::new(), messages };
        image.read(&work.join("files"), "")?;
        Ok(Some(image))
    }
}

impl Image {
    fn read(&mut self, directory: &Path, below: &str) -> Result<()> {
        let entries =
            fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
            let path = entry.path();
            let name = format!("{below}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().with_context(|| format!("cannot read {}", path.display()))?;
            if kind.is_dir() {
                self.read(&path, &name)?;
            } else if kind.is_symlink() {
                let target =
                    fs::read_link(&path).with_context(|| format!("cannot read {}", path.display()))?;
                self.files.insert(name, format!("-> {}", target.display()));
            } else if name.contains("/modules.") && name.ends_with(".bin") {
                self.indexes.insert(name, contents(&path)?);
            } else {
                self.files.insert(name, packages::sha256(&path)?);
            }
        }
        Ok(())
    }
}

/// The keys and values of an index.
fn contents(path: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    // kmod leaves an empty file where there is nothing to say.
    if fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return Ok(all);
    }
    let error = |error| Error::new(format!("{}: {error}", path.display()));
    let index = Index::open(path).map_err(error)?;
    let mut add = |key: &[u8], value: lkm_tree::index::binary::Value<'_>| {
        all.push(format!("{} {} {}", key.escape_ascii(), value.priority, value.text.escape_ascii()));
    };
    index.for_each(&mut add).map_err(error)?;
    all.sort();
    Ok(all)
}

/// Whether a file belongs to kmod, or to the commands that take its place.
fn is_tool(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["libcrypto.so", "liblzma.so", "libzstd.so"].iter().any(|library| name.starts_with(library))
        || ["kmod", "ld.so.cache"].contains(&name)
        // Later kmods write it too.
        || name == "modules.weakdep"
}

/// Adds what differs. Gives the files that only our image has, which are modules that more soft dependencies ask for, and none if
/// the images have to be the same.
fn compare(theirs: &Image, ours: &Image, same: bool, wrong: &mut Vec<String>) -> Vec<String> {
    for (path, content) in &theirs.files {
        let is_index = path.contains("/modules.") && !path.contains("/modules.builtin");
        match ours.files.get(path) {
            _ if is_tool(path) => {}
            None => wrong.push(format!("{path} is missing")),
            // With more modules indexes say more.
            Some(_) if is_index && !same => {}
            Some(ours) if ours != content => wrong.push(format!("{path} differs")),
            Some(_) => {}
        }
    }
    let extra = ours.files.keys().filter(|path| !theirs.files.contains_key(*path) && !is_tool(path));
    let extra: Vec<String> = extra.cloned().collect();
    if same {
        wrong.extend(extra.iter().map(|path| format!("{path} is not in kmod's image")));
        if theirs.indexes != ours.indexes {
            wrong.push("the binary indexes differ".to_owned());
        }
        if theirs.messages != ours.messages {
            wrong.push(format!("mkinitramfs says\n{}\ninstead of\n{}", ours.messages, theirs.messages));
        }
    } else {
        wrong.extend(
            extra.iter().filter(|path| !path.contains(".ko")).map(|path| format!("{path} is too much")),
        );
    }
    extra
}
