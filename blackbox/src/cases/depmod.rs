use super::modules;
use crate::case::Case;
use crate::case::Ground;
use crate::fixture::RELEASE;
use crate::module::Module;
use crate::module::gzip;
use crate::module::zstd_without_size;

const SYMVERS: &str = "\
0x0cafe123	kernel_fn	vmlinux	EXPORT_SYMBOL
0x00000011	base_fn	kernel/lib/base	EXPORT_SYMBOL
";

/// Where the aliases of symbols begin.
const SYMBOLS: &str = "# Aliases for symbols";
/// The weak dependencies of the tree, which kmod 30 does not know.
const WEAK: &str =
    "# Weak dependencies extracted from modules themselves.\nweakdep wb wa base\nweakdep wa wb\n";

fn bare(name: &'static str) -> Case {
    Case::new("depmod", name).on(Ground::Bare)
}

fn classic(name: &'static str) -> Case {
    Case::classic("depmod", name).on(Ground::Bare)
}

/// Two modules of one name, one of them not in `kernel`, and one that needs it.
fn twice(name: &'static str, depmod_d: &str, elsewhere: &str) -> Case {
    classic(name)
        .put("etc/depmod.d/search.conf", depmod_d)
        .module(
            elsewhere,
            Module::new("mid").depends("base").imports("base_fn", 0x11).exports("mid_fn", 0x22),
        )
        .run(&format!("depmod {RELEASE}"))
}

pub(super) fn cases() -> Vec<Case> {
    [classics(), options(), outputs(), complaints()].concat()
}

fn classics() -> Vec<Case> {
    let directory = format!("lib/modules/{RELEASE}");
    let alias = |name: &'static str| Module::new(name).info("alias", name);
    let packed = Case::classic("depmod", "the order of compressed modules is that of modules.order")
        .on(Ground::Empty)
        .put(&format!("{directory}/kernel/b.ko.gz"), gzip(&alias("alias_b").file()))
        .put(&format!("{directory}/kernel/a.ko.zst"), zstd_without_size(&alias("alias_a").file()))
        .put(&format!("{directory}/kernel/c.ko.xz"), include_bytes!("../../../fixtures/x86_64/hello.ko.xz"))
        .put(&format!("{directory}/kernel/d.ko"), alias("alias_d").file())
        .put(&format!("{directory}/modules.order"), "kernel/d.ko\nkernel/b.ko\nkernel/c.ko\nkernel/a.ko\n")
        .put(&format!("{directory}/modules.builtin"), "")
        .put(&format!("{directory}/modules.builtin.modinfo"), "")
        .run(&format!("depmod {RELEASE}"))
        .unlike("Debian's kmod 30 reads no gzip")
        .writes(
            &format!("{directory}/modules.alias"),
            Some(
                "# Aliases extracted from modules themselves.\n\
                 alias alias_d d\nalias alias_b b\nalias alias_a a\n",
            ),
        )
        .writes(
            &format!("{directory}/modules.dep"),
            Some("kernel/d.ko:\nkernel/b.ko.gz:\nkernel/c.ko.xz:\nkernel/a.ko.zst:\n"),
        );
    vec![
        all_indexes(packed),
        classic("--outdir: elsewhere, in the same shape")
            .run(&format!("depmod --outdir /tmp/out {RELEASE}"))
            .like(&format!("depmod {RELEASE}"), "lib/", "tmp/out/lib/"),
        twice("search: updates before built-in", "search updates built-in\n", "updates/mid.ko"),
        twice(
            "search: two directories whose names begin alike",
            "search foobar foo built-in\n",
            "foo/mid.ko",
        ),
        classic("search: external before built-in")
            .put("etc/depmod.d/s.conf", "search external built-in\nexternal 6.* /outside\n")
            .put("outside/mid.ko", Module::new("mid").depends("base").imports("base_fn", 0x11).file())
            .run(&format!("depmod {RELEASE}")),
        classic("search: external behind built-in")
            .put("etc/depmod.d/s.conf", "search built-in external\nexternal 6.* /outside\n")
            .put("outside/mid.ko", Module::new("mid").depends("base").imports("base_fn", 0x11).file())
            .put("outside/alone.ko", Module::new("alone").file())
            .run(&format!("depmod {RELEASE}")),
        twice(
            "override takes the module of one directory whatever search says",
            "search built-in updates\noverride mid * updates\n",
            "updates/mid.ko",
        ),
        classic("--moduledir, absolute")
            .link("srv", "lib")
            .run(&format!("depmod -m /srv/modules {RELEASE}"))
            .like(&format!("depmod {RELEASE}"), "lib/", "lib/"),
        classic("--moduledir, relative to the base")
            .link("srv", "lib")
            .run(&format!("depmod --moduledir=srv/modules {RELEASE}"))
            .like(&format!("depmod {RELEASE}"), "lib/", "lib/"),
        classic("cycles are told and nothing is written")
            .module("kernel/cy/ca.ko", Module::new("ca").exports("ca_fn", 1).imports("cb_fn", 2))
            .module("kernel/cy/cb.ko", Module::new("cb").exports("cb_fn", 2).imports("cc_fn", 3))
            .module("kernel/cy/cc.ko", Module::new("cc").exports("cc_fn", 3).imports("ca_fn", 1))
            .module("kernel/cy/user.ko", Module::new("user").imports("ca_fn", 1))
            .run(&format!("depmod {RELEASE}")),
        weakdep(),
    ]
}

/// Every index is written; contents are compared only where they are told already.
fn all_indexes(case: Case) -> Case {
    let names = [
        "alias",
        "alias.bin",
        "builtin.alias.bin",
        "builtin.bin",
        "dep",
        "dep.bin",
        "devname",
        "softdep",
        "symbols",
        "symbols.bin",
    ];
    names.iter().fold(case, |case, name| case.writes(&format!("lib/modules/{RELEASE}/modules.{name}"), None))
}

fn weakdep() -> Case {
    let directory = format!("lib/modules/{RELEASE}");
    let case = Case::classic("depmod", "modules.weakdep")
        .on(Ground::Empty)
        .module("kernel/wa.ko", Module::new("wa").info("weakdep", "wb"))
        .module("kernel/wb.ko", Module::new("wb").info("weakdep", "wa base"))
        .put(&format!("{directory}/modules.order"), "kernel/wb.ko\nkernel/wa.ko\n")
        .put(&format!("{directory}/modules.builtin"), "")
        .put(&format!("{directory}/modules.builtin.modinfo"), "")
        .run(&format!("depmod {RELEASE}"))
        .unlike("kmod 30 knows no weak dependencies")
        .writes(
            &format!("{directory}/modules.weakdep"),
            Some(
                "# Weak dependencies extracted from modules themselves.\nweakdep wb wa base\nweakdep wa wb\n",
            ),
        )
        .writes(&format!("{directory}/modules.dep"), Some("kernel/wb.ko:\nkernel/wa.ko:\n"));
    all_indexes(case)
}

fn options() -> Vec<Case> {
    let dep = format!("lib/modules/{RELEASE}/modules.dep");
    let indexed = |name| Case::new("depmod", name);
    vec![
        bare("of the running kernel").run("depmod"),
        bare("-a of a version").run(&format!("depmod -a {RELEASE}")),
        bare("-b from another directory").within("/files").run(&format!("depmod -b / {RELEASE}")),
        bare("-n writes to standard output only").run(&format!("depmod -n {RELEASE}")).with_more(SYMBOLS, WEAK),
        bare("-n -v").run(&format!("depmod -n -v {RELEASE}")).with_more(SYMBOLS, WEAK),
        bare("-v").run(&format!("depmod -v {RELEASE}")),
        indexed("-A: up to date").run(&format!("depmod -A {RELEASE}")),
        indexed("-A: a module is newer")
            .touch(&format!("lib/modules/{RELEASE}/kernel/lib/base.ko"), 100)
            .module("kernel/lib/newer.ko", Module::new("newer"))
            .touch(&format!("lib/modules/{RELEASE}/kernel/lib/newer.ko"), 100)
            .run(&format!("depmod -A {RELEASE}")),
        indexed("-A: no modules.dep").without(&dep).run(&format!("depmod -A {RELEASE}")),
        bare("-A: no index at all").run(&format!("depmod --quick {RELEASE}")),
        bare("-e without a list of symbols").run(&format!("depmod -e {RELEASE}")),
        bare("-e -E tells what is not to be found and what has another version")
            .put("files/Module.symvers", SYMVERS)
            .module("kernel/lib/needy.ko", Module::new("needy").imports("nowhere_fn", 5).imports("base_fn", 0x99))
            .run(&format!("depmod -e -E /files/Module.symvers {RELEASE}")),
        bare("-e -F System.map")
            .put("files/System.map", "ffffffff81000000 T __crc_x\nffffffff81000010 r __ksymtab_kernel_fn\n")
            .module("kernel/lib/needy.ko", Module::new("needy").imports("nowhere_fn", 5))
            .run(&format!("depmod -e -F /files/System.map {RELEASE}")),
        bare("-F without a file").run(&format!("depmod -F /files/absent {RELEASE}")),
        bare("-E without a file").run(&format!("depmod -e -E /files/absent {RELEASE}")),
        bare("-P: the prefix of symbols")
            .put("files/System.map", "c0000010 r __ksymtab_.kernel_fn\n")
            .run(&format!("depmod -e -F /files/System.map -P . {RELEASE}")),
        bare("-P: longer than a letter").run(&format!("depmod -P ab {RELEASE}")),
        bare("-w: two device names for one node")
            .module("kernel/fs/nodeless.ko", Module::new("nodeless").info("alias", "devname:lost"))
            .run(&format!("depmod -w {RELEASE}")),
        bare("-C: another configuration")
            .put("files/d.conf", "search updates built-in\nexclude fs\n")
            .module("updates/mid.ko", Module::new("mid"))
            .run(&format!("depmod -C /files/d.conf {RELEASE}")),
        bare("files instead of the tree").run(&format!(
            "depmod -n {RELEASE} /lib/modules/{RELEASE}/kernel/lib/base.ko /lib/modules/{RELEASE}/kernel/lib/mid.ko"
        )),
        bare("files that are no absolute paths").run(&format!("depmod -n {RELEASE} base.ko")),
        bare("options of former times are told and taken").run(&format!("depmod -u -q -r {RELEASE}")),
        bare("the version of before is kept with another").run(&format!("depmod -a -b / {RELEASE}")),
    ]
}

fn outputs() -> Vec<Case> {
    let mut only = twice("search: built-in only", "search built-in\n", "updates/mid.ko");
    only.classic = false;
    let directory = format!("lib/modules/{RELEASE}");
    vec![
        only,
        bare("without modules.order, builtin and builtin.modinfo")
            .without(&format!("{directory}/modules.order"))
            .without(&format!("{directory}/modules.builtin"))
            .without(&format!("{directory}/modules.builtin.modinfo"))
            .run(&format!("depmod {RELEASE}"))
            .instead(&format!("{directory}/modules.builtin.bin"), "index:\n")
            .instead(&format!("{directory}/modules.builtin.alias.bin"), "index:\n"),
        Case::new("depmod", "an empty directory gets indexes")
            .on(Ground::Empty)
            .put(&format!("{directory}/nothing"), "")
            .run(&format!("depmod {RELEASE}"))
            .instead(&format!("{directory}/modules.builtin.bin"), "index:\n")
            .instead(&format!("{directory}/modules.builtin.alias.bin"), "index:\n"),
        Case::new("depmod", "an older release too")
            .on(Ground::Bare)
            .link("lib/modules/5.4.0", RELEASE)
            .run("depmod 5.4.0"),
        bare("build and source are not entered")
            .put(&format!("{directory}/build/x.ko"), Module::new("x").file())
            .put(&format!("{directory}/source/y.ko"), Module::new("y").file())
            .put(&format!("{directory}/extra/.hidden/z.ko"), Module::new("z").file())
            .run(&format!("depmod {RELEASE}")),
        bare("links are followed")
            .put("outside/linked.ko", Module::new("linked").file())
            .link(&format!("{directory}/linked.ko"), "/outside/linked.ko")
            .link(&format!("{directory}/outside"), "/outside")
            .run(&format!("depmod {RELEASE}")),
        all_indexes(
            bare("a link that leads nowhere")
                .link(&format!("{directory}/dangling.ko"), "/nowhere.ko")
                .run(&format!("depmod {RELEASE}"))
                .unlike("kmod 30 gives a number instead of the directory")
                .err(&format!(
                    "depmod: ERROR: fstatat(/lib/modules/{RELEASE}/, dangling.ko): No such file or directory\n"
                )),
        ),
        bare("a module of a big-endian machine")
            .module("kernel/ppc.ko", Module::new("ppc").foreign().info("alias", "pp*"))
            .run(&format!("depmod {RELEASE}")),
        bare("files that are no modules")
            .put(&format!("{directory}/kernel/empty.ko"), "")
            .put(
                &format!("{directory}/kernel/text.ko"),
                "this is text, and long enough to be looked at as a header",
            )
            .put(&format!("{directory}/kernel/readme.txt"), "text")
            .run(&format!("depmod {RELEASE}")),
        bare("symbols that two modules export")
            .module("kernel/lib/base-two.ko", Module::new("base_two").exports("base_fn", 0x11))
            .run(&format!("depmod {RELEASE}")),
        bare("comments, blanks and nonsense in depmod.d")
            .put(
                "etc/depmod.d/a.conf",
                "# comment\n\n  search   updates \\\n  built-in\nnonsense here\noverride mid\nsearch\n",
            )
            .put("etc/depmod.d/b.txt", "nonsense\n")
            .run(&format!("depmod {RELEASE}")),
        bare("a file of the same name in a directory that counts more")
            .put("lib/depmod.d/a.conf", "search built-in\n")
            .put("run/depmod.d/a.conf", "search updates built-in\n")
            .module("updates/mid.ko", Module::new("mid"))
            .run(&format!("depmod {RELEASE}")),
        bare("words that are not read any more")
            .put("etc/depmod.d/a.conf", "include x\nmake_map_files yes\n")
            .run(&format!("depmod {RELEASE}")),
        bare("without /proc").kernel(|kernel| kernel.mounted = false).run(&format!("depmod {RELEASE}")),
        bare("what a soft dependency and a device name become")
            .module(
                "kernel/n1.ko",
                Module::new("n1").info("alias", "devname:cpu/1").info("alias", "block-major-7-3"),
            )
            .module(
                "kernel/n2.ko",
                Module::new("n2").info("alias", "char-major-4-300-x").info("alias", "devname:nn"),
            )
            .run(&format!("depmod {RELEASE}")),
        Case::new("depmod", "all modules again, of the same tree: nothing changes")
            .run(&format!("depmod {RELEASE}"))
            .run("modprobe -D top"),
        bare("what depmod wrote is read by modprobe")
            .run(&format!("depmod {RELEASE}"))
            .run("modprobe -a -D top softly pci:v00001234d00005678sv0sd0bc0sc0i0 node dash-ed stone"),
        bare("-n, then for good")
            .run(&format!("depmod -n {RELEASE}"))
            .with_more(SYMBOLS, WEAK)
            .run(&format!("depmod {RELEASE}")),
    ]
}

fn complaints() -> Vec<Case> {
    let count = modules().len();
    assert!(count > 10, "the tree has grown thin");
    vec![
        bare("no such directory").run("depmod 6.2.0"),
        bare("no such base").run(&format!("depmod -b /nowhere {RELEASE}")),
        bare("a version that is none").run("depmod nonsense"),
        bare("an unknown option").run("depmod --nonsense"),
        bare("an option without its argument").run("depmod -b"),
        Case::new("depmod", "no modules at all").on(Ground::Empty).run(&format!("depmod {RELEASE}")),
        bare("the directory is a file").put("lib/modules/6.3.0", "text").run("depmod 6.3.0"),
    ]
}
