//! Time: the machine's own clock, which sleeping moves and which never waits.

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::data::JIFFY;
use super::value;

/// Seconds since 1970 at which the machine starts: a fixed day, so that runs are alike.
const START: u64 = 1_700_000_000;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("msleep", |call| {
        let time = u64::from(call.u32());
        call.sleep(time * 1_000_000);
        Ok(0)
    }),
    call("msleep_interruptible", |call| {
        let time = u64::from(call.u32());
        call.sleep(time * 1_000_000);
        Ok(0)
    }),
    call("usleep_range_state", |call| {
        let time = call.word();
        call.sleep(time.saturating_mul(1000));
        Ok(0)
    }),
    call("usleep_range", |call| {
        let time = call.word();
        call.sleep(time.saturating_mul(1000));
        Ok(0)
    }),
    call("__udelay", |call| {
        let time = call.word();
        call.sleep(time.saturating_mul(1000));
        Ok(0)
    }),
    call("__const_udelay", |call| {
        // x86: microseconds times 2^32 / 1000000.
        let time = call.word();
        call.sleep(time / 4295 * 1000);
        Ok(0)
    }),
    call("__ndelay", |call| {
        let time = call.word();
        call.sleep(time);
        Ok(0)
    }),
    call("ktime_get", |call| Ok(call.machine.clock)),
    call("ktime_get_mono_fast_ns", |call| Ok(call.machine.clock)),
    call("ktime_get_raw", |call| Ok(call.machine.clock)),
    call("ktime_get_coarse", |call| Ok(call.machine.clock)),
    call("ktime_get_with_offset", |call| Ok((START * 1_000_000_000).saturating_add(call.machine.clock))),
    call("ktime_get_real_seconds", |call| Ok(START + call.machine.clock / 1_000_000_000)),
    call("ktime_get_seconds", |call| Ok(call.machine.clock / 1_000_000_000)),
    call("sched_clock", |call| Ok(call.machine.clock)),
    call("local_clock", |call| Ok(call.machine.clock)),
    call("ktime_get_ts64", |call| {
        let now = call.machine.clock;
        store(call, now)
    }),
    call("ktime_get_raw_ts64", |call| {
        let now = call.machine.clock;
        store(call, now)
    }),
    call("ktime_get_real_ts64", |call| {
        let now = (START * 1_000_000_000).saturating_add(call.machine.clock);
        store(call, now)
    }),
    call("jiffies_to_msecs", |call| {
        let jiffies = call.word();
        Ok(jiffies.wrapping_mul(JIFFY / 1_000_000))
    }),
    call("jiffies_to_usecs", |call| {
        let jiffies = call.word();
        Ok(jiffies.wrapping_mul(JIFFY / 1000))
    }),
    call("__msecs_to_jiffies", |call| {
        let time = u64::from(call.u32());
        Ok((time * 1_000_000).div_ceil(JIFFY))
    }),
    call("__usecs_to_jiffies", |call| {
        let time = u64::from(call.u32());
        Ok((time * 1000).div_ceil(JIFFY))
    }),
    call("nsecs_to_jiffies", |call| {
        let time = call.u64();
        Ok(time / JIFFY)
    }),
    call("round_jiffies", |call| Ok(call.word())),
    call("round_jiffies_relative", |call| Ok(call.word())),
    // The sequence of a fixed generator: the same in every run.
    call("get_random_bytes", |call| {
        let (to, size) = (call.word(), call.word());
        let bytes: Vec<u8> = (0..size.min(1 << 20)).map(|_| random(call) as u8).collect();
        call.put(to, &bytes)?;
        Ok(0)
    }),
    call("get_random_u8", |call| Ok(random(call) & 0xff)),
    call("get_random_u16", |call| Ok(random(call) & 0xffff)),
    call("get_random_u32", |call| Ok(random(call) & 0xffff_ffff)),
    call("get_random_u64", |call| Ok(random(call))),
    call("prandom_u32", |call| Ok(random(call) & 0xffff_ffff)),
    call("get_random_u32_below", |call| {
        let limit = u64::from(call.u32().max(1));
        Ok(random(call) % limit)
    }),
    value("rng_is_initialized", 1),
];

fn store(call: &mut Call<'_>, nanoseconds: u64) -> Done {
    // `struct timespec64`: seconds in 64 bits, then a long.
    let to = call.word();
    call.put(to, &(nanoseconds / 1_000_000_000).to_le_bytes())?;
    let rest = nanoseconds % 1_000_000_000;
    let size = call.machine.layout.pointer as usize;
    call.put(to.wrapping_add(8), rest.to_le_bytes().get(..size).unwrap_or_default())?;
    Ok(0)
}

fn random(call: &mut Call<'_>) -> u64 {
    let state = &mut call.machine.state.random;
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
