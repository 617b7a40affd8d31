//! The fields of data and instructions that relocations change.

use lkm_module::elf::Endian;

/// A part of a 32-bit place that holds an addend before and the value after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// All 32 bits of a data word.
    Word,
    /// A data word without its top bit, signed.
    Prel31,
    /// Branch offset of `b` and `bl`, in words.
    Branch,
    /// Branch offset of Thumb-2 `b.w` and `bl`, in half words.
    ThumbBranch,
    /// 16-bit immediate of `movw` and `movt`.
    Move,
    /// 16-bit immediate of Thumb-2 `movw` and `movt`.
    ThumbMove,
    /// `bx Rm` that ARMv4 has not: becomes `mov pc, Rm`. No value.
    V4Bx,
    /// Rotated 8-bit immediate of `add` and `sub`: the group of that number of the value's bits.
    Alu(u32),
    /// 12-bit offset of a load: what the groups up to that number leave.
    Load(u32),
}

/// The value does not fit in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange;

impl Field {
    /// The addend that the place holds. `endian` is that of data; instructions are little-endian on all kernels that
    /// take modules (BE8).
    #[inline(always)]
    pub(crate) fn addend(self, place: &[u8; 4], endian: Endian) -> i32 {
        let insn = u32::from_le_bytes(*place);
        match self {
            Field::Word => word(place, endian) as i32,
            Field::Prel31 => sign_extend(word(place, endian), 31),
            Field::Branch => sign_extend((insn & 0x00ff_ffff) << 2, 26),
            Field::ThumbBranch => {
                let (upper, lower) = halves(insn);
                let sign = upper >> 10 & 1;
                let i1 = !(lower >> 13 ^ sign) & 1;
                let i2 = !(lower >> 11 ^ sign) & 1;
                let offset = sign << 24 | i1 << 23 | i2 << 22 | (upper & 0x3ff) << 12 | (lower & 0x7ff) << 1;
                sign_extend(offset, 25)
            }
            Field::Move => sign_extend(insn >> 4 & 0xf000 | insn & 0xfff, 16),
            Field::ThumbMove => {
                let (upper, lower) = halves(insn);
                let immediate =
                    (upper & 0xf) << 12 | (upper & 0x400) << 1 | (lower & 0x7000) >> 4 | lower & 0xff;
                sign_extend(immediate, 16)
            }
            Field::V4Bx => 0,
            Field::Alu(_) => {
                let magnitude = (insn & 0xff).rotate_right(insn >> 7 & 0x1e) as i32;
                if insn & SUB != 0 { magnitude.wrapping_neg() } else { magnitude }
            }
            Field::Load(_) => {
                let magnitude = (insn & 0xfff) as i32;
                if insn & ADD == 0 { magnitude.wrapping_neg() } else { magnitude }
            }
        }
    }

    /// Whether the value reaches its target. Fields that cut values off always do.
    #[inline(always)]
    pub(crate) fn reaches(self, value: i32) -> bool {
        match self {
            // The lowest offset is not used by the kernel.
            Field::Branch => -0x0200_0000 < value && value < 0x0200_0000,
            Field::ThumbBranch => -0x0100_0000 < value && value < 0x0100_0000,
            Field::Prel31 => (-0x4000_0000..0x4000_0000).contains(&value),
            _ => true,
        }
    }

    /// The place with the value in the field, cut off to its bits.
    #[inline(always)]
    pub(crate) fn insert(self, place: &[u8; 4], value: i32, endian: Endian) -> Result<[u8; 4], OutOfRange> {
        let insn = u32::from_le_bytes(*place);
        let bits = value as u32;
        let insn = match self {
            Field::Word => return Ok(endian.u32_bytes(bits)),
            Field::Prel31 => {
                let word = word(place, endian) & 0x8000_0000 | bits & 0x7fff_ffff;
                return Ok(endian.u32_bytes(word));
            }
            Field::Branch => insn & 0xff00_0000 | bits >> 2 & 0x00ff_ffff,
            Field::ThumbBranch => {
                let (upper, lower) = halves(insn);
                let sign = bits >> 24 & 1;
                let j1 = sign ^ (!(bits >> 23) & 1);
                let j2 = sign ^ (!(bits >> 22) & 1);
                let upper = upper & 0xf800 | sign << 10 | bits >> 12 & 0x3ff;
                let lower = lower & 0xd000 | j1 << 13 | j2 << 11 | bits >> 1 & 0x7ff;
                upper | lower << 16
            }
            Field::Move => insn & 0xfff0_f000 | (bits & 0xf000) << 4 | bits & 0xfff,
            Field::ThumbMove => {
                let (upper, lower) = halves(insn);
                let upper = upper & 0xfbf0 | (bits & 0xf000) >> 12 | (bits & 0x0800) >> 1;
                let lower = lower & 0x8f00 | (bits & 0x0700) << 4 | bits & 0xff;
                upper | lower << 16
            }
            Field::V4Bx => insn & 0xf000_000f | 0x01a0_f000,
            Field::Alu(group) => {
                let operation = if value < 0 { SUB } else { ADD };
                let (residue, shift) = group_residue(group, value.unsigned_abs());
                let immediate = if shift < 24 { residue >> (24 - shift) | (shift + 8) << 7 } else { residue };
                insn & !(SUB | ADD | 0xfff) | operation | immediate
            }
            Field::Load(group) => {
                let up = if value < 0 { 0 } else { ADD };
                let (residue, _) = group_residue(group, value.unsigned_abs());
                if residue > 0xfff {
                    return Err(OutOfRange);
                }
                insn & !(ADD | 0xfff) | up | residue
            }
        };
        Ok(insn.to_le_bytes())
    }
}

/// Bit 23: opcode bit of `add`, and the up bit of loads.
const ADD: u32 = 1 << 23;
/// Bit 22: opcode bit of `sub`.
const SUB: u32 = 1 << 22;

/// What is left of `value` before the group is taken, and its leading zeros rounded down to even: a group is eight
/// bits from there. 32 when nothing is left.
fn group_residue(group: u32, value: u32) -> (u32, u32) {
    let mut residue = value;
    let mut shift = residue.leading_zeros() & !1;
    for _ in 0..group {
        if residue == 0 {
            break;
        }
        residue &= 0x00ff_ffff >> shift;
        shift = residue.leading_zeros() & !1;
    }
    (residue, shift)
}

fn word(place: &[u8; 4], endian: Endian) -> u32 {
    match endian {
        Endian::Little => u32::from_le_bytes(*place),
        Endian::Big => u32::from_be_bytes(*place),
    }
}

/// The first and the second half word of a Thumb-2 instruction.
const fn halves(insn: u32) -> (u32, u32) {
    (insn & 0xffff, insn >> 16)
}

const fn sign_extend(value: u32, bits: u32) -> i32 {
    let unused = 32 - bits;
    ((value << unused) as i32) >> unused
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LE: Endian = Endian::Little;

    /// What GNU as wrote for instructions, with the value of the field that the source text names. Branch offsets
    /// are less the pipeline's 8 or 4 bytes. Thumb instructions are given as they lie in memory, low half first.
    const ASSEMBLED: &[(Field, u32, i32)] = &[
        (Field::Branch, 0xeb00_003e, 0x100 - 8),       // bl .+0x100
        (Field::Branch, 0xeaff_f7fe, -0x2000 - 8),     // b .-0x2000
        (Field::Branch, 0x1b7f_fffd, 0x1ff_fffc - 8),  // blne .+0x1fffffc
        (Field::Move, 0xe30b_3eef, 0xbeef - 0x1_0000), // movw r3, #0xbeef
        (Field::Move, 0xe34d_cead, 0xdead - 0x1_0000), // movt r12, #0xdead
        (Field::ThumbBranch, 0xfa29_f123, 0x12_3456 - 4),
        (Field::ThumbBranch, 0xf66e_f5ab, -0x65_4320 - 4),
        (Field::ThumbBranch, 0x97fd_f3ff, 0xff_fffe - 4),
        (Field::ThumbBranch, 0x9000_f400, -0xff_fffc - 4),
        (Field::ThumbBranch, 0xf800_f000, 0),
        (Field::ThumbMove, 0x63ef_f64b, 0xbeef - 0x1_0000),
        (Field::ThumbMove, 0x6cad_f6cd, 0xdead - 0x1_0000),
        (Field::Alu(0), 0xe28f_0bff, 0x3_fc00), // add r0, pc, #0x3fc00
        (Field::Alu(0), 0xe24f_1eff, -0xff0),   // sub r1, pc, #0xff0
        (Field::Load(0), 0xe59f_3123, 0x123),   // ldr r3, [pc, #0x123]
        (Field::Load(0), 0xe51f_4abc, -0xabc),  // ldr r4, [pc, #-0xabc]
    ];

    #[test]
    fn reads_and_writes_what_the_assembler_writes() {
        for &(field, insn, value) in ASSEMBLED {
            let place = insn.to_le_bytes();
            assert_eq!(field.addend(&place, LE), value, "{field:?} {insn:08x}");
            let other = field.insert(&place, 0, LE).unwrap();
            let back = field.insert(&other, value, LE).unwrap();
            assert_eq!(u32::from_le_bytes(back), insn, "{field:?}");
        }
    }

    #[test]
    fn data_follows_the_byte_order_and_instructions_do_not() {
        let place = [0x80, 0, 0, 4];
        assert_eq!(Field::Word.addend(&place, Endian::Big), i32::MIN + 4);
        assert_eq!(Field::Word.insert(&place, 0x0102_0304, Endian::Big), Ok([1, 2, 3, 4]));
        assert_eq!(Field::Word.insert(&place, 0x0102_0304, LE), Ok([4, 3, 2, 1]));
        // The top bit of an unwind entry is not part of the offset.
        assert_eq!(Field::Prel31.addend(&place, Endian::Big), 4);
        assert_eq!(Field::Prel31.insert(&place, -1, Endian::Big), Ok([0xff; 4]));
        assert_eq!(Field::Prel31.insert(&[0; 4], -1, LE), Ok([0xff, 0xff, 0xff, 0x7f]));
        assert_eq!(Field::Prel31.addend(&[0xff, 0xff, 0xff, 0x7f], LE), -1);
        let bl = 0xeb00_003eu32.to_le_bytes();
        assert_eq!(Field::Branch.addend(&bl, Endian::Big), 0xf8);
    }

    #[test]
    fn ranges_end_where_the_kernel_ends_them() {
        for (field, low, high) in [
            (Field::Branch, -0x01ff_ffff, 0x01ff_ffff),
            (Field::ThumbBranch, -0x00ff_ffff, 0x00ff_ffff),
            (Field::Prel31, -0x4000_0000, 0x3fff_ffff),
        ] {
            assert!(field.reaches(low) && field.reaches(high), "{field:?}");
            assert!(!field.reaches(low - 1) && !field.reaches(high + 1), "{field:?}");
        }
        assert!(Field::Word.reaches(i32::MIN) && Field::Move.reaches(i32::MAX));
    }

    #[test]
    fn bx_becomes_mov_pc_with_its_condition_and_register() {
        let bx = 0x112f_ff17u32.to_le_bytes(); // bxne r7
        assert_eq!(Field::V4Bx.insert(&bx, 0, LE), Ok(0x11a0_f007u32.to_le_bytes()));
    }

    #[test]
    fn groups_take_eight_bits_at_even_places_from_the_top() {
        let add = 0xe28f_0000u32.to_le_bytes();
        let alu = |group, value| u32::from_le_bytes(Field::Alu(group).insert(&add, value, LE).unwrap());
        // 0x12345678 in groups: 0x12000000 (0x48 << 22), 0x00344000 (0xd1 << 14), 0x00001678 left.
        assert_eq!(alu(0, 0x1234_5678), 0xe28f_0548);
        assert_eq!(alu(1, 0x1234_5678), 0xe28f_09d1);
        assert_eq!(alu(0, -0x1234_5678), 0xe24f_0548);
        assert_eq!(alu(0, 0x7f), 0xe28f_007f);
        assert_eq!(alu(1, 0x7f), 0xe28f_0000);
        assert_eq!(alu(0, 0), 0xe28f_0000);

        // As the assembler writes sub r2, pc, #0x1000000: another rotation of the same value.
        assert_eq!(Field::Alu(0).addend(&0xe24f_2401u32.to_le_bytes(), LE), -0x100_0000);

        let ldr = 0xe59f_3000u32.to_le_bytes();
        let load = |value| Field::Load(2).insert(&ldr, value, LE).map(u32::from_le_bytes);
        assert_eq!(load(0x1234_4123), Ok(0xe59f_3123));
        assert_eq!(load(-0x1234_4123), Ok(0xe51f_3123));
        assert_eq!(load(0x1234_5678), Err(OutOfRange));
    }

    proptest! {
        #[test]
        fn groups_add_up(value in any::<i32>()) {
            // Groups 0 and 1 as instructions add them, and what is left for the load.
            let magnitude = value.unsigned_abs();
            let add = 0xe28f_0000u32.to_le_bytes();
            let part = |group| {
                let insn = Field::Alu(group).insert(&add, value, LE).unwrap();
                Field::Alu(0).addend(&insn, LE)
            };
            let sum = part(0).wrapping_add(part(1));
            let (residue, _) = group_residue(2, magnitude);
            let expected = if value < 0 { (sum as u32).wrapping_sub(residue) } else { (sum as u32).wrapping_add(residue) };
            prop_assert_eq!(expected, value as u32);
        }

        #[test]
        fn what_is_written_is_read_back(insn in any::<u32>(), value in any::<i32>()) {
            for (field, kept) in [
                (Field::Word, value),
                (Field::Prel31, value << 1 >> 1),
                (Field::Branch, (value & !3) << 6 >> 6),
                (Field::ThumbBranch, (value & !1) << 7 >> 7),
                (Field::Move, value << 16 >> 16),
                (Field::ThumbMove, value << 16 >> 16),
            ] {
                let place = insn.to_le_bytes();
                let after = field.insert(&place, value, LE).unwrap();
                prop_assert_eq!(field.addend(&after, LE), kept);
                // The other bits stay: writing the old value gives the old place.
                let back = field.insert(&after, field.addend(&place, LE), LE).unwrap();
                prop_assert_eq!(back, place);
            }
        }
    }
}
