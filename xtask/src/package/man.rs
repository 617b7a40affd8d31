//! Manual pages: those of the commands from what the commands say of themselves, those of the files from texts beside
//! this file.

use modutils::COMMANDS;
use modutils::Command;
use roff::Inline;
use roff::Roff;
use roff::bold;
use roff::italic;
use roff::roman;

/// A manual page.
#[derive(Debug)]
pub(super) struct Page {
    /// What it is about.
    pub(super) name: String,
    /// Its section of the manual.
    pub(super) section: u8,
    /// In the language of roff.
    pub(super) text: String,
}

impl Page {
    /// The name of its file.
    pub(super) fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
}

/// Pages that tell of files: name, what it is in a few words, text.
const FILES: &[(&str, &str, &str)] = &[
    ("modprobe.d", "configuration of modprobe", include_str!("pages/modprobe.d.txt")),
    ("depmod.d", "configuration of depmod", include_str!("pages/depmod.d.txt")),
    ("modules.dep", "indexes of the modules of a kernel", include_str!("pages/modules.dep.txt")),
];

/// What each command's page leads to.
const SEE_ALSO: &[(&str, &[&str])] = &[
    ("insmod", &["modprobe(8)", "rmmod(8)", "lsmod(8)", "modinfo(8)"]),
    ("rmmod", &["modprobe(8)", "insmod(8)", "lsmod(8)"]),
    ("lsmod", &["insmod(8)", "modprobe(8)", "modinfo(8)"]),
    ("modinfo", &["modprobe(8)", "modules.dep(5)"]),
    ("modprobe", &["modprobe.d(5)", "insmod(8)", "rmmod(8)", "lsmod(8)", "modinfo(8)", "depmod(8)"]),
    ("depmod", &["depmod.d(5)", "modprobe(8)", "modules.dep(5)"]),
    ("kmod", &["lsmod(8)", "rmmod(8)", "insmod(8)", "modinfo(8)", "modprobe(8)", "depmod(8)"]),
];

/// All pages.
pub(super) fn pages() -> Vec<Page> {
    let commands = COMMANDS.iter().map(command);
    let files = FILES.iter().map(|(name, about, text)| file(name, about, text));
    commands.chain(files).chain([program()]).collect()
}

fn start(name: &str, section: u8, about: &str) -> Roff {
    let mut page = Roff::new();
    let number = section.to_string();
    let source = concat!("lkm ", env!("CARGO_PKG_VERSION"));
    let manual = if section == 8 { "Kernel modules" } else { "Files of kernel modules" };
    page.control("TH", [name.to_uppercase().as_str(), number.as_str(), "", source, manual]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {about}"))]);
    page
}

fn command(command: &Command) -> Page {
    let mut page = start(command.name, 8, command.about);
    page.control("SH", ["SYNOPSIS"]);
    for (number, line) in command.synopsis.iter().enumerate() {
        if number > 0 {
            page.control("br", []);
        }
        page.text([bold(command.name), roman(format!(" {line}"))]);
    }
    page.control("SH", ["DESCRIPTION"]);
    paragraphs(&mut page, command.description);
    page.control("SH", ["OPTIONS"]);
    for spec in command.options.iter().filter(|spec| !spec.help.is_empty()) {
        page.control("TP", []);
        let mut forms = Vec::new();
        if spec.short {
            forms.push(bold(format!("-{}", char::from(spec.key))));
        }
        if !spec.long.is_empty() {
            if spec.short {
                forms.push(roman(", "));
            }
            forms.push(bold(format!("--{}", spec.long)));
        }
        if let Some(value) = spec.value {
            forms.push(roman(if spec.long.is_empty() { " " } else { "=" }));
            forms.push(italic(value));
        }
        page.text(forms);
        page.text([roman(spec.help.split_whitespace().collect::<Vec<_>>().join(" "))]);
    }
    if let Some((_, others)) = SEE_ALSO.iter().find(|(name, _)| *name == command.name) {
        see_also(&mut page, others);
    }
    Page { name: command.name.into(), section: 8, text: page.to_roff() }
}

/// The page of the program that is all commands.
fn program() -> Page {
    let mut page = start("modutils", 8, "the commands of kernel modules in one program");
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("modutils"), roman(" command [options] [arguments]")]);
    page.control("SH", ["DESCRIPTION"]);
    paragraphs(
        &mut page,
        "A link to this program by the name of a command is that command; the name may also be its first argument.",
    );
    for command in COMMANDS {
        page.control("TP", []);
        page.text([bold(command.name)]);
        page.text([roman(format!("{}.", command.about))]);
    }
    page.control("SH", ["ENVIRONMENT"]);
    page.control("TP", []);
    page.text([bold("MODUTILS_STYLE")]);
    page.text([
        roman("With "),
        italic("busybox"),
        roman(" insmod answers as that of busybox, with "),
        italic("kmod"),
        roman(" modprobe reads soft dependencies and install lines as kmod does where they meet."),
    ]);
    let others: Vec<String> = COMMANDS.iter().map(|command| format!("{}(8)", command.name)).collect();
    see_also(&mut page, &others.iter().map(String::as_str).collect::<Vec<_>>());
    Page { name: "modutils".into(), section: 8, text: page.to_roff() }
}

fn see_also(page: &mut Roff, others: &[&str]) {
    page.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (number, other) in others.iter().enumerate() {
        if number > 0 {
            line.push(roman(", "));
        }
        let (name, section) = other.split_once('(').unwrap_or((other, ""));
        line.push(bold(name));
        line.push(roman(format!("({section}")));
    }
    page.text(line);
}

fn paragraphs(page: &mut Roff, text: &str) {
    for (number, paragraph) in text.split("\n\n").filter(|text| !text.trim().is_empty()).enumerate() {
        if number > 0 {
            page.control("PP", []);
        }
        page.text(inline(&paragraph.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
}

/// Text in which `*words*` are bold and `_words_` are italic, where these begin a word.
fn inline(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let begins = plain.is_empty() && parts.is_empty() || plain.ends_with([' ', '(', '=', '/', ',', '.']);
        let marked = matches!(letter, '*' | '_') && begins;
        let end = if marked { rest[1..].find(letter).filter(|&end| end > 0) } else { None };
        match end {
            Some(end) => {
                if !plain.is_empty() {
                    parts.push(roman(std::mem::take(&mut plain)));
                }
                let words = &rest[1..1 + end];
                parts.push(if letter == '*' { bold(words) } else { italic(words) });
                rest = &rest[end + 2..];
            }
            None => {
                plain.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    if !plain.is_empty() {
        parts.push(roman(plain));
    }
    parts
}

/// The texts have blocks between empty lines: `# HEADING`; `term:` at the start of a line above lines that are indented by
/// four blanks; examples, all of whose lines are indented by four blanks; paragraphs.
fn file(name: &str, about: &str, text: &str) -> Page {
    let mut page = start(name, 5, about);
    let mut after_heading = false;
    for block in text.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty()) {
        if let Some(heading) = block.strip_prefix("# ") {
            page.control("SH", [heading]);
            after_heading = true;
            continue;
        }
        let indented = |line: &str| line.starts_with("    ");
        if block.lines().all(indented) {
            page.control("PP", []);
            page.control("RS", ["4"]);
            page.control("nf", []);
            for line in block.lines() {
                page.text([roman(&line[4..])]);
            }
            page.control("fi", []);
            page.control("RE", []);
        } else if let Some((term, rest)) = block.split_once(":\n")
            && rest.lines().all(indented)
        {
            page.control("TP", []);
            page.text(inline(term));
            page.text(inline(&rest.split_whitespace().collect::<Vec<_>>().join(" ")));
        } else {
            if !after_heading {
                page.control("PP", []);
            }
            page.text(inline(&block.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        after_heading = false;
    }
    Page { name: name.into(), section: 5, text: page.to_roff() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_each_of_its_options_has_its_place() {
        let pages = pages();
        for command in COMMANDS {
            let page = pages.iter().find(|page| page.file() == format!("{}.8", command.name)).unwrap();
            for spec in command.options.iter().filter(|spec| !spec.help.is_empty() && !spec.long.is_empty()) {
                let long = format!("\\-\\-{}", spec.long.replace('-', "\\-"));
                assert!(page.text.contains(&long), "{} lacks {long}", command.name);
            }
            assert!(SEE_ALSO.iter().any(|(name, _)| *name == command.name), "{}", command.name);
        }
        let known: Vec<String> =
            pages.iter().map(|page| format!("{}({})", page.name, page.section)).collect();
        for other in SEE_ALSO.iter().flat_map(|(_, others)| *others) {
            assert!(known.iter().any(|page| page == other), "no page {other}");
        }
    }

    #[test]
    fn marks_are_letters_of_another_face() {
        let show = |text| format!("{:?}", inline(text));
        assert_eq!(
            show("a *b c* d_e _f_"),
            format!("{:?}", vec![roman("a "), bold("b c"), roman(" d_e "), italic("f")])
        );
        assert_eq!(show("pci:* and *"), format!("{:?}", vec![roman("pci:* and *")]));
    }
}
