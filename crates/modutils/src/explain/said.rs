//! What the kernel's log says about a refused load.
//!
//! The texts are those of Linux 4.x to 6.16; the ones that no refusal follows are not looked for.

/// What one line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A symbol could not be had, and the negative errno of why; kernels up to 5.x print 0 for one that is nowhere.
    UnknownSymbol(&'a [u8], i32),
    /// The CRC of a symbol is not the one that the module was built against.
    Disagrees(&'a [u8]),
    /// The module has no CRC for a symbol.
    NoVersion(&'a [u8]),
    /// Built for another kernel: the module's vermagic, the kernel's.
    VersionMagic(&'a [u8], &'a [u8]),
    /// A symbol of a namespace that the module does not import.
    Namespace(&'a [u8], &'a [u8]),
    /// A symbol of a proprietary module that a module with GPL-only symbols may not use.
    Proprietary(&'a [u8], &'a [u8]),
    /// A symbol that it exports is exported already, by this module or `kernel`.
    Duplicate(&'a [u8], &'a [u8]),
    /// Named in `module_blacklist=`.
    Blacklisted,
    /// The signature: `unsigned module`, `module with unavailable key`, `module with unsupported crypto`.
    Rejected(&'a [u8]),
    /// Lockdown forbids it: `unsigned module loading`, `unsafe module parameters`.
    Lockdown(&'a [u8]),
    /// The hash of the file is on a list of revoked ones.
    Revoked,
    /// A live patch, which the kernel does not support.
    Livepatch,
    /// A value that a parameter does not take.
    InvalidFor(&'a [u8], &'a [u8]),
    /// A value that is too long for a parameter.
    TooLarge(&'a [u8], &'a [u8]),
    /// No parameter of that name, on kernels that mind.
    UnknownParameter(&'a [u8]),
    /// `/sys/module` has a directory of that name.
    NameTaken,
    /// The wait for this module, which was being loaded, was given up.
    GaveUp(&'a [u8]),
    /// A section that is writable and executable.
    WriteExec(&'a [u8]),
    /// Common symbols: not compiled with `-fno-common`.
    Common,
    /// No symbol table.
    Stripped,
    /// No `struct module`: an object file that was not linked to a module.
    NoModule,
    /// Another architecture: `e_machine`.
    Architecture(u16),
    /// The file as ELF; the text tells more.
    Elf,
    /// Relocations; the text tells more.
    Relocation,
    /// The kernel's decompression; the text tells more.
    Decompression,
}

/// What a line says; `None` if it is not about a refusal, or about that of another module.
///
/// `name` is the module's own name, which most lines start with; if it is not known, any will do.
pub(crate) fn said<'a>(line: &'a [u8], name: Option<&[u8]>) -> Option<Said<'a>> {
    if let Some(said) = unnamed(line) {
        return Some(said);
    }
    let line = line.strip_prefix(b"module ").unwrap_or(line);
    let line = match name {
        Some(name) => line.strip_prefix(name)?.strip_prefix(b": ")?,
        None => split(line, b": ")?.1,
    };
    named(line)
}

/// Lines that do not start with the module's name.
fn unnamed(line: &[u8]) -> Option<Said<'_>> {
    if let Some(machine) = line.strip_prefix(b"Invalid architecture in ELF header: ") {
        return Some(Said::Architecture(number(machine)?));
    }
    if let Some(rest) = line.strip_prefix(b"Module ")
        && rest.ends_with(b" is blacklisted")
    {
        return Some(if rest.starts_with(b"hash ") { Said::Revoked } else { Said::Blacklisted });
    }
    if let Some(rest) = line.strip_prefix(b"Loading of ") {
        return rest.strip_suffix(b" is rejected").map(Said::Rejected);
    }
    if let Some(rest) = line.strip_prefix(b"Lockdown: ") {
        let (_, what) = split(rest, b": ")?;
        return split(what, b" is restricted").map(|(what, _)| Said::Lockdown(what));
    }
    const ELF: [&[u8]; 11] = [
        b"Invalid ELF ",
        b"Invalid module architecture ",
        b"ELF Spec violation: ",
        b"empty section name table",
        b"Only one .modinfo section",
        b"Module len ",
        b"extended version crc+name",
        b"more extended version crcs",
        b"empty symbol string table",
        b"symbol string table ",
        b"symbol name out of bounds",
    ];
    const DECOMPRESSION: [&[u8]; 6] = [
        b"not a gzip compressed",
        b"not an xz compressed",
        b"not a zstd compressed",
        b"decompression failed",
        b"failed to initialize decompressor",
        b"ZSTD-",
    ];
    // What the architectures' own files print, with the prefixes that they have on some of them.
    const RELOCATION: [&[u8]; 3] =
        [b"overflow in relocation type", b"nknown rela relocation", b"nvalid relocation target"];
    let starts = |texts: &[&[u8]]| texts.iter().any(|text| line.starts_with(text));
    if starts(&ELF) {
        return Some(Said::Elf);
    }
    if starts(&DECOMPRESSION) {
        return Some(Said::Decompression);
    }
    RELOCATION.iter().any(|text| contains(line, text)).then_some(Said::Relocation)
}

/// Lines that start with the module's name, behind it.
fn named(line: &[u8]) -> Option<Said<'_>> {
    if let Some(rest) = line.strip_prefix(b"Unknown symbol ") {
        let (symbol, rest) = split_last(rest, b" (err ")?;
        return Some(Said::UnknownSymbol(symbol, number(rest.strip_suffix(b")")?)?));
    }
    if let Some(symbol) = line.strip_prefix(b"disagrees about version of symbol ") {
        return Some(Said::Disagrees(symbol));
    }
    if let Some(symbol) = line.strip_prefix(b"no symbol version for ") {
        return Some(Said::NoVersion(symbol));
    }
    if let Some(rest) = line.strip_prefix(b"version magic '") {
        let (has, wants) = split(rest, b"' should be '")?;
        return wants.strip_suffix(b"'").map(|wants| Said::VersionMagic(has, wants));
    }
    if let Some(rest) = line.strip_prefix(b"module uses symbol (") {
        let (symbol, rest) = split(rest, b") from namespace ")?;
        return split_last(rest, b", but does not import it").map(|(name, _)| Said::Namespace(symbol, name));
    }
    if let Some(rest) = line.strip_prefix(b"module using GPL-only symbols uses symbols ") {
        let (symbol, owner) = split(rest, b" from proprietary module ")?;
        return Some(Said::Proprietary(symbol, owner.strip_suffix(b".").unwrap_or(owner)));
    }
    if let Some(rest) = line.strip_prefix(b"exports duplicate symbol ") {
        let (symbol, rest) = split_last(rest, b" (owned by ")?;
        return rest.strip_suffix(b")").map(|owner| Said::Duplicate(symbol, owner));
    }
    if let Some(rest) = line.strip_prefix(b"gave up waiting for init of module ") {
        return Some(Said::GaveUp(rest.strip_suffix(b".").unwrap_or(rest)));
    }
    if let Some(rest) = line.strip_prefix(b"Unknown parameter `") {
        return rest.strip_suffix(b"'").map(Said::UnknownParameter);
    }
    if let Some(rest) = line.strip_prefix(b"`") {
        // A value may hold anything, the name of a parameter cannot.
        let (rest, parameter) = split_last(rest, b"' invalid for parameter `")
            .or_else(|| split_last(rest, b"' too large for parameter `"))?;
        let parameter = parameter.strip_suffix(b"'")?;
        let invalid = split_last(line, b"' invalid for parameter `").is_some();
        return Some(if invalid {
            Said::InvalidFor(rest, parameter)
        } else {
            Said::TooLarge(rest, parameter)
        });
    }
    if let Some(rest) = line.strip_prefix(b"section ")
        && let Some((section, _)) = split_last(rest, b" has invalid WRITE|EXEC flags")
    {
        return Some(Said::WriteExec(split_last(section, b" (index ").map_or(section, |(name, _)| name)));
    }
    const RELOCATION: [&[u8]; 6] = [
        b"relocation",
        b"bad relocation sym offset",
        b"unsupported interworking call",
        b"Expected nop after call",
        b"out of range",
        b"module PLT section(s) missing",
    ];
    const ELF: [&[u8]; 3] =
        [b".gnu.linkonce.this_module", b"has an invalid section index", b"has both .ctors"];
    match line {
        b"module is already loaded" => Some(Said::NameTaken),
        b"No module found in object" => Some(Said::NoModule),
        _ if line.starts_with(b"module has no symbols") => Some(Said::Stripped),
        _ if line.starts_with(b"please compile with -fno-common") => Some(Said::Common),
        _ if line.starts_with(b"module is marked as livepatch") => Some(Said::Livepatch),
        _ if ELF.iter().any(|text| contains(line, text)) => Some(Said::Elf),
        _ if RELOCATION.iter().any(|text| contains(line, text)) => Some(Said::Relocation),
        _ => None,
    }
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    position(text, part).is_some()
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = position(text, at)?;
    Some((text.get(..start)?, text.get(start + at.len()..)?))
}

fn split_last<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = text.windows(at.len()).rposition(|window| window == at)?;
    Some((text.get(..start)?, text.get(start + at.len()..)?))
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_of_the_loader() {
        use Said::*;
        let cases: &[(&str, Option<Said<'_>>)] = &[
            ("hello: Unknown symbol foo (err -2)", Some(UnknownSymbol(b"foo", -2))),
            ("hello: Unknown symbol foo (err 0)", Some(UnknownSymbol(b"foo", 0))),
            ("other: Unknown symbol foo (err -2)", None),
            ("hello: disagrees about version of symbol module_layout", Some(Disagrees(b"module_layout"))),
            ("hello: no symbol version for foo", Some(NoVersion(b"foo"))),
            ("hello: version magic '1 a ' should be '2 b '", Some(VersionMagic(b"1 a ", b"2 b "))),
            (
                "hello: module uses symbol (f) from namespace NS, but does not import it.",
                Some(Namespace(b"f", b"NS")),
            ),
            (
                "hello: module using GPL-only symbols uses symbols f from proprietary module bin.",
                Some(Proprietary(b"f", b"bin")),
            ),
            ("hello: exports duplicate symbol f (owned by kernel)", Some(Duplicate(b"f", b"kernel"))),
            ("Module hello is blacklisted", Some(Blacklisted)),
            ("Module hash 0011 is blacklisted", Some(Revoked)),
            ("Loading of unsigned module is rejected", Some(Rejected(b"unsigned module"))),
            (
                "Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7",
                Some(Lockdown(b"unsigned module loading")),
            ),
            (
                "hello: module is marked as livepatch module, but livepatch support is disabled",
                Some(Livepatch),
            ),
            ("hello: `a'b' invalid for parameter `n'", Some(InvalidFor(b"a'b", b"n"))),
            ("hello: `long' too large for parameter `s'", Some(TooLarge(b"long", b"s"))),
            ("hello: Unknown parameter `x'", Some(UnknownParameter(b"x"))),
            ("hello: unknown parameter 'x' ignored", None),
            ("hello: module is already loaded", Some(NameTaken)),
            ("hello: gave up waiting for init of module dep.", Some(GaveUp(b"dep"))),
            ("hello: section .text (index 2) has invalid WRITE|EXEC flags", Some(WriteExec(b".text"))),
            ("hello: please compile with -fno-common", Some(Common)),
            ("hello: module has no symbols (stripped?)", Some(Stripped)),
            ("hello: No module found in object", Some(NoModule)),
            ("Invalid architecture in ELF header: 40", Some(Architecture(40))),
            ("Invalid ELF section header overflow", Some(Elf)),
            ("ELF Spec violation: section 0 type(1)!=SH_NULL or non-zero len or addr", Some(Elf)),
            ("module hello: .gnu.linkonce.this_module section must have a size set", Some(Elf)),
            ("hello: Symbol x has an invalid section index 77 (max 40)", Some(Elf)),
            ("module: overflow in relocation type 11 val ffff", Some(Relocation)),
            (
                "module: x86/modules: Skipping invalid relocation target, existing value is nonzero for type 1, loc 0, val 1",
                Some(Relocation),
            ),
            ("module: hello: Unknown rela relocation: 41", Some(Relocation)),
            ("hello: unknown relocation: 77", Some(Relocation)),
            (
                "hello: section 3 reloc 0 sym 'x': out of bounds relocation, offset 99 size 4",
                Some(Relocation),
            ),
            ("not an xz compressed module", Some(Decompression)),
            ("hello: loading out-of-tree module taints kernel.", None),
            (
                "hello: module verification failed: signature and/or required key missing - tainting kernel",
                None,
            ),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(said(line.as_bytes(), Some(b"hello")), *expected, "{line}");
        }
        assert_eq!(said(b"x: Unknown symbol y (err -2)", None), Some(UnknownSymbol(b"y", -2)));
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in prop::collection::vec(any::<u8>(), 0..80), start in 0..12usize) {
            let starts: [&[u8]; 12] = [
                b"", b"m: ", b"m: Unknown symbol ", b"m: version magic '", b"m: `", b"Module ", b"Loading of ",
                b"Lockdown: ", b"m: exports duplicate symbol ", b"m: module uses symbol (", b"m: section ",
                b"module m: ",
            ];
            let line = [starts[start], &line].concat();
            let _ = said(&line, Some(b"m"));
            let _ = said(&line, None);
        }
    }
}
