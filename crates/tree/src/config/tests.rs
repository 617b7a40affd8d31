use proptest::prelude::*;

use super::*;

/// After each `>` a command line, then what `modprobe -c` of kmod 30 made of it, a line for each thing. Made at random
/// from pieces, as root, with `unshare -m sh -c 'mount --bind FILE /proc/cmdline && modprobe -C EMPTY -c'`. Of
/// blacklisted names the empty ones are left out, and `-` is `_`, which kmod does not do.
const COMMAND_LINES: &str = include_str!("command_lines.txt");

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text(text: &str) -> Config {
    let mut config = Config::default();
    config.add_text("f.conf".as_ref(), text.as_bytes());
    config
}

#[test]
fn the_command_line_is_read_as_kmod_reads_it() {
    let mut cases = 0;
    for case in COMMAND_LINES.split("> ").skip(1) {
        let (line, answer) = case.split_once('\n').unwrap();
        let mut config = Config::default();
        config.add_kernel_command_line(format!("{line}\n").as_bytes());
        let blacklist = config.blacklist.iter().map(|line| format!("blacklist {}\n", show(&line.module)));
        let options = config.options.iter();
        let options = options.map(|line| format!("options {} {}\n", show(&line.module), show(&line.options)));
        assert_eq!(blacklist.chain(options).collect::<String>(), answer, "{line}");
        cases += usize::from(!answer.is_empty());
    }
    assert!(cases >= 30);
}

#[test]
fn every_statement_says_where_it_stands() {
    let config = text(
        "# first\nalias net-* off-mod\n\nblacklist a-b\noptions x \\\n  y=1\ninstall n-* /bin/x -a\nremove n rm\n\
         softdep s-1 pre: p-1 post: q\nweakdep w-1 v u\n",
    );
    let at = |line| Origin::File(Path::new("f.conf").into(), line);
    assert_eq!(
        config.aliases,
        [Alias { pattern: Bytes::from(&b"net_*"[..]), module: Bytes::from(&b"off_mod"[..]), origin: at(2) }]
    );
    assert_eq!(config.blacklist, [Blacklist { module: Bytes::from(&b"a_b"[..]), origin: at(4) }]);
    assert_eq!(
        config.options,
        [Options { module: Bytes::from(&b"x"[..]), options: Bytes::from(&b"  y=1"[..]), origin: at(6) }]
    );
    assert_eq!(
        config.install,
        [Command {
            pattern: Bytes::from(&b"n_*"[..]),
            command: Bytes::from(&b"/bin/x -a"[..]),
            origin: at(7)
        }]
    );
    assert_eq!(config.remove[0].origin, at(8));
    assert_eq!(config.soft_dependencies[0].before().collect::<Vec<_>>(), [b"p-1"]);
    assert_eq!(config.soft_dependencies[0].after().collect::<Vec<_>>(), [b"q"]);
    assert_eq!(config.weak_dependencies[0].pattern, b"w_1");
    assert_eq!(config.weak_dependencies[0].names().collect::<Vec<_>>(), [b"v", b"u"]);
    assert!(config.problems.is_empty());
}

#[test]
fn what_is_not_understood_is_said_with_file_and_line() {
    let config = text("options x\nbla x\ninclude /etc/x\nalias a]b c\n");
    let said: Vec<String> = config.problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        said,
        [
            "f.conf line 1: ignoring bad line starting with 'options'",
            "f.conf line 2: ignoring bad line starting with 'bla'",
            "f.conf: command include is deprecated and not parsed anymore",
            "f.conf line 4: ignoring bad line starting with 'alias'",
        ]
    );
}

#[test]
fn look_ups_take_patterns_where_kmod_does() {
    let config = text(
        "install snd_* one\ninstall snd_pcm two\nsoftdep snd_* pre: a\nsoftdep snd_pcm pre: b\noptions snd_* x=1\n\
         options snd_pcm y=1\nblacklist snd_*\nalias card* snd_pcm\n",
    );
    assert_eq!(config.install_command(b"snd_pcm").unwrap().command, b"one");
    assert!(config.remove_command(b"snd_pcm").is_none());
    assert_eq!(config.soft_dependencies_of(b"snd_pcm").count(), 2);
    let options: Vec<_> = config.options_of(b"snd_pcm").map(|line| line.options.as_slice()).collect();
    assert_eq!(options, [b"y=1"]);
    assert!(config.blacklisted(b"snd_pcm").is_none());
    assert_eq!(config.aliases_of(b"card9").next().unwrap().module, b"snd_pcm");
    assert_eq!(config.weak_dependencies_of(b"snd_pcm").count(), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read(file: Vec<u8>, line: Vec<u8>) {
        let mut config = Config::default();
        config.add_text("x".as_ref(), &file);
        config.add_kernel_command_line(&line);
    }
}
