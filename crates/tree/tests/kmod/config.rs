//! The configuration: `modprobe -c` shows what kmod made of files and of this machine's kernel command line.

use std::path::PathBuf;

use lkm_tree::config::Config;
use lkm_tree::name::underscores;

use crate::support::RELEASE;
use crate::support::Tree;
use crate::support::kmod;

/// The configuration as `modprobe -c` prints it.
fn dump(config: &Config) -> Vec<Vec<u8>> {
    let line = |parts: &[&[u8]]| parts.join(&b' ');
    let mut lines = Vec::new();
    lines.extend(config.blacklist.iter().map(|entry| line(&[b"blacklist", &entry.module])));
    lines.extend(config.install.iter().map(|entry| line(&[b"install", &entry.pattern, &entry.command])));
    lines.extend(config.remove.iter().map(|entry| line(&[b"remove", &entry.pattern, &entry.command])));
    lines.extend(config.aliases.iter().map(|entry| line(&[b"alias", &entry.pattern, &entry.module])));
    lines.extend(config.options.iter().map(|entry| line(&[b"options", &entry.module, &entry.options])));
    for entry in &config.soft_dependencies {
        // It puts no blank between the last name before and `post:`.
        let mut text = line(&[b"softdep", &entry.pattern, b""]);
        for (title, names) in
            [("pre: ", entry.before().collect::<Vec<_>>()), ("post: ", entry.after().collect())]
        {
            if !names.is_empty() {
                text.extend_from_slice(title.as_bytes());
                text.extend_from_slice(&names.join(&b' '));
            }
        }
        lines.push(text);
    }
    lines
}

fn compare(tree: &Tree, sources: &[PathBuf]) -> (usize, usize) {
    let mut arguments = vec!["-c".to_owned(), "-d".to_owned(), tree.root().display().to_string()];
    arguments.extend(["-S".to_owned(), RELEASE.to_owned()]);
    for source in sources {
        arguments.extend(["-C".to_owned(), source.display().to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = kmod("modprobe", &arguments);
    let end = b"\n# End of configuration files.";
    let length = output.stdout.windows(end.len()).position(|window| window == end);
    let theirs = &output.stdout[..length.expect("modprobe -c shows the configuration")];
    // What this machine's kernel command line blacklists is not normalised by kmod 30.
    let theirs =
        theirs.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && *line != b"blacklist ");
    let theirs = theirs.map(|line| match line.strip_prefix(b"blacklist ").and_then(underscores) {
        Some(name) => [b"blacklist ".as_slice(), &name].concat(),
        None => line.to_vec(),
    });

    // kmod reads the soft dependencies of the kernel's own modules along with the rest.
    let mut all = vec![tree.modules().join("modules.softdep")];
    all.extend_from_slice(sources);
    let mut config = Config::read(&all);
    config.add_kernel_command_line(&std::fs::read("/proc/cmdline").unwrap());
    let ours = dump(&config);
    let show = |line: &[u8]| line.escape_ascii().to_string();
    let shown: Vec<String> = ours.iter().map(|line| show(line)).collect();
    assert_eq!(shown, theirs.map(|line| show(&line)).collect::<Vec<_>>());

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Before the text: libkmod: ERROR FILE:LINE FUNCTION:
    let text = |line| str::split_once(line, ".c:").and_then(|(_, rest)| rest.split_once(": "));
    let said: Vec<&str> = said.lines().map(|line| text(line).map_or(line, |(_, text)| text)).collect();
    let ours_said: Vec<String> = config.problems.iter().map(ToString::to_string).collect();
    assert_eq!(ours_said, said);
    (ours.len(), said.len())
}

#[test]
fn files_are_read_in_order_and_hide_each_other() {
    let tree = Tree::sample("order");
    let at = |path: &str, text: &str| tree.write(path, text);
    at("etc/20-b.conf", "options order from=etc-20\n");
    at("etc/hidden.conf", "options shadow from=etc\n");
    at("etc/README", "nonsense\n");
    at("etc/.dot.conf", "nonsense\n");
    at("etc/.conf", "nonsense\n");
    at("etc/directory.conf/x.conf", "nonsense\n");
    at("lib/10-a.conf", "options order from=lib-10\n");
    at("lib/hidden.conf", "options shadow from=lib\n");
    at("lib/nz.conf", "softdep nz pre: after the modules.softdep of the kernel\n");
    at("lib/a.conf", "softdep a post: before\n");
    let single = at("15-single.anything", "options order from=single-15");
    let sources = [tree.root().join("etc"), tree.root().join("absent"), single, tree.root().join("lib")];
    let (lines, problems) = compare(&tree, &sources);
    assert!(lines >= 7, "{lines}");
    assert_eq!(problems, 1);
    let config = Config::read(&sources);
    let order: Vec<_> = config.options.iter().map(|line| line.options.escape_ascii().to_string()).collect();
    assert_eq!(order, ["from=lib-10", "from=single-15", "from=etc-20", "from=etc"]);
}

#[test]
fn lines_of_every_kind_are_read_as_kmod_reads_them() {
    let pieces: &[&str] = &[
        "alias",
        "blacklist",
        "options",
        "install",
        "remove",
        "softdep",
        "include",
        "odd",
        "#",
        " ",
        " ",
        " ",
        "  ",
        "\t",
        "\n",
        "\n",
        "\n",
        "\\\n",
        "\\",
        "a-b",
        "c_d",
        "[a-c]",
        "[",
        "]",
        "*",
        "?",
        "pre:",
        "post:",
        "x=1",
        "y=\"p q\"",
        "\r",
        "\u{b}",
        "ä",
        "$CMDLINE_OPTS",
    ];
    // Any sequence will do, as long as it is always the same one.
    let mut state = 7_u32;
    let mut draw = |bound: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % bound
    };
    let mut text = String::new();
    for _ in 0..1500 {
        // A line that may well be good, then whatever.
        text += pieces[draw(6)];
        text += " ";
        text += ["a-b", "mod", "[x-y]-z", "q*", "q]"][draw(5)];
        text += " ";
        for _ in 0..draw(6) {
            text += pieces[draw(pieces.len())];
        }
        text += "\n";
    }
    let tree = Tree::sample("lines");
    let file = tree.write("etc/random.conf", text);
    let (lines, problems) = compare(&tree, &[file]);
    assert!(lines > 500 && problems > 100, "{lines} lines, {problems} problems");
}

#[test]
fn the_lines_that_count_are_those_that_modprobe_heeds() {
    let tree = Tree::sample("heeded");
    let file = tree.write(
        "etc/x.conf",
        "install ba* first\ninstall base second\noptions card a=1\noptions ca* b=2\noptions card c=3\n\
         softdep di* pre: the-bus\nsoftdep disk post: card\nalias my-* disk\nalias m* card\n",
    );
    let source = file.to_str().unwrap();
    let config = Config::read(std::slice::from_ref(&file));
    let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();

    let shown = tree.modprobe(&["-C", source, "-D", "base"]);
    let command = string(&config.install_command(b"base").unwrap().command);
    assert_eq!(shown.trim_end(), format!("install {command}"));

    let shown = tree.modprobe(&["-C", source, "-D", "card"]);
    let line = shown.lines().find(|line| line.contains("/card.ko ")).unwrap();
    let options: Vec<String> = config.options_of(b"card").map(|line| string(&line.options)).collect();
    assert_eq!(line.split_once(".ko ").unwrap().1.trim_end(), options.join(" "));

    let names: Vec<String> = config.aliases_of(b"my_x").map(|alias| string(&alias.module)).collect();
    assert_eq!(tree.modprobe(&["-C", source, "-R", "my-x"]).lines().collect::<Vec<_>>(), names);
    assert_eq!(names.len(), 2);

    // Of several lines for one module kmod heeds the first: nothing comes after the disk.
    let shown = tree.modprobe(&["-C", source, "-D", "disk"]);
    let first = config.soft_dependencies_of(b"disk").next().unwrap();
    assert_eq!((first.before().collect(), first.after().count()), (vec![&b"the-bus"[..]], 0));
    assert!(shown.trim_end().ends_with("/disk.ko"), "{shown}");
    assert!(shown.contains("/the-bus.ko"), "{shown}");
}
