//! Finds AVX code. The emulator refuses 256-bit AVX but executes the 128-bit form wrongly without a word, so that
//! such code has to be found before it runs.

use iced_x86::Decoder;
use iced_x86::DecoderOptions;
use iced_x86::EncodingKind;
use iced_x86::Instruction;
use iced_x86::OpKind;

/// The address of the first vector instruction in VEX, EVEX or XOP encoding in a run of 64-bit code. The scalar ones
/// of BMI, which have the same encodings, are executed correctly and do not count.
pub(super) fn find(code: &[u8], address: u64) -> Option<u64> {
    // Every such instruction holds one of the four prefix bytes: without any there is nothing to decode.
    if !code.iter().any(|byte| matches!(byte, 0xc4 | 0xc5 | 0x62 | 0x8f)) {
        return None;
    }
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let extended = matches!(
            instruction.code().encoding(),
            EncodingKind::VEX | EncodingKind::EVEX | EncodingKind::XOP | EncodingKind::MVEX
        );
        if extended && touches_vectors(&instruction) {
            return Some(instruction.ip());
        }
    }
    None
}

fn touches_vectors(instruction: &Instruction) -> bool {
    // vzeroupper and its like have no operands at all.
    instruction.op_count() == 0
        || (0..instruction.op_count()).any(|n| {
            instruction.op_kind(n) == OpKind::Register
                && (instruction.op_register(n).is_vector_register() || instruction.op_register(n).is_k())
        })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn avx_is_found_and_bmi_is_not() {
        // nop; vpxor xmm0,xmm1,xmm2
        assert_eq!(find(&[0x90, 0xc5, 0xf1, 0xef, 0xc2], 0x1000), Some(0x1001));
        // vpaddd ymm0,ymm1,ymm2
        assert_eq!(find(&[0xc5, 0xf5, 0xfe, 0xc2], 0), Some(0));
        // vzeroupper
        assert_eq!(find(&[0xc5, 0xf8, 0x77], 0), Some(0));
        // andn eax,ecx,edx
        assert_eq!(find(&[0xc4, 0xe2, 0x70, 0xf2, 0xc2], 0), None);
        // movaps xmm0,xmm1: the encoding of SSE
        assert_eq!(find(&[0x0f, 0x28, 0xc1], 0), None);
        // mov eax, 0xc5f1efc2: prefix bytes as data
        assert_eq!(find(&[0xb8, 0xc2, 0xef, 0xf1, 0xc5], 0), None);
    }
}
