//! A kernel's configuration (`.config`, `/boot/config-V`, `/proc/config.gz`, or embedded in the image).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::Machine;

/// Options by name without `CONFIG_`. What the text says is not set is absent, as is what it does not mention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads the text; lines that set nothing are passed over, and a later line for an option counts, as in a build.
    pub fn parse(text: &str) -> Config {
        let mut options = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, value)) = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('=')) {
                options.insert(name.to_owned(), value.to_owned());
            } else if let Some(name) =
                line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"))
            {
                options.remove(name);
            }
        }
        Config(options)
    }

    /// Whether a text looks like one.
    pub fn is_config(text: &[u8]) -> bool {
        let head = text.get(..text.len().min(1 << 16)).unwrap_or_default();
        head.split(|&byte| byte == b'\n').any(|line| {
            line.starts_with(b"CONFIG_") && line.contains(&b'=')
                || line.starts_with(b"# CONFIG_") && line.ends_with(b" is not set")
        })
    }

    /// The value of an option as it is written: `y`, `m`, a number, a text in quotes.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether an option is `y`.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name) == Some("y")
    }

    /// A text without its quotes.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.strip_prefix('"')?.strip_suffix('"')
    }

    /// What modules of a kernel that is built so are for.
    pub fn machine(&self) -> Option<Machine> {
        let big_endian = self.is_set("CPU_BIG_ENDIAN");
        let bits = if self.is_set("64BIT") { 64 } else { 32 };
        let (machine, bits, big_endian) = match () {
            () if self.is_set("X86_64") => (62, 64, false),
            () if self.is_set("X86") => (3, 32, false),
            () if self.is_set("ARM64") => (183, 64, big_endian),
            () if self.is_set("ARM") => (40, 32, big_endian),
            () if self.is_set("RISCV") => (243, bits, false),
            () if self.is_set("PPC64") => (21, 64, !self.is_set("CPU_LITTLE_ENDIAN")),
            () if self.is_set("PPC") => (20, 32, true),
            () if self.is_set("S390") => (22, 64, true),
            () if self.is_set("MIPS") => (8, bits, big_endian),
            () if self.is_set("LOONGARCH") => (258, bits, false),
            () => return None,
        };
        Some(Machine { machine, bits, big_endian })
    }

    /// Number of options that are set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines() {
        let machine = |text: &str| Config::parse(text).machine();
        let of = |machine, bits, big_endian| Some(Machine { machine, bits, big_endian });
        assert_eq!(machine("CONFIG_64BIT=y\nCONFIG_X86_64=y\nCONFIG_X86=y\n"), of(62, 64, false));
        assert_eq!(machine("CONFIG_X86_32=y\nCONFIG_X86=y\n"), of(3, 32, false));
        assert_eq!(machine("CONFIG_ARM=y\n"), of(40, 32, false));
        assert_eq!(machine("CONFIG_PPC64=y\nCONFIG_PPC=y\nCONFIG_CPU_LITTLE_ENDIAN=y\n"), of(21, 64, false));
        assert_eq!(machine("CONFIG_MIPS=y\nCONFIG_64BIT=y\nCONFIG_CPU_BIG_ENDIAN=y\n"), of(8, 64, true));
        assert_eq!(machine("CONFIG_MODULES=y\n"), None);
    }

    #[test]
    fn values_and_what_is_not_set() {
        let text = "#\n# Linux/x86 6.1 Kernel Configuration\n#\nCONFIG_MODULES=y\nCONFIG_EXT4_FS=m\nCONFIG_NR=0x10\n\
                    CONFIG_LOCALVERSION=\"-a b\"\n# CONFIG_MODULE_SIG_FORCE is not set\nCONFIG_TWICE=y\n# CONFIG_TWICE is not set\n";
        let config = Config::parse(text);
        assert!(config.is_set("MODULES") && !config.is_set("EXT4_FS") && !config.is_set("MODULE_SIG_FORCE"));
        assert_eq!((config.get("EXT4_FS"), config.get("NR")), (Some("m"), Some("0x10")));
        assert_eq!((config.text("LOCALVERSION"), config.text("NR")), (Some("-a b"), None));
        assert_eq!((config.len(), config.get("TWICE")), (4, None));
        assert!(Config::is_config(text.as_bytes()) && !Config::is_config(b"hello\n"));
    }
}
