//! Lengths of x86_64 instructions. AMD's XOP instructions are not known, nor are they to the kernel's decoder.

/// The longest instruction, in bytes.
pub(super) const MAX_INSN: usize = 15;

/// As much of an instruction as patching needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Insn {
    /// Bytes in all.
    pub(super) len: usize,
    /// The first two bytes of the opcode, after prefixes; the second is meaningful after 0x0f only.
    pub(super) opcode: [u8; 2],
    /// The first legacy prefix, or 0.
    pub(super) prefix: u8,
    /// Offset of the ModRM byte, and that byte.
    pub(super) modrm: Option<(usize, u8)>,
}

impl Insn {
    /// It is `jcc rel32`.
    pub(super) const fn is_jcc32(&self) -> bool {
        self.opcode[0] == 0x0f && self.opcode[1] & 0xf0 == 0x80
    }

    /// It does nothing, in one of the forms that the kernel knows (from 6.4 on).
    pub(super) const fn is_nop(&self) -> bool {
        self.opcode[0] == 0x90 && self.prefix != 0xf3 || self.opcode[0] == 0x0f && self.opcode[1] == 0x1f
    }

    /// Offset of the four bytes by which it addresses memory relative to itself, if it does.
    pub(super) const fn rip_relative(&self) -> Option<usize> {
        match self.modrm {
            Some((at, modrm)) if modrm & 0xc7 == 5 => Some(at + 1),
            _ => None,
        }
    }
}

/// Which immediate follows the opcode.
#[derive(Clone, Copy)]
enum Imm {
    None,
    /// One byte.
    B,
    /// Two bytes.
    W,
    /// Two bytes with an operand size prefix, else four.
    Z,
    /// Four bytes in any case: the operand size prefix has no say in near branches.
    D,
    /// Two, four or eight bytes by operand size.
    V,
    /// `enter`: two bytes and one.
    WB,
    /// An absolute address.
    Address,
}

/// Decodes the instruction at the start of `bytes`. `None` if it is cut off or longer than any instruction may be.
/// Opcodes that no CPU knows have a length too, as in the kernel's decoder.
pub(super) fn decode(bytes: &[u8]) -> Option<Insn> {
    let bytes = bytes.get(..MAX_INSN).unwrap_or(bytes);
    let byte = |at: usize| bytes.get(at).copied();
    let mut at = 0;
    let mut prefix = 0;
    let (mut operand16, mut address32, mut wide) = (false, false, false);
    loop {
        match byte(at)? {
            0x66 => operand16 = true,
            0x67 => address32 = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => {}
            _ => break,
        }
        if prefix == 0 {
            prefix = byte(at)?;
        }
        at += 1;
    }
    let first = byte(at)?;
    if first & 0xf0 == 0x40 {
        wide = first & 8 != 0;
        at += 1;
    }
    let op = byte(at)?;
    at += 1;
    let mut opcode = [op, 0];
    let (has_modrm, imm) = match op {
        0x0f => {
            let op2 = byte(at)?;
            at += 1;
            opcode[1] = op2;
            match op2 {
                0x38 => {
                    at += 1;
                    (true, Imm::None)
                }
                0x3a => {
                    at += 1;
                    (true, Imm::B)
                }
                _ => two_byte(op2),
            }
        }
        0xc5 => {
            let op2 = byte(at + 1)?;
            at += 2;
            vector(1, op2)
        }
        0xc4 => {
            let map = byte(at)? & 0x1f;
            let op2 = byte(at + 2)?;
            at += 3;
            vector(map, op2)
        }
        0x62 => {
            let map = byte(at)? & 7;
            let op2 = byte(at + 3)?;
            at += 4;
            vector(map, op2)
        }
        _ => one_byte(op),
    };
    let mut imm = imm;
    let mut modrm_at = None;
    if has_modrm {
        let modrm = byte(at)?;
        modrm_at = Some((at, modrm));
        at += 1;
        let (mode, reg, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        if mode != 3 {
            let mut base = rm;
            if rm == 4 {
                base = byte(at)? & 7;
                at += 1;
            }
            at += match mode {
                0 if base == 5 => 4,
                1 => 1,
                2 => 4,
                _ => 0,
            };
        }
        // `test` shares its opcodes with instructions without an immediate.
        if reg < 2 && op == 0xf6 {
            imm = Imm::B;
        } else if reg < 2 && op == 0xf7 {
            imm = Imm::Z;
        }
    }
    at += match imm {
        Imm::None => 0,
        Imm::B => 1,
        Imm::W => 2,
        Imm::WB => 3,
        Imm::D => 4,
        Imm::Z | Imm::V if wide => match imm {
            Imm::V => 8,
            _ => 4,
        },
        Imm::Z | Imm::V if operand16 => 2,
        Imm::Z | Imm::V => 4,
        Imm::Address if address32 => 4,
        Imm::Address => 8,
    };
    (at <= bytes.len()).then_some(Insn { len: at, opcode, prefix, modrm: modrm_at })
}

fn one_byte(op: u8) -> (bool, Imm) {
    match op {
        0x00..=0x3f => match op & 7 {
            0..=3 => (true, Imm::None),
            4 => (false, Imm::B),
            5 => (false, Imm::Z),
            _ => (false, Imm::None),
        },
        0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => (true, Imm::None),
        0x68 | 0xa9 => (false, Imm::Z),
        0x69 | 0x81 | 0xc7 => (true, Imm::Z),
        0x6b | 0x80 | 0x82 | 0x83 | 0xc0 | 0xc1 | 0xc6 => (true, Imm::B),
        0x6a | 0x70..=0x7f | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xd4 | 0xd5 | 0xe0..=0xe7 | 0xeb => (false, Imm::B),
        0xa0..=0xa3 => (false, Imm::Address),
        0xb8..=0xbf => (false, Imm::V),
        0xc2 | 0xca => (false, Imm::W),
        0xc8 => (false, Imm::WB),
        0xe8 | 0xe9 => (false, Imm::D),
        _ => (false, Imm::None),
    }
}

fn two_byte(op: u8) -> (bool, Imm) {
    match op {
        0x04..=0x0c | 0x0e | 0x24..=0x27 | 0x30..=0x37 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => {
            (false, Imm::None)
        }
        0x80..=0x8f => (false, Imm::D),
        0x0f | 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => (true, Imm::B),
        _ => (true, Imm::None),
    }
}

/// Opcodes after a VEX or EVEX prefix, by opcode map.
fn vector(map: u8, op: u8) -> (bool, Imm) {
    match (map, op) {
        (1, 0x77) => (false, Imm::None),
        (1, 0x70..=0x73 | 0xc2 | 0xc4..=0xc6) | (3, _) => (true, Imm::B),
        _ => (true, Imm::None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lengths as objdump prints them.
    #[test]
    fn lengths() {
        let rows: &[&[u8]] = &[
            &[0x90],
            &[0xc3],
            &[0x0f, 0x0b],
            &[0xe8, 0, 0, 0, 0],
            &[0x2e, 0xe8, 0, 0, 0, 0],
            &[0x66, 0x90],
            &[0xeb, 0x10],
            &[0x0f, 0x84, 0, 0, 0, 0],
            &[0x0f, 0x1f, 0x44, 0, 0],
            &[0xf3, 0x0f, 0x1e, 0xfa],
            &[0x0f, 0x01, 0xca],
            &[0x0f, 0xae, 0xe8],
            &[0x48, 0x8b, 0x05, 1, 2, 3, 4],
            &[0x48, 0xc7, 0xc0, 1, 0, 0, 0],
            &[0x66, 0xc7, 0x00, 1, 0],
            &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x66, 0xb8, 1, 2],
            &[0xf6, 0x05, 0, 0, 0, 0, 1],
            &[0xf7, 0xd8],
            &[0x66, 0xf7, 0x00, 1, 0],
            &[0x8b, 0x44, 0x24, 0x10],
            &[0x8b, 0x84, 0x24, 1, 2, 3, 4],
            &[0x8b, 0x04, 0x25, 1, 2, 3, 4],
            &[0xc5, 0xf8, 0x77],
            &[0xc4, 0xe3, 0x71, 0x0f, 0xc2, 8],
            &[0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x06],
            &[0x62, 0xf3, 0xfd, 0x48, 0x43, 0xc0, 1],
            &[0x66, 0x0f, 0x3a, 0x0f, 0xc8, 8],
            &[0xf3, 0x48, 0x0f, 0xb8, 0xc7],
            &[0xff, 0x14, 0x25, 0, 0, 0, 0],
            &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],
        ];
        for row in rows {
            let mut padded = row.to_vec();
            padded.resize(20, 0xcc);
            assert_eq!(decode(&padded).map(|insn| insn.len), Some(row.len()), "{row:02x?}");
            for cut in 0..row.len() {
                assert_eq!(decode(&row[..cut]), None, "{row:02x?} cut to {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn never_reaches_past_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(insn) = decode(&bytes) {
                prop_assert!(insn.len >= 1 && insn.len <= bytes.len().min(MAX_INSN));
            }
        }
    }
}
