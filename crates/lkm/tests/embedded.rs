//! `insmod`, `rmmod` and `lsmod` on the embedded kernel: its answers, its log, and the explanations that are made of
//! them.

use std::ffi::OsString;
use std::path::PathBuf;

use lkm::embedded::Embedded;
use lkm_kernel::BootOptions;
use lkm_kernel::Capabilities;
use lkm_kernel::Lockdown;
use lkm_kernel::Profile;
use lkm_link::Arch;
use lkm_module::Module;
use lkm_tree::index::binary::IndexBuilder;
use modutils::Context;

fn fixture(architecture: &str, name: &str) -> String {
    format!("{}/../../fixtures/{architecture}/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn profile(architecture: &str) -> Profile {
    let bytes = std::fs::read(fixture(architecture, "hello.ko")).unwrap();
    let vermagic = Module::parse(&bytes).unwrap().vermagic().unwrap();
    let arch = if architecture == "arm" { Arch::Arm } else { Arch::X86_64 };
    let mut profile = Profile::for_vermagic(arch, vermagic).unwrap();
    profile.adopt_vermagic(vermagic);
    profile
}

/// A kernel and the directory of its modules, in which `modules.symbols.bin` knows the fixture `exporter`.
struct Setup {
    kernel: Embedded,
    architecture: &'static str,
    root: PathBuf,
}

impl Setup {
    fn new(architecture: &'static str, test: &str, options: BootOptions) -> Setup {
        let profile = profile(architecture);
        let root =
            std::env::temp_dir().join(format!("lkm-embedded-{test}-{architecture}-{}", std::process::id()));
        let directory = root.join(&*profile.release);
        std::fs::create_dir_all(&directory).unwrap();
        let mut index = IndexBuilder::new();
        for symbol in
            ["exporter_calls", "exporter_plain", "exporter_gpl", "exporter_spaced", "exporter_spaced_gpl"]
        {
            index.insert(format!("symbol:{symbol}").as_bytes(), b"exporter", 0).unwrap();
        }
        std::fs::write(directory.join("modules.symbols.bin"), index.finish().unwrap()).unwrap();
        Setup { kernel: Embedded::boot(profile, options).unwrap(), architecture, root }
    }

    /// Runs a command; a bare word that ends in `.ko` is a fixture. Exit code, output, messages, paths shortened.
    fn run(&self, words: &[&str]) -> (u8, String, String) {
        let path = |word: &&str| match word.ends_with(".ko") && !word.contains('/') {
            true => OsString::from(fixture(self.architecture, word)),
            false => OsString::from(word),
        };
        let args: Vec<OsString> = words.iter().map(path).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut context = Context::new(&self.kernel, &mut out, &mut err);
        context.module_root = self.root.to_str().unwrap();
        let code = modutils::run(&mut context, &args);
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&fixture(self.architecture, ""), "");
        (code, text(out), text(err))
    }

    fn succeeds(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        out
    }

    /// The lines of a refusal.
    fn refused(&self, words: &[&str]) -> Vec<String> {
        let (code, out, err) = self.run(words);
        assert_eq!((code, out.as_str()), (1, ""), "{words:?}: {err}");
        err.lines().map(str::to_owned).collect()
    }

    /// The lines of a refusal from the cause on.
    fn cause(&self, words: &[&str]) -> String {
        let lines = self.refused(words);
        let end = lines.iter().position(|line| line.starts_with("  cause: "));
        lines[end.unwrap_or_else(|| panic!("{words:?}: {lines:#?}"))..].join("\n")
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

const ARCHITECTURES: [&str; 2] = ["x86_64", "arm"];

#[test]
fn a_module_comes_and_goes() {
    for architecture in ARCHITECTURES {
        let setup = Setup::new(architecture, "session", BootOptions::default());
        setup.succeeds(&["insmod", "exporter.ko"]);
        setup.succeeds(&["insmod", "user.ko"]);
        let list = setup.succeeds(&["lsmod"]);
        let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["Module", "Size", "Used", "by"]);
        assert_eq!((rows[1][0], rows[1][2]), ("user", "0"));
        assert_eq!((rows[2][0], &rows[2][2..]), ("exporter", &["1", "user"][..]));
        assert_eq!(
            setup.refused(&["rmmod", "exporter"]),
            ["rmmod: ERROR: Module exporter is in use by: user", "  try: modprobe -r user exporter"]
        );
        setup.succeeds(&["rmmod", "user", "exporter"]);
        assert_eq!(setup.succeeds(&["lsmod"]).lines().count(), 1);
    }
}

#[test]
fn a_compressed_module_is_unpacked_on_the_way() {
    let setup = Setup::new("x86_64", "compressed", BootOptions::default());
    for end in ["gz", "xz", "zst"] {
        setup.succeeds(&["insmod", &format!("{}.{end}", fixture("x86_64", "hello.ko"))]);
        setup.succeeds(&["rmmod", "hello"]);
    }
}

#[test]
fn refusals_are_explained_by_the_kernels_own_log() {
    for architecture in ARCHITECTURES {
        let setup = Setup::new(architecture, "refusals", BootOptions::default());
        let lines = setup.refused(&["insmod", "user.ko"]);
        assert_eq!(lines[0], "insmod: ERROR: could not insert module user.ko: Unknown symbol in module");
        let logged: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("  kernel: ")).collect();
        for symbol in
            ["exporter_plain", "exporter_gpl", "exporter_spaced", "exporter_spaced_gpl", "exporter_calls"]
        {
            assert!(logged.contains(&&*format!("user: Unknown symbol {symbol} (err -2)")), "{lines:#?}");
        }
        let [.., cause, cure] = &lines[..] else { panic!("{lines:?}") };
        assert!(cause.starts_with("  cause: exporter_"), "{cause}");
        assert!(
            cause.ends_with(" and 2 more are exported by the module exporter, which is not loaded"),
            "{cause}"
        );
        assert_eq!(cure, "  try: modprobe exporter");

        setup.succeeds(&["insmod", "exporter.ko"]);
        assert_eq!(
            setup.cause(&["insmod", "user_nons.ko"]),
            "  cause: exporter_spaced is in the namespace FIXTURE, which the module does not import\n  \
             try: MODULE_IMPORT_NS(FIXTURE) in its source, and build it again"
        );
        assert_eq!(
            setup.cause(&["insmod", "user_proprietary.ko"]),
            "  cause: exporter_gpl is exported by the module exporter, to modules under the GPL only; this one's \
             licence is 'Proprietary'"
        );
        assert_eq!(setup.cause(&["insmod", "exporter.ko"]), "  cause: the module exporter is loaded already");
        assert_eq!(
            setup.cause(&["insmod", "init_einval.ko"]),
            "  cause: the kernel itself had no objection: the module's init function returned -22 (EINVAL)"
        );
        assert_eq!(
            setup.cause(&["insmod", "params.ko", "p_int=many"]),
            "  cause: the parameter p_int, of type int, does not take the value 'many'\n  \
             try: a whole number from -2147483648 to 2147483647"
        );
        setup.succeeds(&["insmod", "no_exit.ko"]);
        assert_eq!(
            setup.cause(&["rmmod", "no_exit"]),
            "  cause: it has no exit function: it was made to stay until the next boot\n  \
             try: reboot; rmmod -f, on kernels that allow it, can bring the machine down"
        );
    }
}

#[test]
fn a_kernel_that_lets_nobody_in_says_why() {
    let case = |name: &str, options: BootOptions| {
        Setup::new("x86_64", name, options).refused(&["insmod", "hello.ko"]).join("\n")
    };
    let usual = BootOptions::default;
    assert_eq!(
        case("blacklist", BootOptions { module_blacklist: vec!["hello".into()], ..usual() }),
        "insmod: ERROR: could not insert module hello.ko: Operation not permitted
  kernel: Module hello is blacklisted
  cause: module_blacklist= on the kernel's command line names hello
  try: boot without it"
    );
    let initcall = case("initcall", BootOptions { initcall_blacklist: vec!["hello_init".into()], ..usual() });
    assert!(
        initcall.ends_with(
            "
  cause: initcall_blacklist= on the kernel's command line names hello_init
  try: boot without it"
        ),
        "{initcall}"
    );
    assert_eq!(
        case("enforce", BootOptions { sig_enforce: true, ..usual() }),
        "insmod: ERROR: could not insert module hello.ko: Key was rejected by service
  kernel: Loading of unsigned module is rejected
  cause: the module is not signed, and the kernel insists: module.sig_enforce is on
  try: sign it (scripts/sign-file of the kernel) with a key that the kernel trusts"
    );
    assert_eq!(
        case("lockdown", BootOptions { lockdown: Lockdown::Integrity, ..usual() }),
        "insmod: ERROR: could not insert module hello.ko: Operation not permitted
  kernel: Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7
  cause: the module is not signed, and the kernel insists: it is locked down, as with Secure Boot
  try: sign it with a key of yours and enrol that by mokutil --import, or boot without Secure Boot"
    );
    assert_eq!(
        case("disabled", BootOptions { modules_disabled: true, ..usual() }),
        "insmod: ERROR: could not insert module hello.ko: Operation not permitted
  cause: kernel.modules_disabled is 1: no module comes or goes until the next boot
  try: reboot; sysctl.d or a boot script sets it"
    );
    let setup = Setup::new("x86_64", "capability", usual());
    setup.kernel.set_capabilities(Capabilities { sys_module: false, syslog: false });
    assert_eq!(
        setup.refused(&["insmod", "hello.ko"])[1..],
        [
            "  cause: this process is root but without CAP_SYS_MODULE, as in a container",
            "  try: do it on the host, or give the container CAP_SYS_MODULE"
        ]
    );
}

#[test]
fn a_module_of_another_kernel() {
    let setup = Setup::new("x86_64", "foreign", BootOptions::default());
    let foreign = fixture("arm", "hello.ko");
    let lines = setup.refused(&["insmod", &foreign]);
    assert_eq!(
        lines[1..],
        [
            "  kernel: Invalid architecture in ELF header: 40",
            "  cause: it is made for arm (32 bits), and this kernel is for x86_64",
            "  try: build it for this kernel"
        ]
    );
    // Where versions of symbols are compared, only what follows the release in the vermagic counts.
    let mut profile = profile("x86_64");
    profile.adopt_vermagic(b"5.0.0-other SMP mod_unload modversions ");
    let kernel = Embedded::boot(profile, BootOptions::default()).unwrap();
    let other = Setup { kernel, architecture: "x86_64", root: setup.root.clone() };
    let lines = other.refused(&["insmod", "hello.ko"]);
    assert_eq!(lines[0], "insmod: ERROR: could not insert module hello.ko: Invalid module format");
    assert!(lines[1].starts_with("  kernel: hello: version magic '"), "{lines:?}");
    assert!(lines[2].ends_with(", and this kernel is '5.0.0-other SMP mod_unload modversions'"), "{lines:?}");
    assert_eq!(
        lines[3],
        "  try: install the headers of 5.0.0-other (linux-headers-5.0.0-other) and build it again"
    );
}
