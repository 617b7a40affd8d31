//! A session's machine: boots, runs the script, is read through its console.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use super::script;
use super::target::Target;
use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages::Kernel;
use crate::process;

/// How long a session may be without progress, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(240);
/// Said to the kernel for the commands to find in /proc/cmdline.
pub(crate) const ARGUMENTS: &str = "hello.who=boot hello.count=2 params.p_charp=\"of the boot\" params.p_bool \
    modprobe.blacklist=ts_kmp,ts_fsm";

/// The files that the script wrote, by name.
pub(crate) type Files = HashMap<String, Vec<u8>>;

/// Boots the kernel with an initramfs and lets it do the cases.
pub(crate) fn run(target: Target, kernel: &Kernel, initramfs: &[u8]) -> Result<Files> {
    let directory =
        std::env::temp_dir().join(format!("lkm-sessions-{}-{}", std::process::id(), target.name()));
    let _ = fs::remove_dir_all(&directory);
    crate::paths::create(&directory)?;
    let result = run_in(target, kernel, initramfs, &directory);
    let _ = fs::remove_dir_all(&directory);
    result
}

fn run_in(target: Target, kernel: &Kernel, initramfs: &[u8], directory: &Path) -> Result<Files> {
    let (archive, console) = (directory.join("initramfs"), directory.join("console"));
    fs::write(&archive, initramfs).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut command = target.emulator();
    command.args(["-accel", "tcg,thread=single", "-display", "none", "-monitor", "none"]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-net", "none"]);
    command.arg("-serial").arg(format!("file:{}", console.display()));
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(&archive);
    let arguments = target.kernel_arguments();
    command.arg("-append").arg(format!("{arguments} quiet loglevel=1 {ARGUMENTS}"));
    if let Some(path) = target.device_tree(kernel) {
        command.arg("-dtb").arg(path);
    }
    command.env("QEMU_AUDIO_DRV", "none");
    let errors = fs::File::create(directory.join("errors"))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let child = command.spawn().with_context(|| format!("cannot start {}", process::describe(&command)))?;
    let text = wait(Emulator(child), &console).map_err(|error| {
        match fs::read_to_string(directory.join("errors")) {
            Ok(said) if !said.is_empty() => error.during(said.trim().to_owned()),
            _ => error,
        }
    })?;
    unpack(&text, directory)
}

/// A running emulator; it ends when this value does.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the results; the text between their markers.
fn wait(mut emulator: Emulator, console: &Path) -> Result<String> {
    let (mut progress, mut length) = (Instant::now(), 0);
    loop {
        let ended = emulator.0.try_wait()?.is_some();
        let text = fs::read(console).unwrap_or_default();
        if text.len() > length {
            (progress, length) = (Instant::now(), text.len());
        }
        if text.windows(script::END.len()).any(|window| window == script::END.as_bytes()) {
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            let sent = text.split_once(script::BEGIN).and_then(|(_, rest)| rest.split_once(script::END));
            return Ok(sent.context("the results have no beginning")?.0.to_owned());
        }
        if ended || progress.elapsed() > LIMIT {
            let how = if ended { "ended" } else { "hangs" };
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n    ");
            return Err(Error::new(format!("it {how}; the console:\n    {tail}")));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The files in the archive that was sent in base64.
fn unpack(sent: &str, directory: &Path) -> Result<Files> {
    let (text, archive, files) =
        (directory.join("sent"), directory.join("results.tar.gz"), directory.join("results"));
    fs::write(&text, sent)?;
    let decoded = Command::new("base64").arg("--decode").arg(&text).output().context("cannot run base64")?;
    if !decoded.status.success() {
        return Err(Error::new("the results were damaged on their way through the console"));
    }
    fs::write(&archive, decoded.stdout)?;
    crate::paths::create(&files)?;
    process::output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&files))?;
    let mut result = Files::new();
    for entry in fs::read_dir(&files)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        result.insert(name, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(result)
}
