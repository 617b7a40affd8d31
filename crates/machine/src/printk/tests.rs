//! The language against glibc's `printf` where the two agree, and against the kernel's documented results.

use std::collections::BTreeMap;
use std::process::Command;

use lkm_link::Arch;
use proptest::prelude::*;

use super::Environment;
use super::Nested;
use super::Output;
use super::Source;
use super::Structures;
use super::Symbol;
use super::format;

/// A kernel of the given width with a few pieces of memory.
struct Fake {
    size: u8,
    memory: BTreeMap<u64, Vec<u8>>,
    nested: BTreeMap<u64, (Vec<u8>, Vec<u64>)>,
}

impl Fake {
    fn new() -> Fake {
        Fake { size: 8, memory: BTreeMap::new(), nested: BTreeMap::new() }
    }

    fn with(mut self, at: u64, bytes: &[u8]) -> Fake {
        self.memory.insert(at, bytes.to_vec());
        self
    }

    fn print(&self, text: &str, arguments: &[u64]) -> String {
        let mut out = Output::new(1 << 20);
        format(&mut out, text.as_bytes(), &mut Values(Vec::from(arguments).into_iter()), self);
        assert_eq!(out.length(), out.bytes().len());
        String::from_utf8_lossy(out.bytes()).into_owned()
    }
}

struct Values(std::vec::IntoIter<u64>);

impl Source for Values {
    fn word(&mut self) -> u64 {
        self.0.next().unwrap_or(0)
    }

    fn double_word(&mut self) -> u64 {
        self.word()
    }
}

impl Environment for Fake {
    fn pointer_size(&self) -> u8 {
        self.size
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        // Memory goes on with zeros to the end of its 64 bytes, as strings are read in such pieces.
        let Some((&start, piece)) = self.memory.range(..=address).next_back() else { return false };
        let offset = (address - start) as usize;
        if offset + bytes.len() > (piece.len() + 64) & !63 {
            return false;
        }
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = piece.get(offset + n).copied().unwrap_or(0);
        }
        true
    }

    fn symbol(&self, address: u64) -> Option<Symbol> {
        let offset = address.checked_sub(0xffff_ffff_c000_0000)?;
        (offset < 0x40).then(|| Symbol {
            name: b"func".to_vec(),
            offset,
            size: 0x40,
            module: Some(b"mod".to_vec()),
        })
    }

    fn hash(&self, address: u64) -> u32 {
        (address >> 4) as u32 ^ 0xdead_0000
    }

    fn kptr_restrict(&self) -> u8 {
        0
    }

    fn nested(&self, address: u64) -> Option<Nested<'_>> {
        let (format, arguments) = self.nested.get(&address)?;
        Some(Nested { format: format.clone(), arguments: Box::new(Values(arguments.clone().into_iter())) })
    }

    fn structures(&self) -> &'static Structures {
        Structures::of(if self.size == 8 { Arch::X86_64 } else { Arch::Arm })
    }

    fn is_device_tree(&self, operations: u64) -> bool {
        operations == TREE
    }
}

/// Where the functions of the device tree are said to be.
const TREE: u64 = 0xc000_1000;
const AT: u64 = 0xffff_8880_0000_1000;

#[test]
fn agrees_with_printf_where_the_two_are_the_same() {
    // The kernel differs for a zero with #, and for zeros with a precision: those are left out here.
    let flags = ["", "-", "+", " ", "0", "#", "-+", "+0", "- ", "-#"];
    let widths = ["", "1", "5", "12"];
    let precisions = ["", ".1", ".4", ".9"];
    let values: [i64; 7] = [1, -1, 42, -4242, 123_456_789, i64::from(i32::MAX), i64::from(i32::MIN)];
    let (mut formats, mut arguments, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let fake = Fake::new().with(AT, b"text\0");
    for flag in flags {
        for width in widths {
            for precision in precisions {
                if flag.contains('0') && !precision.is_empty() {
                    continue;
                }
                for conversion in ["d", "i", "u", "x", "X", "o"] {
                    if flag.contains('#') && "diu".contains(conversion) {
                        continue;
                    }
                    // The kernel puts the zero of an octal number before those of a precision, C counts it as one.
                    if flag.contains('#') && conversion == "o" && !precision.is_empty() {
                        continue;
                    }
                    for value in values {
                        // printf(1) has long integers only, so that l is what ours must say.
                        formats.push(format!("[%{flag}{width}{precision}{conversion}]"));
                        arguments.push(value.to_string());
                        let text = format!("[%{flag}{width}{precision}l{conversion}]");
                        ours.push(fake.print(&text, &[value.cast_unsigned()]));
                    }
                }
                if !flag.contains(['0', '#', '+', ' ']) {
                    formats.push(format!("[%{flag}{width}{precision}s]"));
                    arguments.push("text".to_owned());
                    ours.push(fake.print(&format!("[%{flag}{width}{precision}s]"), &[AT]));
                    if precision.is_empty() {
                        formats.push(format!("[%{flag}{width}c]"));
                        arguments.push("A".to_owned());
                        ours.push(fake.print(&format!("[%{flag}{width}c]"), &[u64::from(b'A')]));
                    }
                }
            }
        }
    }
    assert!(formats.len() > 2000, "{}", formats.len());
    let mut theirs = Vec::new();
    for (formats, arguments) in formats.chunks(500).zip(arguments.chunks(500)) {
        let output = Command::new("/usr/bin/printf")
            .arg(formats.concat().replace("][", "]\n["))
            .args(arguments)
            .env("LC_ALL", "C")
            .output()
            .expect("printf");
        theirs.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(theirs.len(), ours.len());
    for ((format, ours), theirs) in formats.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "{format}");
    }
}

#[test]
fn where_the_kernel_differs_from_c() {
    let fake = Fake::new();
    assert_eq!(fake.print("%#x", &[0]), "0x0");
    assert_eq!(fake.print("%#o", &[0]), "0");
    assert_eq!(fake.print("%#06x", &[0xff]), "0x00ff");
    assert_eq!(fake.print("%08.3d", &[5]), "00000005");
    assert_eq!(fake.print("%d %n %d", &[1, 2, 3]), "1 ");
    assert_eq!(fake.print("%d %f %d", &[1, 2, 3]), "1 ");
    assert_eq!(fake.print("50%", &[]), "50");
    assert_eq!(fake.print("%.s|", &[0]), "(null)|");
    assert_eq!(fake.print("%s", &[0x10]), "(efault)");
    assert_eq!(fake.print("%s", &[u64::MAX]), "(efault)");
    assert_eq!(fake.print("%s", &[AT]), "(efault)", "no memory there");
}

#[test]
fn complaints_are_of_letters_and_of_large_arguments() {
    let complaints = |text: &str, arguments: &[u64]| {
        let mut out = Output::new(1000);
        format(&mut out, text.as_bytes(), &mut Values(Vec::from(arguments).into_iter()), &Fake::new());
        out.complaints().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(complaints("%d %n %d", &[1, 2]), ["Please remove unsupported %n in format string"]);
    assert_eq!(
        complaints("%*d %.*d %*d", &[1 << 23, 0, 40000, 0, 1 << 24, 0]),
        ["field width 8388608 too large", "precision 40000 too large"]
    );
    assert!(complaints("%*d %.*d", &[(1 << 23) - 1, 0, 32767, 0]).is_empty());
}

#[test]
fn arguments_for_width_and_precision_and_lengths() {
    let fake = Fake::new().with(AT, b"text\0");
    assert_eq!(fake.print("%*d|%-*d|%*d", &[5, 1, 5, 2, (-5_i64).cast_unsigned(), 3]), "    1|2    |3    ");
    assert_eq!(fake.print("%.*s|%.*s", &[2, AT, (-1_i64).cast_unsigned(), AT]), "te|");
    assert_eq!(fake.print("%hhd %hhu %hd %hu", &[0x1ff, 0x1ff, 0x1_ffff, 0x1_ffff]), "-1 255 -1 65535");
    assert_eq!(fake.print("%d %u", &[0xdead_ffff_ffff, 0xdead_ffff_ffff]), "-1 4294967295");
    assert_eq!(fake.print("%lld %zu %tx", &[u64::MAX, 7, 8]), "-1 7 8");
    let narrow = Fake { size: 4, ..Fake::new() };
    assert_eq!(narrow.print("%ld %lu %lx", &[0xffff_ffff; 3]), "-1 4294967295 ffffffff");
    assert_eq!(narrow.print("%llx", &[u64::MAX]), "ffffffffffffffff");
    assert_eq!(narrow.print("%px", &[0xc000_0000]), "c0000000");
}

#[test]
fn pointers_are_hashed_and_errors_are_not() {
    let fake = Fake::new();
    assert_eq!(fake.print("%p", &[0xffff_8880_0000_1230]), "00000000dd2d0123".replace("dd2d", "dead"));
    assert_eq!(fake.print("%p", &[0]), "0000000000000000");
    assert_eq!(fake.print("%p", &[(-12_i64).cast_unsigned()]), "fffffffffffffff4");
    assert_eq!(fake.print("%pK|%px", &[0x10, 0x1234]), "00000000dead0001|0000000000001234");
    assert_eq!(fake.print("%5px|%-20px|", &[0x1234, 0x1234]), " 1234|1234                |");
    assert_eq!(
        fake.print("%pe %pe", &[(-2_i64).cast_unsigned(), (-4095_i64).cast_unsigned()]),
        "-ENOENT -4095"
    );
    assert_eq!(
        fake.print("%pS|%ps|%pB", &[0xffff_ffff_c000_0010, 0xffff_ffff_c000_0010, 0xffff_ffff_c000_0010]),
        "func+0x10/0x40 [mod]|func [mod]|func+0x10/0x40 [mod]"
    );
    // A return address right behind a function still belongs to it.
    assert_eq!(fake.print("%pB %pS", &[0xffff_ffff_c000_0040, 0x1234]), "func+0x40/0x40 [mod] 0x1234");
    assert_eq!(fake.print("%30ps|", &[0xffff_ffff_c000_0000]), "                    func [mod]|");
}

#[test]
fn what_pointers_point_to() {
    let bytes: Vec<u8> = (0..16).collect();
    let fake = Fake::new().with(AT, &bytes);
    assert_eq!(
        fake.print("%*ph|%*phC|%*phD|%*phN", &[4, AT, 4, AT, 4, AT, 4, AT]),
        "00 01 02 03|00:01:02:03|00-01-02-03|00010203"
    );
    assert_eq!(
        fake.print("%pM %pm %pMF %pMR %pmR", &[AT; 5]),
        "00:01:02:03:04:05 000102030405 00-01-02-03-04-05 05:04:03:02:01:00 050403020100"
    );
    assert_eq!(
        fake.print("%pUb %pUB %pUl %pUL", &[AT; 4]),
        "00010203-0405-0607-0809-0a0b0c0d0e0f 00010203-0405-0607-0809-0A0B0C0D0E0F \
         03020100-0504-0706-0809-0a0b0c0d0e0f 03020100-0504-0706-0809-0A0B0C0D0E0F"
    );
    assert_eq!(fake.print("%pI4 %pi4 %pI4l %pI4n", &[AT; 4]), "0.1.2.3 000.001.002.003 3.2.1.0 0.1.2.3");
    assert_eq!(
        fake.print("%pI6 %pi6", &[AT; 2]),
        "0001:0203:0405:0607:0809:0a0b:0c0d:0e0f 000102030405060708090a0b0c0d0e0f"
    );
    assert_eq!(fake.print("%pa %pad", &[AT; 2]), "0x0706050403020100 0x0706050403020100");
    assert_eq!(fake.print("%pNF", &[AT]), "0x0706050403020100");
    assert_eq!(fake.print("%pM", &[0]), "(null)");
}

#[test]
fn compressed_addresses() {
    let cases: [(&[u16; 8], &str); 7] = [
        (&[0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], "2001:db8::1"),
        (&[0, 0, 0, 0, 0, 0, 0, 0], "::"),
        (&[0, 0, 0, 0, 0, 0, 0, 1], "::1"),
        (&[1, 0, 0, 2, 0, 0, 0, 3], "1:0:0:2::3"),
        (&[1, 2, 3, 4, 5, 6, 7, 8], "1:2:3:4:5:6:7:8"),
        (&[0xfe80, 0, 0, 0, 0, 0, 0, 0], "fe80::"),
        (&[0, 0, 0, 0, 0, 0xffff, 0x0102, 0x0304], "::ffff:1.2.3.4"),
    ];
    for (words, text) in cases {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        assert_eq!(Fake::new().with(AT, &bytes).print("%pI6c", &[AT]), text);
    }
    let mut socket = vec![2, 0, 0x1f, 0x90, 127, 0, 0, 1];
    socket.resize(16, 0);
    let fake = Fake::new().with(AT, &socket);
    assert_eq!(fake.print("%pIS %pISp %piS", &[AT; 3]), "127.0.0.1 127.0.0.1:8080 127.000.000.001");
    let mut socket = vec![10, 0, 0x1f, 0x90, 0, 0, 0, 5];
    socket.extend([0; 15]);
    socket.extend([1, 3, 0, 0, 0]);
    let fake = Fake::new().with(AT, &socket);
    assert_eq!(fake.print("%pISc %pISpc %pISpfsc", &[AT; 3]), "::1 [::1]:8080 [::1]:8080/5%3");
}

#[test]
fn bitmaps() {
    let fake = Fake::new().with(AT, &[0xed, 0x01, 0, 0, 0x80, 0, 0, 0, 0xff]);
    assert_eq!(fake.print("%*pb", &[9, AT]), "1ed");
    assert_eq!(fake.print("%*pb", &[40, AT]), "80,000001ed");
    assert_eq!(fake.print("%*pbl", &[40, AT]), "0,2-3,5-8,39");
    assert_eq!(fake.print("%*pbl|%*pb|", &[0, AT, 0, AT]), "||");
}

#[test]
fn times_and_resources_and_escapes() {
    let mut time = Vec::new();
    for field in [15_i32, 14, 13, 12, 10, 118] {
        time.extend(field.to_le_bytes());
    }
    let fake = Fake::new().with(AT, &time);
    assert_eq!(
        fake.print("%ptR %ptRd %ptRt %ptRs", &[AT; 4]),
        "2018-11-12T13:14:15 2018-11-12 13:14:15 2018-11-12 13:14:15"
    );
    assert_eq!(fake.print("%ptRr", &[AT]), "0118-10-12T13:14:15");
    let seconds = |seconds: i64| Fake::new().with(AT, &seconds.to_le_bytes()).print("%ptT", &[AT]);
    assert_eq!(seconds(1_546_615_943), "2019-01-04T15:32:23");
    assert_eq!(seconds(951_782_400), "2000-02-29T00:00:00");
    assert_eq!(seconds(-1), "1969-12-31T23:59:59");
    let mut resource = Vec::new();
    for word in [0x6000_0000_u64, 0x6fff_ffff, 0, 0x2200] {
        resource.extend(word.to_le_bytes());
    }
    let fake = Fake::new().with(AT, &resource);
    assert_eq!(
        fake.print("%pR %pr", &[AT; 2]),
        "[mem 0x60000000-0x6fffffff pref] [mem 0x60000000-0x6fffffff flags 0x2200]"
    );
    let fake = Fake::new().with(AT, b"\x1b \\ \"\n\x90\r]\0");
    assert_eq!(fake.print("%*pE", &[9, AT]), r#"\e \ "\n\220\r]"#);
    let fake = Fake::new().with(AT, b"BG12");
    assert_eq!(fake.print("%p4cc", &[AT]), "BG12 little-endian (0x32314742)");
    let fake = Fake::new().with(AT, &0x400dc0_u32.to_le_bytes());
    assert_eq!(fake.print("%pGg", &[AT]), "GFP_KERNEL_ACCOUNT|__GFP_ZERO");
}

#[test]
fn formats_in_formats() {
    let mut fake = Fake::new().with(AT, b"inner\0");
    fake.nested.insert(0x5000, (b"<%s:%d>".to_vec(), vec![AT, 7]));
    assert_eq!(fake.print("%s: %pV and %d", &[AT, 0x5000, 8]), "inner: <inner:7> and 8");
    // One that contains itself ends.
    fake.nested.insert(0x6000, (b"x%pV".to_vec(), vec![0x6000]));
    assert!(fake.print("%pV", &[0x6000]).len() < 20);
}

#[test]
fn names_of_files() {
    let mut memory = Fake::new();
    // root <- dir <- file; d_parent at 24, d_name.name at 40.
    for (n, (parent, name)) in [(0, "/"), (0, "dir"), (1, "file")].into_iter().enumerate() {
        let at = |n: u64| AT + n * 0x400;
        let mut dentry = vec![0; 48];
        dentry[24..32].copy_from_slice(&at(parent).to_le_bytes());
        dentry[40..48].copy_from_slice(&(at(n as u64) + 0x200).to_le_bytes());
        memory =
            memory.with(at(n as u64), &dentry).with(at(n as u64) + 0x200, format!("{name}\0").as_bytes());
    }
    let file = AT + 0x800;
    let memory = memory.with(AT + 0x2000, &[&[0; 24][..], &file.to_le_bytes()].concat());
    assert_eq!(
        memory.print("%pd %pd2 %pd4 %pD2", &[file, file, file, AT + 0x2000]),
        "file dir/file /dir/file dir/file"
    );
    assert_eq!(memory.print("%pd", &[AT]), "/");
}

#[test]
fn what_does_not_fit_is_counted() {
    let fake = Fake::new();
    let mut out = Output::new(4);
    format(&mut out, b"%d and more%100d", &mut Values(vec![123_456, 1].into_iter()), &fake);
    assert_eq!((out.bytes(), out.length()), (&b"1234"[..], 115));
}

proptest! {
    #[test]
    fn no_format_is_too_much(text in prop::collection::vec(
        prop_oneof![Just(b'%'), Just(b'p'), Just(b'*'), Just(b'.'), 0x20_u8..0x7f, any::<u8>()], 0..40),
        values in prop::collection::vec(prop_oneof![any::<u64>(), Just(AT), 0..100_u64], 0..12),
        size in prop_oneof![Just(4_u8), Just(8)]) {
        let memory: Vec<u8> = (0..=255).collect();
        let mut fake = Fake { size, ..Fake::new().with(AT, &memory) };
        fake.nested.insert(AT, (text.clone(), values.clone()));
        let mut out = Output::new(1000);
        format(&mut out, &text, &mut Values(values.into_iter()), &fake);
        prop_assert!(out.bytes().len() <= 1000 && out.bytes().len() <= out.length());
    }
}
