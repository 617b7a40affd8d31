use crate::case::Case;
use crate::kernel::errno;

/// All of `top`'s modules are loaded.
fn case(name: &'static str, line: &str) -> Case {
    Case::new("modprobe -r", name)
        .loaded("base", 0, &[])
        .loaded("mid", 0, &["base"])
        .loaded("top", 0, &["mid"])
        .run(line)
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("with what nobody needs then", "modprobe -r top"),
        case("-v", "modprobe -r -v top"),
        case("-n -v", "modprobe -r -n -v top"),
        case("what others use", "modprobe -r base"),
        case("what others use, -v", "modprobe -r -v mid"),
        case("a dependency that others use too", "modprobe -r -v top").loaded("other", 0, &["base"]),
        case("held", "modprobe -r top").loaded("extra", 1, &[]).run("modprobe -r extra"),
        case("several", "modprobe -r -a top extra").loaded("extra", 0, &[]),
        case("several without -a", "modprobe -r top extra node").loaded("extra", 0, &[]),
        case("not loaded", "modprobe -r node"),
        case("not loaded, --first-time", "modprobe -r --first-time node"),
        case("not there", "modprobe -r nonsense"),
        case("not there, -q", "modprobe -r -q nonsense"),
        case("built in", "modprobe -r stone"),
        case("by alias", "modprobe -r -v topping"),
        case("blacklisted", "modprobe -r -v topping").conf("blacklist top\n"),
        case("--remove-holders", "modprobe -r -v --remove-holders base")
            .unlike("kmod 30 stops at a holder that is held itself")
            .out("rmmod top\nrmmod mid\nrmmod base\n")
            .calls(&["unload top nonblock = 0", "unload mid nonblock = 0", "unload base nonblock = 0"]),
        case("--remove-dependencies", "modprobe -r --remove-dependencies mid")
            .unlike("kmod 30 removes the module twice")
            .calls(&["unload top nonblock = 0", "unload mid nonblock = 0", "unload base nonblock = 0"]),
        case("the kernel refuses", "modprobe -r top").keeps("top", errno::EBUSY),
        case("the kernel refuses a dependency", "modprobe -r -v top").keeps("mid", errno::EPERM),
        case("-f of what is held", "modprobe -r -f extra").loaded("extra", 1, &[]),
        case("remove: instead of unloading", "modprobe -r -v top")
            .conf("remove top echo instead\n")
            .in_any_order(),
        case("remove: of a dependency", "modprobe -r -v top")
            .conf("remove mid echo mid; modprobe -r -i mid\n")
            .in_any_order(),
        case("remove: -i", "modprobe -r -i -v top").conf("remove top echo no\n"),
        case("remove: fails", "modprobe -r top").conf("remove top false\n"),
        case("soft dependencies backwards", "modprobe -r -v softly").loaded("softly", 0, &[]).loaded(
            "extra",
            0,
            &[],
        ),
        case("-w of what is held", "modprobe -r -w 200 extra")
            .loaded("extra", 1, &[])
            .unlike("kmod 30 says nothing and succeeds, or does not come to an end")
            .code(1)
            .repeated_calls(&["unload extra nonblock = -11"])
            .err("modprobe: ERROR: could not remove 'extra': Resource temporarily unavailable\n"),
        case("without /sys", "modprobe -r top").without("sys"),
        case("a path", "modprobe -r /lib/modules/6.1.0-test/kernel/drivers/top.ko"),
    ]
}
