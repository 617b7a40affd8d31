//! The Debian package.
//!
//! Its commands stand beside kmod's as alternatives. kmod's own files are diverted, since it does not offer its commands as
//! alternatives itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use modutils::COMMANDS;

use super::completions;
use super::copy;
use super::man;
use super::write;
use crate::error::Context;
use crate::error::Result;
use crate::paths;
use crate::process;

/// The package's name.
pub(super) const NAME: &str = "lkm-modutils";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Pages of section 5, each switched with a command.
const FILE_PAGES: &[(&str, &str)] =
    &[("modprobe", "modprobe.d"), ("depmod", "depmod.d"), ("depmod", "modules.dep")];

/// Who publishes the package says so as for Debian's own tools, in DEBFULLNAME and DEBEMAIL.
fn maintainer() -> String {
    let or = |name, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.into());
    format!("{} <{}>", or("DEBFULLNAME", "The lkm authors"), or("DEBEMAIL", "lkm@localhost.localdomain"))
}

/// Builds the package from the files in `directory`; its path.
pub(super) fn build(directory: &Path, architecture: &str) -> Result<PathBuf> {
    let root = directory.join("deb");
    install(directory, &root)?;
    let control = root.join("DEBIAN");
    write(&control.join("control"), control_file(architecture, size(&root)?).as_bytes())?;
    write(&control.join("md5sums"), sums(&root)?.as_bytes())?;
    for (name, script) in
        [("preinst", preinst()), ("postinst", postinst()), ("prerm", prerm()), ("postrm", postrm())]
    {
        let path = control.join(name);
        write(&path, script.as_bytes())?;
        executable(&path)?;
    }
    let package = directory.join(format!("{NAME}_{VERSION}_{architecture}.deb"));
    let mut command = Command::new("dpkg-deb");
    command.args(["--build", "--root-owner-group", "-Zxz"]).args([&root, &package]);
    process::output(command.env("SOURCE_DATE_EPOCH", date("%ct")?))?;
    Ok(package)
}

fn executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}

/// The date of the last change of the sources.
fn date(format: &str) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(paths::root()).args(["log", "-1", "--date=format:%Y", &format!("--format={format}")]);
    // Sources without their history are of no date.
    let unknown = match format {
        "%ct" => "0",
        "%cd" => "1970",
        _ => "Thu, 01 Jan 1970 00:00:00 +0000",
    };
    Ok(process::output(&mut command).map_or_else(|_| unknown.into(), |date| date.trim().into()))
}

fn install(from: &Path, root: &Path) -> Result<()> {
    let program = root.join("usr/bin/modutils");
    copy(&from.join("modutils"), &program)?;
    executable(&program)?;
    for page in man::pages() {
        // The names of kmod's pages are links to the alternative that is chosen.
        let own = if page.name == "modutils" { page.file() } else { format!("lkm-{}", page.file()) };
        let path = root.join(format!("usr/share/man/man{}/{own}", page.section));
        write(&path, page.text.as_bytes())?;
        compress(&path)?;
    }
    for file in completions::files() {
        let path = match file.path.split_once('/') {
            Some(("bash", name)) => format!("usr/share/bash-completion/completions/{name}"),
            Some(("zsh", name)) => format!("usr/share/zsh/vendor-completions/{name}"),
            Some((_, name)) => format!("usr/share/fish/vendor_completions.d/{name}"),
            None => continue,
        };
        write(&root.join(path), file.text.as_bytes())?;
    }
    for command in COMMANDS {
        let link = root.join("usr/share/bash-completion/completions").join(command.name);
        symlink("modutils", &link).with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    let doc = root.join("usr/share/doc").join(NAME);
    write(&doc.join("copyright"), copyright()?.as_bytes())?;
    write(&doc.join("changelog"), changelog()?.as_bytes())?;
    compress(&doc.join("changelog"))?;
    let differences = paths::root().join("crates/modutils/DIFFERENCES.md");
    copy(&differences, &doc.join("DIFFERENCES.md"))?;
    write(&root.join("usr/share/lintian/overrides").join(NAME), OVERRIDES.as_bytes())
}

const OVERRIDES: &str = "\
# Whoever publishes the package gives an address, in DEBEMAIL.
lkm-modutils: bogus-mail-host *
lkm-modutils: bogus-mail-host-in-debian-changelog *
# One program without libraries that also works where there is nothing else is what this package is for.
lkm-modutils: statically-linked-binary [usr/bin/modutils]
# The names of kmod's files are diverted for links of update-alternatives, which are not in the package.
lkm-modutils: diversion-for-unknown-file * [*]
lkm-modutils: orphaned-diversion * [*]
# Pages have the name of the command behind lkm-, and its own name as an alternative.
lkm-modutils: spare-manual-page [*]
";

fn compress(path: &Path) -> Result<()> {
    process::output(Command::new("gzip").args(["-9", "-n"]).arg(path)).map(drop)
}

/// Size of all files in KiB, as dpkg counts.
fn size(root: &Path) -> Result<u64> {
    let output = process::output(Command::new("du").args(["-k", "-s", "--apparent-size"]).arg(root))?;
    output.split_whitespace().next().and_then(|size| size.parse().ok()).context("du gives no size")
}

fn control_file(architecture: &str, size: u64) -> String {
    format!(
        "Package: {NAME}\nVersion: {VERSION}\nArchitecture: {architecture}\nMaintainer: {}\n\
         Installed-Size: {size}\nEnhances: kmod\nSection: kernel\nPriority: optional\n\
         Description: commands of kernel modules in one static program\n \
         insmod, rmmod, lsmod, modinfo, modprobe, depmod and kmod, which answer as those\n \
         of kmod do, need no libraries, tell on a second line why a module was refused,\n \
         and make the indexes of modules on all processors, reading only what changed.\n .\n \
         They stand beside the commands of kmod as alternatives.\n",
        maintainer()
    )
}

fn sums(root: &Path) -> Result<String> {
    let mut command = Command::new("sh");
    let script = "find * -type f ! -path 'DEBIAN/*' -print0 | LC_ALL=C sort -z | xargs -0 md5sum";
    process::output(command.current_dir(root).args(["-c", script]))
}

fn changelog() -> Result<String> {
    Ok(format!(
        "{NAME} ({VERSION}) unstable; urgency=medium\n\n  * The commands of lkm {VERSION}.\n\n -- {}  {}\n",
        maintainer(),
        date("%cD")?
    ))
}

fn copyright() -> Result<String> {
    let path = paths::root().join("LICENSE-MIT");
    let mit = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let holder =
        mit.lines().find(|line| line.starts_with("Copyright")).unwrap_or("Copyright: the lkm developers");
    let indented = |text: &str| -> String {
        text.lines().map(|line| if line.is_empty() { " .\n".into() } else { format!(" {line}\n") }).collect()
    };
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: lkm\n\
         Source: the repository of lkm\n\nFiles: *\nCopyright: {} {}\nLicense: MIT or Apache-2.0\n\n\
         License: MIT\n{}\nLicense: Apache-2.0\n On Debian systems the full text is in\n \
         /usr/share/common-licenses/Apache-2.0.\n",
        date("%cd")?,
        holder.trim_start_matches("Copyright").trim_start_matches([':', ' ']).trim_start_matches("(c) "),
        indented(&mit),
    ))
}

/// Directories that Debian has merged: a file in the second may be listed by dpkg as one of the first.
const BINARY_DIRECTORIES: &[(&str, &str)] = &[("/sbin", "/usr/sbin"), ("/bin", "/usr/bin")];

/// What kmod's files are called that are listed by the old names of the merged directories.
const OLD: &str = "kmod";
/// What those are called that are listed by the new names.
const NEW: &str = "usr-kmod";

/// What of kmod's, or of bash-completion's, has to make room: path and where it goes.
fn diversions() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for command in COMMANDS {
        let name = command.name;
        let directories: &[usize] = match name {
            "kmod" => &[1],
            "lsmod" => &[0, 1],
            _ => &[0],
        };
        for (old, new) in directories.iter().map(|&at| BINARY_DIRECTORIES[at]) {
            // Both are the same file. If they went to one place, dpkg would remove there, with the old name of an
            // older kmod, what it has just unpacked by the new name.
            paths.push((format!("{old}/{name}"), format!("{old}/{name}.{OLD}")));
            paths.push((format!("{new}/{name}"), format!("{new}/{name}.{NEW}")));
        }
        let manual = "/usr/share/man/man8";
        paths.push((format!("{manual}/{name}.8.gz"), format!("{manual}/{name}.kmod.8.gz")));
        let completions = "/usr/share/bash-completion/completions";
        paths.push((format!("{completions}/{name}"), format!("{completions}/{name}.kmod")));
    }
    for (_, page) in FILE_PAGES {
        let manual = "/usr/share/man/man5";
        paths.push((format!("{manual}/{page}.5.gz"), format!("{manual}/{page}.kmod.5.gz")));
    }
    paths
}

const HEAD: &str = "#!/bin/sh\nset -e\n\n";

fn preinst() -> String {
    let mut script = format!("{HEAD}case $1 in\ninstall | upgrade)\n");
    for (path, aside) in diversions() {
        script.push_str(&format!("    divert {path} {aside}\n"));
    }
    script.push_str("    ;;\nesac\n");
    // The second name of a merged directory is the same file, which has been renamed already.
    let function = format!(
        "divert() {{\n    if [ -e \"$1\" ] || [ -L \"$1\" ]; then how=--rename; else how=--no-rename; fi\n    \
         dpkg-divert --quiet --package {NAME} --add $how --divert \"$2\" \"$1\"\n}}\n\n"
    );
    script.replacen("case $1", &format!("{function}case $1"), 1)
}

fn postinst() -> String {
    let mut script = format!("{HEAD}case $1 in\nconfigure)\n");
    let kmods = [OLD, NEW].map(|suffix| format!("/usr/bin/kmod.{suffix}"));
    let programs =
        [("/usr/bin/modutils", 100, None), (&kmods[0], 10, Some("kmod")), (&kmods[1], 10, Some("kmod"))];
    for (program, priority, suffix) in programs {
        if suffix.is_some() {
            script.push_str(&format!("    if [ -e {program} ]; then\n"));
        }
        for command in COMMANDS {
            let name = command.name;
            let link = if name == "kmod" { "/usr/bin/kmod".into() } else { format!("/usr/sbin/{name}") };
            script.push_str(&format!(
                "    update-alternatives --quiet --install {link} {name} {program} {priority}"
            ));
            let mut slave = |link: String, name: String, target: String| {
                script.push_str(&format!(" \\\n        --slave {link} {name} {target}"));
            };
            if name == "lsmod" {
                slave("/usr/bin/lsmod".into(), "lsmod-bin".into(), program.into());
            }
            let mut page = |name: &str, section: u8| {
                let manual = format!("/usr/share/man/man{section}");
                let target = match suffix {
                    Some(suffix) => format!("{manual}/{name}.{suffix}.{section}.gz"),
                    None => format!("{manual}/lkm-{name}.{section}.gz"),
                };
                slave(format!("{manual}/{name}.{section}.gz"), format!("{name}.{section}.gz"), target);
            };
            page(name, 8);
            for (_, file) in FILE_PAGES.iter().filter(|(owner, _)| *owner == name) {
                page(file, 5);
            }
            script.push('\n');
        }
        if suffix.is_some() {
            script.push_str("    fi\n");
        }
    }
    script.push_str("    ;;\nesac\n");
    script
}

fn prerm() -> String {
    let mut script = format!("{HEAD}case $1 in\nremove | deconfigure)\n");
    // kmod's commands, if they are there, take over before ours are gone.
    for command in COMMANDS {
        script.push_str(&format!(
            "    update-alternatives --quiet --remove {} /usr/bin/modutils\n",
            command.name
        ));
    }
    script.push_str("    ;;\nesac\n");
    script
}

fn postrm() -> String {
    let mut script = format!("{HEAD}case $1 in\nremove | disappear | abort-install)\n");
    for command in COMMANDS {
        let name = command.name;
        script.push_str(&format!(
            "    if update-alternatives --query {name} >/dev/null 2>&1; then\n        \
             update-alternatives --quiet --remove-all {name}\n    fi\n"
        ));
    }
    for (path, aside) in diversions() {
        script.push_str(&format!("    restore {path} {aside}\n"));
    }
    script.push_str("    ;;\nesac\n");
    let function = format!(
        "restore() {{\n    if [ -e \"$2\" ] || [ -L \"$2\" ]; then how=--rename; else how=--no-rename; fi\n    \
         dpkg-divert --quiet --package {NAME} --remove $how --divert \"$2\" \"$1\"\n}}\n\n"
    );
    script.replacen("case $1", &format!("{function}case $1"), 1)
}
