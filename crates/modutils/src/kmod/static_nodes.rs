//! `kmod static-nodes`: device nodes that may be made before their modules are loaded.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lkm_module::Errno;
use lkm_tree::index::text::DeviceKind;
use lkm_tree::index::text::DeviceNode;
use lkm_tree::index::text::device_nodes;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::getopt::Spec;

pub(super) const COMMAND: Command = Command {
    name: "kmod static-nodes",
    about: "list the device nodes that load the modules of the running kernel",
    synopsis: &["[options]"],
    description: "",
    options: OPTIONS,
    run,
};

const OPTIONS: &[Spec] = &[
    Spec::with_value(b'o', "output", "FILE", "write to a file"),
    Spec::with_value(
        b'f',
        "format",
        "FORMAT",
        "human (the default), tmpfiles (for systemd-tmpfiles)\nor devname (as modules.devname)",
    ),
    command::HELP,
];

/// Appends one node in one of the formats.
type Format = fn(&DeviceNode<'_>, &mut Vec<u8>) -> io::Result<()>;

const FORMATS: &[(&str, Format)] = &[("human", human), ("tmpfiles", tmpfiles), ("devname", devname)];

pub(super) fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let parsed = match COMMAND.parse(context, args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let mut output = None;
    let mut format: Format = human;
    for option in parsed.options {
        if option.key == b'o' {
            output = Some(option.value);
            continue;
        }
        let Some((_, chosen)) = FORMATS.iter().find(|(name, _)| name.as_bytes() == option.value.as_bytes())
        else {
            context.complain_bytes(&[b"Unknown format: '", option.value.as_bytes(), b"'."].concat());
            context.print(COMMAND.help().as_bytes());
            return 1;
        };
        format = *chosen;
    }
    let release = context.kernel.release();
    let path = Path::new(context.module_root).join(OsStr::from_bytes(&release)).join("modules.devname");
    let shown = path.as_os_str().as_bytes();
    let file = match std::fs::read(&path) {
        Ok(file) => file,
        // A kernel without modules.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            context.complain_bytes(&[b"Warning: ", shown, b" not found - ignoring"].concat());
            return 0;
        }
        Err(error) => {
            context.complain_bytes(&[b"Error: could not open ", shown, b" - ", text(&error)].concat());
            return 1;
        }
    };
    let mut bytes = Vec::new();
    let mut code = 0;
    for node in device_nodes(&file) {
        let result = match &node {
            Ok(node) => format(node, &mut bytes),
            Err(error) => {
                context.complain_bytes(&[b"Error: invalid devname entry: ", &error.text[..]].concat());
                code = 1;
                continue;
            }
        };
        if result.is_err() {
            code = 1;
        }
    }
    match output {
        None => context.print(&bytes),
        Some(output) => {
            if let Err(message) = write(output, &bytes) {
                context.complain_bytes(&message);
                code = 1;
            }
        }
    }
    code
}

/// Writes the file and makes its directories. The error is the message.
fn write(output: &OsStr, bytes: &[u8]) -> Result<(), Vec<u8>> {
    let path = Path::new(output);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| {
            let name = output.as_bytes();
            [b"Error: could not create parent directory for ", name, b" - ", text(&error), b"."].concat()
        })?;
    }
    std::fs::write(path, bytes)
        .map_err(|error| [b"Error: could not create ", output.as_bytes(), b" - ", text(&error)].concat())
}

fn text(error: &io::Error) -> &'static [u8] {
    let number = error.raw_os_error().and_then(|number| u16::try_from(number).ok());
    number.map_or(Errno::EIO, Errno::from_raw).text().as_bytes()
}

fn human(node: &DeviceNode<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let kind = match node.kind {
        DeviceKind::Character => "character device",
        DeviceKind::Block => "block device",
    };
    out.write_all(&[b"Module: ", node.module, b"\n\tDevice node: /dev/", node.name].concat())?;
    writeln!(out, "\n\t\tType: {kind}\n\t\tMajor: {}\n\t\tMinor: {}", node.major, node.minor)
}

fn tmpfiles(node: &DeviceNode<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    if let Some(slash) = node.name.iter().rposition(|&byte| byte == b'/') {
        let directory = node.name.get(..slash).unwrap_or(b"");
        out.write_all(&[b"d /dev/", directory, b" 0755 - - -\n"].concat())?;
    }
    out.write_all(&[&[letter(node)][..], b"! /dev/", node.name].concat())?;
    writeln!(out, " 0600 - - - {}:{}", node.major, node.minor)
}

fn devname(node: &DeviceNode<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    out.write_all(&[node.module, b" ", node.name, b" ", &[letter(node)]].concat())?;
    writeln!(out, "{}:{}", node.major, node.minor)
}

fn letter(node: &DeviceNode<'_>) -> u8 {
    match node.kind {
        DeviceKind::Character => b'c',
        DeviceKind::Block => b'b',
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Fake;

    /// The answers that kmod 30 gives for this file.
    const NODES: &str = "\
# Device nodes to trigger on-demand module loading.
tun net/tun c10:200
loop loop-control c10:237
blk a/b/c b8:3
";
    const HUMAN: &str = "\
Module: tun
\tDevice node: /dev/net/tun
\t\tType: character device
\t\tMajor: 10
\t\tMinor: 200
";
    const TMPFILES: &str = "\
d /dev/net 0755 - - -
c! /dev/net/tun 0600 - - - 10:200
c! /dev/loop-control 0600 - - - 10:237
d /dev/a/b 0755 - - -
b! /dev/a/b/c 0600 - - - 8:3
";

    #[test]
    fn formats_and_outputs() {
        let root = std::env::temp_dir().join(format!("modutils-nodes-{}", std::process::id()));
        let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
        let fake = Fake { module_root: at(""), ..Fake::default() };
        let warning = format!("Warning: {} not found - ignoring\n", at("6.1.0-test/modules.devname"));
        let output = at("new/directory/nodes.conf");
        let to_file = ["kmod", "static-nodes", "--format=tmpfiles", "-o", &output];
        assert_eq!(fake.run(&to_file), (0, String::new(), warning));
        assert!(!root.exists());
        std::fs::create_dir_all(root.join("6.1.0-test")).unwrap();
        std::fs::write(root.join("6.1.0-test/modules.devname"), NODES).unwrap();
        let (code, out, _) = fake.run(&["kmod", "static-nodes"]);
        assert!(code == 0 && out.starts_with(HUMAN), "{out}");
        assert!(out.ends_with("\t\tType: block device\n\t\tMajor: 8\n\t\tMinor: 3\n"), "{out}");
        assert_eq!(fake.run(&["kmod", "static-nodes", "-f", "tmpfiles"]).1, TMPFILES);
        assert_eq!(fake.run(&to_file), (0, String::new(), String::new()));
        assert_eq!(std::fs::read_to_string(&output).unwrap(), TMPFILES);
        assert_eq!(fake.run(&["kmod", "static-nodes", "-f", "devname"]).1, NODES.split_once('\n').unwrap().1);

        let directory = at("6.1.0-test");
        let expected = format!("Error: could not create {directory} - Is a directory\n");
        assert_eq!(fake.run(&["kmod", "static-nodes", "-o", &directory]), (1, String::new(), expected));
        let (code, out, err) = fake.run(&["kmod", "static-nodes", "-f", "xml"]);
        assert_eq!((code, err.as_str()), (1, "Unknown format: 'xml'.\n"));
        assert!(out.starts_with("Usage:\n\tkmod static-nodes "), "{out}");

        std::fs::write(root.join("6.1.0-test/modules.devname"), "a b\nc d c1:2\n").unwrap();
        let bad = "Error: invalid devname entry: a b\n".to_owned();
        assert_eq!(fake.run(&["kmod", "static-nodes", "-f", "devname"]), (1, "c d c1:2\n".into(), bad));
        std::fs::remove_dir_all(root).unwrap();
    }
}
