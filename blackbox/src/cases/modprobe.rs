use crate::case::Case;
use crate::case::Ground;
use crate::fixture::RELEASE;
use crate::kernel::errno;
use crate::module::Module;

fn classic(name: &'static str, line: &str) -> Case {
    Case::classic("modprobe", name).run(line)
}

fn case(name: &'static str, line: &str) -> Case {
    Case::new("modprobe", name).run(line)
}

pub(super) fn cases() -> Vec<Case> {
    [classics(), parameters(), forced(), lookup(), configuration(), commands(), failures(), scripts()]
        .concat()
}

fn classics() -> Vec<Case> {
    let file = format!("/lib/modules/{RELEASE}/kernel/drivers/top.ko");
    vec![
        classic("-D: the module itself last", "modprobe -D top"),
        classic("-D: with parameters", "modprobe -D top count=3 'name=two words'"),
        classic("-D: what is loaded is shown too, and nothing is loaded", "modprobe -D softly").loaded("base", 0, &[]),
        classic("an alias to nothing", "modprobe fs-nothing").conf("alias fs-nothing off\n"),
        classic("--show-exports of a file", &format!("modprobe --show-exports /lib/modules/{RELEASE}/kernel/lib/mid.ko")),
        classic("--show-exports of a name", "modprobe --show-exports mid")
            .unlike("kmod 30 takes files only")
            .out("0x00000022\tmid_fn\n0x00000033\tmid_data\n"),
        classic("what is built in is there", "modprobe stone"),
        classic("-R of what is built in", "modprobe -R platform:stone"),
        classic("soft dependencies in a circle", "modprobe la"),
        classic("weak dependencies in a circle", "modprobe wa"),
        classic("an install command that comes back to the module", "modprobe mid").conf(
            "install base modprobe --ignore-install base && modprobe mid\n\
             install mid echo before; modprobe --ignore-install mid $CMDLINE_OPTS; echo after\n",
        ),
        Case::classic("modprobe", "a module outside of the directory")
            .put("etc/depmod.d/s.conf", "search external built-in\nexternal 6.* /outside\n")
            .put("outside/foreign.ko", Module::new("foreign").file())
            .index()
            .run("modprobe foreign"),
        classic("an absolute path", &format!("modprobe {file} count=1"))
            .unlike("kmod 30 takes names only")
            .calls(&["load base \"\" = 0", "load mid \"\" = 0", "load top \"count=1\" = 0"]),
        classic("a relative path", "modprobe ./top.ko")
            .within("/lib/modules/6.1.0-test/kernel/drivers")
            .unlike("kmod 30 takes names only")
            .calls(&["load base \"\" = 0", "load mid \"\" = 0", "load top \"\" = 0"]),
        Case::classic("weakdep", "-c has the weak dependencies of the configuration")
            .without(&format!("lib/modules/{RELEASE}"))
            .conf("weakdep base extra node\noptions top count=1\n")
            .run("modprobe -c")
            .unlike("kmod 30 knows no weak dependencies")
            .out("options top count=1\nweakdep base extra node\n\n# End of configuration files. Dumping indexes now:\n\n"),
    ]
}

fn parameters() -> Vec<Case> {
    let shown = |name, cmdline: &str| {
        Case::classic("modprobe", name)
            .without(&format!("lib/modules/{RELEASE}"))
            .cmdline(cmdline)
            .run("modprobe -c")
    };
    vec![
        classic("kernel command line: parameters of a module, shown by -D", "modprobe -D top")
            .cmdline("quiet top.count=4 top.name=x"),
        shown("kernel command line: one parameter", "top.count=4"),
        shown("kernel command line: two of a module, one of another", "top.count=4 mid.x=1 top.name=a,b"),
        shown("kernel command line: parameters without values", "ro top.count quiet mid.debug"),
        shown("kernel command line: in quotes", "top.name=\"a b\" mid.x='c d'"),
        shown("kernel command line: in quotes as GRUB has them", "\"top.name=a b\" mid.x=\"c\""),
        shown("kernel command line: blacklist", "modprobe.blacklist=top,mid modprobe.blacklist=base"),
        shown("kernel command line: brackets", "ivrs_acpihid[00:14.5]=AMD0020:0 top.list[3].x=1 top.a=[1]"),
        shown(
            "kernel command line: nonsense",
            "root=UUID=1.2-3 .x=1 a..b=2 x.=3 = . top. 5.5=6 ip=1.2.3.4:::",
        ),
        case("kernel command line: what goes to the kernel", "modprobe top name=z")
            .cmdline("top.count=4 base.a=b"),
        case("kernel command line: a blacklisted alias", "modprobe topping")
            .cmdline("modprobe.blacklist=top"),
        case("kernel command line: not there", "modprobe top").without("proc/cmdline"),
        case("kernel command line: behind init's own part", "modprobe -D top")
            .cmdline("top.count=1 -- top.name=2"),
        case("kernel command line: dashes in the name", "modprobe -D dash_ed")
            .cmdline("dash-ed.a=1 dash_ed.b=2"),
    ]
}

fn forced() -> Vec<Case> {
    let old = |kernel: &mut crate::kernel::Kernel| kernel.finit = false;
    vec![
        classic("--force", "modprobe --force old").run("modprobe -f crc"),
        classic("--force-vermagic", "modprobe --force-vermagic old").run("modprobe --force-vermagic crc"),
        classic("--force-modversion", "modprobe --force-modversion crc")
            .run("modprobe --force-modversion old"),
        classic("a kernel without finit_module", "modprobe top count=1").kernel(old),
        classic("a kernel without finit_module: --force", "modprobe --force old")
            .run("modprobe -f crc")
            .kernel(old),
        classic("a kernel without finit_module: --force-vermagic", "modprobe --force-vermagic old")
            .kernel(old),
        classic("a kernel without finit_module: --force-modversion", "modprobe --force-modversion crc")
            .kernel(old),
        case("without force", "modprobe old").run("modprobe crc").run("modprobe fit"),
        case("-f with dependencies", "modprobe -f top"),
    ]
}

fn lookup() -> Vec<Case> {
    let pci = "pci:v00001234d00005678sv0sd0bc0sc0i0";
    vec![
        case("dependencies first", "modprobe top"),
        case("-v tells what it does", "modprobe -v top count=2"),
        case("-v of what is loaded", "modprobe -v top").loaded("base", 0, &[]).loaded("mid", 0, &["base"]),
        case("dashes and underscores are one", "modprobe dash-ed").run("modprobe -D dash_ed"),
        case("an alias with a pattern", "modprobe -v acpi:PNP0A03:")
            .run("modprobe -D acpi9:PNP0A08:x")
            .run("modprobe acpi:PNP0A05:"),
        case("an alias that two modules have", &format!("modprobe -D {pci}")).run(&format!("modprobe {pci}")),
        case("-R of an alias of two", &format!("modprobe -R {pci}"))
            .run("modprobe -R shared")
            .run("modprobe -R top")
            .run("modprobe -R nonsense"),
        case("an alias with dashes", "modprobe -D dash-alias").run("modprobe -D dash_alias"),
        case("symbol:", "modprobe -D symbol:mid_fn").run("modprobe -D symbol:nothing"),
        case("an alias of what is built in", "modprobe -D pebble-7")
            .run("modprobe pebble-7")
            .run("modprobe -v stone"),
        case("-n", "modprobe -n top"),
        case("-n -v", "modprobe -n -v top"),
        case("-n of what is not there", "modprobe -n nonsense"),
        case("-a", "modprobe -a top extra node"),
        case("-a with some that are not there", "modprobe -a nonsense extra 'more nonsense' node"),
        case("-a -q", "modprobe -a -q nonsense extra"),
        case("-a -b", "modprobe -a -b top extra").conf("blacklist top\n"),
        case("-S: another release", "modprobe -S 6.9.9 top"),
        case("-S -D", &format!("modprobe -S {RELEASE} -D top")),
        case("-d: another root", "modprobe -d /files -D top"),
        case("-d: another root that has it", &format!("modprobe -d /copy -S {RELEASE} -D top"))
            .link("copy", "."),
        case("already loaded", "modprobe top").loaded("base", 0, &[]).loaded("mid", 0, &["base"]).loaded(
            "top",
            0,
            &["mid"],
        ),
        case("--first-time, loaded", "modprobe --first-time base").loaded("base", 0, &[]),
        case("--first-time, not loaded", "modprobe --first-time top"),
        case("--first-time, built in", "modprobe --first-time stone"),
        case("-D of several with -a", "modprobe -a -D top softly stone"),
        case(
            "--show-modversions",
            &format!("modprobe --show-modversions /lib/modules/{RELEASE}/kernel/drivers/top.ko"),
        ),
        case(
            "--show-modversions of a module without",
            &format!("modprobe --dump-modversions /lib/modules/{RELEASE}/kernel/fs/extra.ko"),
        ),
        case("-c over the indexes", "modprobe -c"),
        case("soft dependencies before and behind", "modprobe -v softly"),
        case("parameters with blanks and quotes", "modprobe -v top 'name=a b' 'other=\"c d\"' count=1"),
        case("a compressed module", "modprobe packed a=1")
            .put(
                &format!("lib/modules/{RELEASE}/kernel/packed.ko.xz"),
                include_bytes!("../../../fixtures/x86_64/hello.ko.xz"),
            )
            .index()
            .kernel(|kernel| kernel.release = "6.1.0-56-cloud-amd64")
            .link("lib/modules/6.1.0-56-cloud-amd64", RELEASE),
    ]
}

fn configuration() -> Vec<Case> {
    vec![
        case("options of the name and of an alias", "modprobe -v topping count=9")
            .conf("options top count=1\noptions topping name=alias\noptions mid x=1\noptions top more\n"),
        case("options with dashes", "modprobe -D dash-ed").conf("options dash-ed a=1\noptions dash_ed b=2\n"),
        case("blacklist: the name itself is loaded", "modprobe -v top").conf("blacklist top\n"),
        case("blacklist: an alias is not", "modprobe -v topping").conf("blacklist top\n"),
        case("blacklist: -b", "modprobe -b top").conf("blacklist top\n"),
        case("blacklist: a dependency is loaded", "modprobe -b top").conf("blacklist base\nblacklist mid\n"),
        case("blacklist: one of an alias of two", "modprobe -v pci:v00001234d00005678sv0sd0bc0sc0i0")
            .conf("blacklist other\n"),
        case("blacklist: -D", "modprobe -b -D top").conf("blacklist top\n"),
        case("alias of the configuration before the index", "modprobe -D top").conf("alias top extra\n"),
        case("alias with a pattern", "modprobe -D net-pf-7").conf("alias net-pf-[0-9] node\n"),
        case("alias of an alias", "modprobe -D one").conf("alias one two\nalias two extra\n"),
        case("softdep", "modprobe -v extra").conf("softdep extra pre: base post: node\n"),
        case("softdep of what is not there", "modprobe -v extra").conf("softdep extra pre: nonsense\n"),
        case("softdep: -D", "modprobe -D extra").conf("softdep extra pre: mid post: node\n"),
        case("lines that go on, comments, blanks", "modprobe -D top")
            .conf("# c\n\n  options top \\\n  count=1 \\\n   name=2\n\toptions mid x\n"),
        case("lines that are wrong", "modprobe -D top")
            .conf("nonsense top\noptions\nalias one\nblacklist\noptions top count=1\nsoftdep\n"),
        case("a file that is no .conf", "modprobe -D top").put("etc/modprobe.d/x.txt", "options top a=1\n"),
        case("one name in two directories", "modprobe -D top")
            .put("lib/modprobe.d/a.conf", "options top lib=1\n")
            .put("etc/modprobe.d/a.conf", "options top etc=1\n")
            .put("run/modprobe.d/b.conf", "options top run=1\n"),
        case("-C: a file", "modprobe -C /files/x.conf -D top")
            .put("files/x.conf", "options top c=1\n")
            .conf("options top etc=1\n"),
        case("-C: a directory", "modprobe --config=/files/d -D top")
            .put("files/d/x.conf", "options top c=1\n")
            .conf("options top etc=1\n"),
        case("-C: nothing there", "modprobe -C /files/absent -D top"),
        case("MODPROBE_OPTIONS", "modprobe top").environment("MODPROBE_OPTIONS", "-v --first-time"),
        case("MODPROBE_OPTIONS with quotes", "modprobe -D top")
            .environment("MODPROBE_OPTIONS", "-C '/files/a b.conf'")
            .put("files/a b.conf", "options top q=1\n"),
        case("modules.softdep of the tree is shown by -c", "modprobe -c")
            .conf("softdep softly pre: node\nalias a b\ninstall i echo\nremove r echo\nblacklist x\n"),
        case("options of an unknown module are shown", "modprobe --showconfig")
            .without(&format!("lib/modules/{RELEASE}"))
            .conf("options nonsense a=1\n"),
    ]
}

fn commands() -> Vec<Case> {
    vec![
        case("install: instead of the module", "modprobe base").conf("install base echo instead of base\n"),
        case("install: with parameters", "modprobe -v top count=1")
            .conf("install top echo got: $CMDLINE_OPTS\n")
            .in_any_order(),
        case("install: -D", "modprobe -D top a=1")
            .conf("install mid echo mid\ninstall top echo $CMDLINE_OPTS\n"),
        case("install: of a dependency", "modprobe -v top")
            .conf("install base echo instead; modprobe -i base\n")
            .in_any_order(),
        case("install: -i", "modprobe -i -v top")
            .conf("install top echo no\ninstall base echo yes; modprobe -i base\n")
            .in_any_order(),
        case("install: a name that is no module", "modprobe nickname").conf("install nickname echo there\n"),
        case("install: the module in the environment", "modprobe base")
            .conf("install base echo $MODPROBE_MODULE\n"),
        case("install: fails", "modprobe base").conf("install base false\n"),
        case("install: fails for a dependency", "modprobe top").conf("install mid exit 7\n"),
        case("install: -n", "modprobe -n -v base").conf("install base touch /files/no\n"),
        case("install: loaded already", "modprobe base").conf("install base echo again\n").loaded(
            "base",
            0,
            &[],
        ),
        case("install: false, of a blacklist", "modprobe -v topping")
            .conf("install top false\nblacklist top\n"),
    ]
}

fn failures() -> Vec<Case> {
    let refused = |name, error: i64| case(name, "modprobe top").refuses("top", error);
    vec![
        refused("the kernel says: no such device", errno::ENODEV),
        refused("the kernel says: no such entry", errno::ENOENT),
        refused("the kernel says: not permitted", errno::EPERM),
        refused("the kernel says: no memory", errno::ENOMEM),
        refused("the kernel says: invalid", errno::EINVAL),
        refused("the kernel says: exists", errno::EEXIST),
        refused("the kernel says: busy", errno::EBUSY),
        case("a dependency is refused", "modprobe top").refuses("base", errno::EPERM),
        case("a dependency is refused, -v", "modprobe -v top").refuses("mid", errno::EINVAL),
        case("-q of what is refused", "modprobe -q top").refuses("top", errno::ENODEV),
        case("-a with one that is refused", "modprobe -a top extra").refuses("top", errno::ENODEV),
        case("a wrong parameter", "modprobe top count=invalid"),
        case("-s -q of what is not there", "modprobe -q nonsense"),
        case("what is not there", "modprobe nonsense"),
        case("what is not there, with dashes", "modprobe non-sense_x"),
        case("no operand", "modprobe"),
        case("no operand: -a", "modprobe -a"),
        case("no operand: -r", "modprobe -r"),
        case("an unknown option", "modprobe --nonsense"),
        case("an option without its argument", "modprobe -C"),
        case("no directory of modules", "modprobe base").on(Ground::Empty),
        case("no indexes", "modprobe base").on(Ground::Bare),
        case("no indexes: -D", "modprobe -D base").on(Ground::Bare),
        case("the file is gone", "modprobe base")
            .without(&format!("lib/modules/{RELEASE}/kernel/lib/base.ko"))
            .explains("kernel/lib/base.ko is not there"),
        case("a dependency's file is gone", "modprobe top")
            .without(&format!("lib/modules/{RELEASE}/kernel/lib/base.ko"))
            .unlike("kmod 30 has the kernel refuse the module all the same")
            .code(1)
            .err("modprobe: ERROR: could not insert 'top': Unknown symbol in module, or unknown parameter (see dmesg)\n")
            .explains("base"),
        case("without /proc and /sys", "modprobe top").kernel(|kernel| kernel.mounted = false),
        case("without /proc and /sys: -D", "modprobe -D top").kernel(|kernel| kernel.mounted = false),
        case("without /sys", "modprobe -v top").without("sys"),
        case("a module being unloaded", "modprobe base")
            .put("sys/module/base/initstate", "going\n")
            .put("sys/module/base/refcnt", "0\n"),
        case("a module being loaded", "modprobe base").put("sys/module/base/initstate", "coming\n"),
    ]
}

fn scripts() -> Vec<Case> {
    vec![
        case(
            "as initramfs-tools asks",
            &format!("modprobe --all --set-version={RELEASE} --ignore-install --quiet --show-depends top nonsense stone softly"),
        )
        .conf("install top echo\noptions top a=1\n"),
        case("as initramfs-tools asks, without --ignore-install", &format!("modprobe --all --set-version={RELEASE} --quiet --show-depends top mid"))
            .conf("install mid echo\n"),
        case("as dracut asks", &format!("modprobe -d / -S {RELEASE} --dry-run nonsense")),
        case("as systemd's modprobe@.service asks", "modprobe -abq top").run("modprobe -abq nonsense"),
        case("as the kernel asks", "modprobe -q -- fs-extra").run("modprobe -q -- net-pf-99"),
        case("as dkms asks", "modprobe -a -b -q top extra").conf("blacklist extra\n"),
    ]
}
