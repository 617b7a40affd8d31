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
