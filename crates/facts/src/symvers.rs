//! `Module.symvers`: what a kernel's build left for the builds of modules.
//!
//! A line for each export: CRC, name, who exports it (`vmlinux`, or a module's path without its ending), the kind of
//! export, and, since 4.20 or so, the namespace; tabs between them. Before namespaces came, lines have four columns;
//! in 5.3 and 5.4 the namespace stands third.

use std::collections::BTreeMap;

use crate::Export;
use crate::Exports;
use crate::FactsError;
use crate::Source;

/// Reads the text. Lines of another form are an error that tells their number.
pub fn parse(text: &[u8], source: &Source) -> Result<Exports, FactsError> {
    let mut exports = BTreeMap::new();
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        let (name, export) = parse_line(&line).ok_or_else(|| {
            FactsError::damaged(source, format_args!("line {} is no export: {line}", number + 1))
        })?;
        exports.insert(name.to_owned(), export);
    }
    Ok(exports)
}

/// Whether a text looks like one: its first line is an export.
pub fn is_symvers(text: &[u8]) -> bool {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.len() < 4096 && std::str::from_utf8(line).is_ok_and(|line| parse_line(line).is_some())
}

fn parse_line(line: &str) -> Option<(&str, Export)> {
    let columns: Vec<&str> = line.split('\t').collect();
    let (crc, name, owner, kind, namespace) = match *columns {
        [crc, name, owner, kind] => (crc, name, owner, kind, ""),
        [crc, name, namespace, owner, kind] if kind.starts_with("EXPORT_") => {
            (crc, name, owner, kind, namespace)
        }
        [crc, name, owner, kind, namespace] => (crc, name, owner, kind, namespace),
        _ => return None,
    };
    if !kind.starts_with("EXPORT_") || name.is_empty() {
        return None;
    }
    let crc = u32::from_str_radix(crc.strip_prefix("0x")?, 16).ok()?;
    let module = (owner != "vmlinux").then(|| {
        let stem = owner.rsplit('/').next().unwrap_or(owner);
        stem.strip_suffix(".ko").unwrap_or(stem).replace('-', "_")
    });
    // A build without MODVERSIONS writes zeros; no real checksum is zero but by chance of one in four thousand million.
    let crc = (crc != 0).then_some(crc);
    let gpl_only = kind.contains("_GPL");
    Some((name, Export { crc, gpl_only, namespace: namespace.to_owned(), module, address: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_three_forms() {
        let text = "0x00000001\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n\
                    0x0000000a\tcpu_bit\tcrypto/cpu-bits\tEXPORT_SYMBOL_GPL\tCRYPTO\n\
                    0x0000000b\tmiddle\tUSB\tdrivers/usb/core\tEXPORT_SYMBOL_GPL\n\
                    0x00000000\told\tvmlinux\tEXPORT_SYMBOL_GPL_FUTURE\n";
        let exports = parse(text.as_bytes(), &Source::new("s")).unwrap();
        assert_eq!(exports["_printk"], Export { crc: Some(1), ..Export::default() });
        let bit = &exports["cpu_bit"];
        assert_eq!(
            (bit.gpl_only, bit.namespace.as_str(), bit.module.as_deref()),
            (true, "CRYPTO", Some("cpu_bits"))
        );
        assert_eq!(exports["middle"].namespace, "USB");
        assert_eq!(exports["middle"].module.as_deref(), Some("core"));
        assert_eq!((exports["old"].crc, exports["old"].gpl_only), (None, true));
        assert!(is_symvers(text.as_bytes()));
    }

    #[test]
    fn other_text_is_refused_with_its_line() {
        let error = parse(b"0x1\ta\tvmlinux\tEXPORT_SYMBOL\t\nnonsense\n", &Source::new("s")).unwrap_err();
        assert_eq!(error.to_string(), "s: line 2 is no export: nonsense");
        for text in [
            "",
            "0x1 a vmlinux EXPORT_SYMBOL",
            "c0000000 T _text",
            "1\ta\tb\tEXPORT_SYMBOL",
            "0xg\ta\tb\tEXPORT_SYMBOL",
        ] {
            assert!(!is_symvers(text.as_bytes()), "{text}");
        }
    }
}
