use lkm_module::Level;

/// What stands before the text of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The first level named.
    pub level: Option<Level>,
    /// `KERN_CONT`: the text belongs to the record before.
    pub continues: bool,
    /// Bytes of all prefixes.
    pub length: usize,
}

/// Reads the `KERN_*` prefixes of a text that has been formatted: they may come out of `%pV` or `%s`.
pub fn prefix(text: &[u8]) -> Prefix {
    const SOH: u8 = 1;
    let mut prefix = Prefix::default();
    while let Some(&[SOH, letter]) = text.get(prefix.length..prefix.length + 2) {
        match letter {
            b'0'..=b'7' => prefix.level = prefix.level.or(Level::from_number(letter - b'0')),
            b'c' => prefix.continues = true,
            _ => break,
        }
        prefix.length += 2;
    }
    prefix
}
