use crate::case::Case;
use crate::case::Ground;
use crate::fixture::RELEASE;
use crate::module::Module;

fn classic(name: &'static str, line: &str) -> Case {
    Case::classic("modinfo", name).run(line)
}

fn case(name: &'static str, line: &str) -> Case {
    Case::new("modinfo", name).run(line)
}

pub(super) fn cases() -> Vec<Case> {
    [classics(), others()].concat()
}

fn classics() -> Vec<Case> {
    vec![
        classic("-F filename", "modinfo -F filename top"),
        classic("-F author", "modinfo -F author top"),
        classic("-F license", "modinfo -F license top base"),
        classic("-F description", "modinfo -F description top"),
        classic("-F parm", "modinfo -F parm top"),
        classic("-F depends", "modinfo -F depends top mid base"),
        classic("-F signer", "modinfo -F signer sealed sealed_sha1 base"),
        classic("-F sig_key", "modinfo -F sig_key sealed sealed_sha1 base"),
        classic("-F sig_hashalgo", "modinfo -F sig_hashalgo sealed sealed_sha1 base"),
        Case::classic("modinfo", "of a module outside of the directory")
            .put("etc/depmod.d/s.conf", "search external built-in\nexternal 6.* /outside\n")
            .put("outside/foreign.ko", Module::new("foreign").info("description", "From outside").file())
            .index()
            .run("modinfo foreign"),
        classic("builtin", "modinfo stone brick-work"),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case("by name, all fields", "modinfo top sealed dash-ed"),
        case("a signature that names its key by identifier", "modinfo -F sig_key sealed-key")
            .unlike("kmod 30's library does not read such signatures")
            .out("E7:5E:DF:ED:79:65:14:90:0A:A0:42:6A:5D:17:8C:E8:70:37:66:F1\n"),
        case("by alias: all modules that have it", "modinfo pci:v00001234d00005678sv0sd0bc0sc0i0"),
        case("by alias of a builtin", "modinfo platform:stone"),
        case("by file", &format!("modinfo /lib/modules/{RELEASE}/kernel/lib/mid.ko")),
        case("by file, relative", "modinfo ./top.ko").within("/lib/modules/6.1.0-test/kernel/drivers"),
        case("-0", "modinfo -0 top"),
        case("-0 of a builtin", "modinfo -0 stone"),
        case("-a -d -l -p -n", "modinfo -a top")
            .run("modinfo -d top")
            .run("modinfo -l top")
            .run("modinfo -p top")
            .run("modinfo -n top"),
        case("-n of a builtin", "modinfo -n stone"),
        case("-F parm of a builtin", "modinfo -F parm stone"),
        case("-p of a builtin", "modinfo -p stone"),
        case("-F of what it does not have", "modinfo -F nonsense top"),
        case("-k: another release", "modinfo -k 6.9.9 top"),
        case("-k: the same", &format!("modinfo -k {RELEASE} -n top")),
        case("-b: another base", "modinfo -b / -F license top"),
        case("-b: where nothing is", "modinfo -b /files -F license top"),
        case("-m: a name is not an alias", "modinfo -m topping top"),
        case("an unknown name among others", "modinfo -n base nonsense mid"),
        case("an unknown file", "modinfo /files/absent.ko"),
        case("no operand", "modinfo"),
        case("without an index, by file", &format!("modinfo /lib/modules/{RELEASE}/kernel/lib/mid.ko"))
            .on(Ground::Bare),
        case("without an index, by name", "modinfo base").on(Ground::Bare),
        case("a compressed module", "modinfo /files/h.ko.xz /files/h.ko.zst")
            .put("files/h.ko.xz", include_bytes!("../../../fixtures/x86_64/hello.ko.xz"))
            .put("files/h.ko.zst", include_bytes!("../../../fixtures/x86_64/hello.ko.zst")),
        case("an alias of modprobe.d", "modinfo -n nick").conf("alias nick top\n"),
        case("-F firmware, as initramfs-tools asks", &format!("modinfo -k {RELEASE} -F firmware top")),
        case("-F filename, as dracut asks", &format!("modinfo -k {RELEASE} -F filename top base")),
    ]
}
