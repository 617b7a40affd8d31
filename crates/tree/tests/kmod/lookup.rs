//! Look-ups: `modprobe -R` and `-D` tell what kmod makes of names, aliases and soft dependencies in a tree of `depmod`'s.

use lkm_tree::lookup::Modules;
use lkm_tree::lookup::Named;
use lkm_tree::lookup::Rules;

use crate::support::Tree;

const CONFIG: &str = "\
alias my-* disk
alias my-own the-bus
options disk speed=9
options my-* fast
softdep the-bus pre: base
softdep the-bus post: card
softdep card pre: base other post: fs-disk
";

const NAMES: [&str; 14] = [
    "disk",
    "the-bus",
    "the_bus",
    "card",
    "base",
    "my-x",
    "my-own",
    "pci:v00008086d0000100Esv1",
    "bus-name",
    "fs-disk",
    "proc-like",
    "fs-proc-1",
    "nothing",
    "symbol:no_such_symbol",
];

#[test]
fn names_stand_for_what_modprobe_says() {
    let tree = Tree::sample("find");
    let source = tree.write("etc/x.conf", CONFIG);
    let modules =
        Modules::open(tree.modules(), Some(std::slice::from_ref(&source)), b"").with_rules(Rules::KMOD);
    let source = source.to_str().unwrap();
    let (mut found, mut steps) = (0, 0);
    for name in NAMES {
        let ours = modules.find(name.as_bytes()).unwrap_or_default();
        let names: Vec<String> = ours.iter().map(|module| module.name.escape_ascii().to_string()).collect();
        assert_eq!(names, tree.modprobe(&["-C", source, "-R", name]).lines().collect::<Vec<_>>(), "{name}");
        found += names.len();

        let mut lines = Vec::new();
        for module in &ours {
            for step in modules.plan(module, Named::WithCommands).unwrap().steps {
                match step.path {
                    Some(path) => {
                        let options = step.options.escape_ascii().to_string();
                        lines.push(format!("insmod {} {options}", path.display()).trim_end().to_owned());
                    }
                    None if modules.is_builtin(&step.name) => {
                        lines.push(format!("builtin {}", step.name.escape_ascii()));
                    }
                    None => {}
                }
            }
        }
        let theirs = tree.modprobe(&["-C", source, "-D", name]);
        assert_eq!(lines, theirs.lines().map(str::trim_end).collect::<Vec<_>>(), "{name}");
        steps += lines.len();
    }
    assert!(found >= 10 && steps >= 15, "{found} modules, {steps} steps");
}
