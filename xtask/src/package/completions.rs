//! Completions for bash, zsh and fish, from what the commands say of their options.

use std::fmt::Write;

use modutils::COMMANDS;
use modutils::Command;
use modutils::getopt::Spec;

/// A file of completions.
#[derive(Debug)]
pub(super) struct File {
    /// Its shell and name.
    pub(super) path: String,
    /// Its contents.
    pub(super) text: String,
}

/// What may stand in some place of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    Nothing,
    Files,
    Directories,
    Releases,
    Loaded,
    /// Modules in the directory of the release that is asked for.
    Modules,
    ModulesOrFiles,
    /// Modules, with `-r` those that are loaded; then parameters of the first.
    Probe,
    /// A module file, then its parameters.
    Insert,
    /// A release, then files.
    Index,
    /// Commands of kmod.
    Commands,
}

fn operands(command: &Command) -> Words {
    match command.name {
        "insmod" => Words::Insert,
        "rmmod" => Words::Loaded,
        "modinfo" => Words::ModulesOrFiles,
        "modprobe" => Words::Probe,
        "depmod" => Words::Index,
        "kmod" => Words::Commands,
        _ => Words::Nothing,
    }
}

/// What a value is, by what the help calls it.
fn value(spec: &Spec) -> Option<Words> {
    spec.value.map(|value| match value {
        "FILE" | "PATH" => Words::Files,
        "DIR" => Words::Directories,
        "VERSION" | "RELEASE" => Words::Releases,
        "NAME" => Words::Modules,
        _ => Words::Nothing,
    })
}

fn shown(command: &Command) -> impl Iterator<Item = &'static Spec> {
    command.options.iter().filter(|spec| !spec.help.is_empty())
}

fn forms(spec: &Spec) -> Vec<String> {
    let short = spec.short.then(|| format!("-{}", char::from(spec.key)));
    let long = (!spec.long.is_empty()).then(|| format!("--{}", spec.long));
    short.into_iter().chain(long).collect()
}

fn help(spec: &Spec) -> String {
    spec.help.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All files.
pub(super) fn files() -> Vec<File> {
    let mut files = vec![
        File { path: "bash/modutils".into(), text: bash() },
        File { path: "zsh/_lkm_modutils".into(), text: zsh() },
    ];
    files.extend(
        COMMANDS
            .iter()
            .map(|command| File { path: format!("fish/{}.fish", command.name), text: fish(command) }),
    );
    files
}

fn names() -> String {
    COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// Functions that bash and zsh both read: words, one a line. `$1` and `$2` are the directory that lib/modules is in and
/// the release.
const LISTS: &str = r#"
__lkm_loaded() {
    local name rest
    [ -r /proc/modules ] || return 0
    while read -r name rest; do printf '%s\n' "$name"; done </proc/modules
}

__lkm_releases() {
    local directory
    for directory in "$1"/lib/modules/*/; do
        directory=${directory%/}
        case $directory in *'*') ;; *) printf '%s\n' "${directory##*/}" ;; esac
    done
}

__lkm_modules() {
    local line rest
    local index="$1/lib/modules/${2:-$(uname -r)}/modules.dep"
    [ -r "$index" ] || return 0
    while IFS=: read -r line rest; do
        line=${line##*/}
        printf '%s\n' "${line%%.ko*}"
    done <"$index"
}

__lkm_parameters() {
    local line rest
    modinfo -b "${1:-/}" -k "${2:-$(uname -r)}" -F parm -- "$3" 2>/dev/null |
        while IFS=: read -r line rest; do printf '%s=\n' "$line"; done
}
"#;

fn bash() -> String {
    let mut text = format!("# bash completion of {}: made by cargo xtask package\n{LISTS}", names());
    text.push_str(
        r#"
__lkm_reply() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

__lkm_paths() {
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
    compopt -o filenames 2>/dev/null
}

_lkm_modutils() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${1##*/}
    local root= release= word operands=() before= remove=
    COMPREPLY=()
    # A = between option and value is a word of its own.
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        =) continue ;;
        -r | --remove) remove=1 ;;
        esac
        case $command:$before in
"#,
    );
    for command in COMMANDS {
        for spec in shown(command).filter(|spec| spec.value.is_some()) {
            let keep = match value(spec) {
                Some(Words::Directories) if matches!(spec.long, "dirname" | "basedir") => "root=$word",
                Some(Words::Releases) => "release=$word",
                _ => ":",
            };
            let patterns = patterns(command, spec);
            let _ = writeln!(text, "        {patterns}) {keep}; before=; continue ;;");
        }
    }
    text.push_str(
        r#"        esac
        before=$word
        case $word in
        -*) ;;
        *) operands+=("$word") ;;
        esac
    done
    case $command:$prev in
"#,
    );
    for command in COMMANDS {
        for spec in shown(command) {
            if let Some(words) = value(spec) {
                let _ = writeln!(text, "    {}) {}; return ;;", patterns(command, spec), bash_words(words));
            }
        }
    }
    text.push_str("    esac\n    case $command:$cur in\n");
    for command in COMMANDS {
        let options: Vec<String> = shown(command).flat_map(forms).collect();
        let _ = writeln!(text, "    {}:-*) __lkm_reply '{}'; return ;;", command.name, options.join(" "));
    }
    text.push_str("    esac\n    case $command in\n");
    for command in COMMANDS {
        let _ = writeln!(text, "    {}) {} ;;", command.name, bash_words(operands(command)));
    }
    let _ = write!(text, "    esac\n}}\n\ncomplete -F _lkm_modutils {}\n", names());
    text
}

fn patterns(command: &Command, spec: &Spec) -> String {
    forms(spec).iter().map(|form| format!("{}:{form}", command.name)).collect::<Vec<_>>().join(" | ")
}

fn bash_words(words: Words) -> String {
    let parameters = |first: &str| {
        format!(
            "if [ ${{#operands[@]}} -gt 0 ]; then compopt -o nospace 2>/dev/null; \
             __lkm_reply \"$(__lkm_parameters \"$root\" \"$release\" \"${{operands[0]}}\")\"; else {first}; fi"
        )
    };
    let modules = "__lkm_reply \"$(__lkm_modules \"$root\" \"$release\")\"";
    match words {
        Words::Nothing => ":".into(),
        Words::Files => "__lkm_paths -f".into(),
        Words::Directories => "__lkm_paths -d".into(),
        Words::Releases => "__lkm_reply \"$(__lkm_releases \"$root\")\"".into(),
        Words::Loaded => "__lkm_reply \"$(__lkm_loaded)\"".into(),
        Words::Modules => modules.into(),
        Words::ModulesOrFiles => {
            format!("case $cur in */* | .*) __lkm_paths -f ;; *) {modules} ;; esac")
        }
        Words::Probe => format!(
            "if [ -n \"$remove\" ]; then __lkm_reply \"$(__lkm_loaded)\"; \
             elif [[ $cur == */* ]]; then __lkm_paths -f; else {}; fi",
            parameters(modules)
        ),
        Words::Insert => parameters("__lkm_paths -f"),
        Words::Index => format!(
            "if [ ${{#operands[@]}} -gt 0 ]; then __lkm_paths -f; else {}; fi",
            bash_words(Words::Releases)
        ),
        Words::Commands => format!("__lkm_reply '{}'", kmod_commands()),
    }
}

/// What may follow `kmod`.
fn kmod_commands() -> String {
    let others = COMMANDS.iter().map(|command| command.name).filter(|name| *name != "kmod");
    ["help", "list", "static-nodes"].into_iter().chain(others).collect::<Vec<_>>().join(" ")
}

fn zsh() -> String {
    let mut text = format!("#compdef {}\n# made by cargo xtask package\n{LISTS}", names());
    text.push_str(
        r#"
__lkm_values() {
    local -a words
    words=("${(@f)$($1 "${opt_args[-d]:-${opt_args[--dirname]:-${opt_args[-b]:-${opt_args[--basedir]}}}}" \
        "${opt_args[-S]:-${opt_args[--set-version]:-${opt_args[-k]}}}" "$2")}")
    compadd "${@:3}" -a words
}

__lkm_probe() {
    if (( ${+opt_args[-r]} || ${+opt_args[--remove]} )); then
        __lkm_values __lkm_loaded ''
    elif [[ $PREFIX == */* ]]; then
        _files
    else
        __lkm_values __lkm_modules ''
    fi
}

__lkm_modules_or_files() {
    if [[ $PREFIX == */* ]]; then _files; else __lkm_values __lkm_modules ''; fi
}

local curcontext=$curcontext state line
local -A opt_args

case $service in
"#,
    );
    for command in COMMANDS {
        let _ = write!(text, "{})\n    _arguments -s -S", command.name);
        for spec in shown(command) {
            let forms = forms(spec);
            let help = zsh_text(&help(spec));
            for form in &forms {
                let exclusive =
                    if forms.len() > 1 { format!("({})", forms.join(" ")) } else { String::new() };
                let _ = write!(text, " \\\n        '{exclusive}{form}");
                if let (Some(words), Some(name)) = (value(spec), spec.value) {
                    let joint = if form.starts_with("--") { "=" } else { "+" };
                    let action = zsh_words(words);
                    let _ = write!(text, "{joint}[{help}]:{}:{action}'", zsh_text(&name.to_lowercase()));
                } else {
                    let _ = write!(text, "[{help}]'");
                }
            }
        }
        for operand in zsh_operands(operands(command)) {
            let _ = write!(text, " \\\n        '{operand}'");
        }
        text.push_str("\n    ;;\n");
    }
    text.push_str("esac\n");
    text
}

/// Text inside of single quotes and brackets.
fn zsh_text(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\'' => escaped.push_str("'\\''"),
            '[' | ']' | ':' | '\\' => escaped.extend(['\\', letter]),
            _ => escaped.push(letter),
        }
    }
    escaped
}

fn zsh_words(words: Words) -> String {
    match words {
        Words::Files => "_files".into(),
        Words::Directories => "_files -/".into(),
        Words::Releases => "{__lkm_values __lkm_releases \"\"}".into(),
        Words::Loaded => "{__lkm_values __lkm_loaded \"\"}".into(),
        Words::Modules => "{__lkm_values __lkm_modules \"\"}".into(),
        Words::ModulesOrFiles => "__lkm_modules_or_files".into(),
        Words::Probe => "__lkm_probe".into(),
        Words::Commands => format!("({})", kmod_commands()),
        Words::Nothing | Words::Insert | Words::Index => " ".into(),
    }
}

fn zsh_operands(words: Words) -> Vec<String> {
    let parameters = "{__lkm_values __lkm_parameters \"$line[1]\" -S \"\"}";
    match words {
        Words::Nothing => Vec::new(),
        Words::Probe => vec![format!("1:module:{}", zsh_words(words)), format!("*:parameter:{parameters}")],
        Words::Insert => vec!["1:file:_files".into(), format!("*:parameter:{parameters}")],
        Words::Index => {
            vec![format!("1:release:{}", zsh_words(Words::Releases)), "*:file:_files".into()]
        }
        Words::Commands => vec![format!("1:command:{}", zsh_words(words)), "*::arguments:_normal".into()],
        _ => vec![format!("*:module:{}", zsh_words(words))],
    }
}

fn fish(command: &Command) -> String {
    let name = command.name;
    let mut text =
        format!("# fish completion of {name}: made by cargo xtask package\n\ncomplete -c {name} -f\n");
    for spec in shown(command) {
        let _ = write!(text, "complete -c {name}");
        if spec.short {
            let _ = write!(text, " -s {}", char::from(spec.key));
        }
        if !spec.long.is_empty() {
            let _ = write!(text, " -l {}", spec.long);
        }
        if let Some(words) = value(spec) {
            let _ = write!(text, " -r{}", fish_words(words));
        }
        let _ = writeln!(text, " -d '{}'", help(spec).replace('\\', "\\\\").replace('\'', "\\'"));
    }
    let valued: Vec<String> = shown(command).filter(|spec| spec.value.is_some()).flat_map(forms).collect();
    let count = format!("-n 'test (count (__lkm_operands {}))", valued.join(" "));
    let (first, later) = (format!("{count} -eq 0'"), format!("{count} -gt 0'"));
    let parameters = format!("-a '(__lkm_parameters {})'", valued.join(" "));
    match operands(command) {
        Words::Nothing => {}
        Words::Probe => {
            let _ = writeln!(
                text,
                "complete -c {name} {first} -a '(__lkm_probe)'\ncomplete -c {name} {later} {parameters}"
            );
        }
        Words::Insert => {
            let _ = writeln!(text, "complete -c {name} {first} -F\ncomplete -c {name} {later} {parameters}");
        }
        Words::Index => {
            let _ = writeln!(
                text,
                "complete -c {name} {first}{}\ncomplete -c {name} {later} -F",
                fish_words(Words::Releases)
            );
        }
        Words::ModulesOrFiles => {
            let _ = writeln!(text, "complete -c {name} -F\ncomplete -c {name}{}", fish_words(Words::Modules));
        }
        words => {
            let _ = writeln!(text, "complete -c {name}{}", fish_words(words));
        }
    }
    text.push_str(FISH_LISTS);
    text
}

fn fish_words(words: Words) -> String {
    match words {
        Words::Files => " -F".into(),
        Words::Directories => " -a '(__fish_complete_directories)'".into(),
        Words::Releases => " -a '(__lkm_releases)'".into(),
        Words::Loaded => " -a '(__lkm_loaded)'".into(),
        Words::Commands => format!(" -n __fish_use_subcommand -a '{}'", kmod_commands()),
        Words::Modules => " -a '(__lkm_modules)'".into(),
        _ => String::new(),
    }
}

const FISH_LISTS: &str = r#"
function __lkm_operands
    # What is neither an option nor the value of one of these.
    set -l words (commandline -poc)
    set -l before ''
    for word in $words[2..]
        if contains -- $before $argv
            set before ''
            continue
        end
        set before $word
        string match -q -- '-*' $word; or echo $word
    end
end
function __lkm_value
    # The value of the first of these options that the command line has.
    set -l words (commandline -poc)
    for at in (seq (count $words))
        if contains -- $words[$at] $argv; and test $at -lt (count $words)
            echo $words[(math $at + 1)]
            return
        end
        for option in $argv
            string match -q -- "$option=*" $words[$at]; and string replace -- "$option=" '' $words[$at]; and return
        end
    end
end

function __lkm_release
    set -l release (__lkm_value -S --set-version -k)
    test -n "$release"; and echo $release; or uname -r
end

function __lkm_root
    __lkm_value -d --dirname -b --basedir
end

function __lkm_loaded
    test -r /proc/modules; and string replace -r ' .*' '' </proc/modules
end

function __lkm_releases
    for directory in (__lkm_root)/lib/modules/*/
        string replace -r '.*/([^/]+)/$' '$1' $directory
    end
end

function __lkm_modules
    set -l index (__lkm_root)/lib/modules/(__lkm_release)/modules.dep
    test -r "$index"; and string replace -r ':.*' '' <$index | string replace -r '.*/' '' | string replace -r '\.ko.*' ''
end

function __lkm_probe
    if contains -- -r (commandline -poc); or contains -- --remove (commandline -poc)
        __lkm_loaded
    else
        __lkm_modules
    end
end

function __lkm_parameters
    set -l operands (__lkm_operands $argv)
    modinfo -F parm -- $operands[1] 2>/dev/null | string replace -r ':.*' '='
end
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_every_option() {
        let files = files();
        assert_eq!(files.len(), 2 + COMMANDS.len());
        for command in COMMANDS {
            let fish = fish(command);
            for spec in shown(command) {
                for form in forms(spec) {
                    assert!(files[0].text.contains(&form) && files[1].text.contains(&form), "{form}");
                }
                if !spec.long.is_empty() {
                    assert!(fish.contains(&format!(" -l {} ", spec.long)), "{}", spec.long);
                }
            }
        }
    }
}
