//! What the kernel itself exports, from the files that its build leaves: `System.map` and `Module.symvers`.

use std::path::Path;

use super::note::Note;

/// Symbols of the kernel.
#[derive(Clone, Debug, Default)]
pub struct KernelSymbols {
    bytes: Vec<u8>,
    entries: Vec<(usize, u64)>,
    has_crcs: bool,
}

impl KernelSymbols {
    /// Reads a `Module.symvers`: lines `CRC NAME MODULE ...`, of which those with `vmlinux` as module count. The path is
    /// for notes only.
    ///
    /// ```
    /// use lkm_tree::depmod::KernelSymbols;
    ///
    /// let text = b"0x00000001\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n0x00000002\tx\tfs/x/x\tEXPORT_SYMBOL\t\n";
    /// let symbols = KernelSymbols::from_symvers("Module.symvers".as_ref(), text, &mut |_| {});
    /// assert_eq!(symbols.len(), 1);
    /// ```
    pub fn from_symvers(path: &Path, text: &[u8], note: &mut dyn FnMut(Note)) -> KernelSymbols {
        let mut symbols = KernelSymbols { has_crcs: true, ..KernelSymbols::default() };
        for (number, line) in lines(text) {
            let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
            let (Some(crc), Some(name), Some(owner)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if owner != b"vmlinux" {
                continue;
            }
            let digits = crc.strip_prefix(b"0x").or_else(|| crc.strip_prefix(b"0X")).unwrap_or(crc);
            let parsed = std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
            match parsed {
                Some(crc) => symbols.add(name, crc),
                None => {
                    let crc = String::from_utf8_lossy(crc).into_owned();
                    note(Note::SymbolVersion(path.to_owned(), number, crc));
                }
            }
        }
        symbols
    }

    /// Reads a `System.map`: lines `ADDRESS TYPE NAME`, of which those named `__ksymtab_NAME` count. `prefix` is what the
    /// architecture puts before every symbol. The path is for notes only.
    ///
    /// ```
    /// use lkm_tree::depmod::KernelSymbols;
    ///
    /// let text = b"ffffffff81000000 T _text\nffffffff82000000 r __ksymtab__printk\n";
    /// assert_eq!(KernelSymbols::from_system_map("System.map".as_ref(), text, None, &mut |_| {}).len(), 1);
    /// ```
    pub fn from_system_map(
        path: &Path,
        text: &[u8],
        prefix: Option<u8>,
        note: &mut dyn FnMut(Note),
    ) -> KernelSymbols {
        let mut symbols = KernelSymbols::default();
        for (number, line) in lines(text) {
            let mut words = line.splitn(3, |byte| *byte == b' ');
            let Some(name) = words.nth(2) else {
                // kmod prints the line with its newline and one more.
                let line = String::from_utf8_lossy(line).into_owned() + "\n";
                note(Note::SystemMapLine(path.to_owned(), number, line));
                continue;
            };
            let name = prefix.and_then(|prefix| name.strip_prefix(&[prefix])).unwrap_or(name);
            if let Some(name) = name.strip_prefix(b"__ksymtab_") {
                symbols.add(name, 0);
            }
        }
        symbols
    }

    fn add(&mut self, name: &[u8], crc: u64) {
        self.bytes.extend_from_slice(name);
        self.entries.push((self.bytes.len(), crc));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// They come with CRCs, which modules are then held to.
    pub fn has_crcs(&self) -> bool {
        self.has_crcs
    }

    /// Names and CRCs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.0));
        starts
            .zip(&self.entries)
            .map(|(start, (end, crc))| (self.bytes.get(start..*end).unwrap_or(&[]), *crc))
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines.filter(|(_, line)| !line.is_empty()).map(|(position, line)| (position + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_another_form_are_noted() {
        let mut notes = Vec::new();
        let text = b"0x1f\tone\tvmlinux\tE\nzz two vmlinux\n\nbad\n0x2 three fs/x\n";
        let symbols =
            KernelSymbols::from_symvers("sv".as_ref(), text, &mut |note| notes.push(note.to_string()));
        assert_eq!(symbols.iter().collect::<Vec<_>>(), [(b"one".as_slice(), 0x1f)]);
        assert_eq!(notes, ["sv:2 Invalid symbol version zz"]);
        notes.clear();
        let text = b"1 R __ksymtab_a\n1 R _x\nbad\n2 r ___ksymtab_b";
        let mut push = |note: Note| notes.push(note.to_string());
        let symbols = KernelSymbols::from_system_map("sm".as_ref(), text, Some(b'_'), &mut push);
        let names: Vec<_> = symbols.iter().map(|symbol| symbol.0).collect();
        assert_eq!(names, [b"b".as_slice()]);
        assert_eq!(notes, ["sm:3: invalid line: bad\n"]);
    }
}
