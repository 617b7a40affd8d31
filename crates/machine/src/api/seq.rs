//! `seq_file`: text made piece by piece, read like a file.

use lkm_module::Errno;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::int;
use super::slab::FreeBy;
use crate::abi::VaList;
use crate::machine::Machine;

/// Bytes that one file may hold.
const TEXT_MAX: usize = 16 << 20;
/// Elements that one file may have.
const ELEMENTS_MAX: usize = 1 << 20;
/// What `start` returns for a header line, and the only element of a single file.
const START_TOKEN: u64 = 1;

/// The text of an open file.
#[derive(Debug, Default)]
pub(crate) struct Seq {
    text: Vec<u8>,
    complete: bool,
    /// The function that shows a single file; 0 for one with operations.
    show: u64,
}

pub(crate) const FUNCTIONS: &[Function] = &[
    call("seq_open", |call| {
        let (file, operations) = (call.word(), call.word());
        Ok(if call.open_seq(file, operations, 0, 0)? == 0 { call.error(Errno::ENOMEM) } else { 0 })
    }),
    call("__seq_open_private", |call| {
        let (file, operations, size) = (call.word(), call.word(), call.i32());
        open_private(call, file, operations, size)
    }),
    call("seq_open_private", |call| {
        let (file, operations, size) = (call.word(), call.word(), call.i32());
        let private = open_private(call, file, operations, size)?;
        Ok(if private == 0 { call.error(Errno::ENOMEM) } else { 0 })
    }),
    call("single_open", |call| {
        let (file, show, data) = (call.word(), call.word(), call.word());
        Ok(if call.open_seq(file, 0, show, data)? == 0 { call.error(Errno::ENOMEM) } else { 0 })
    }),
    call("single_open_size", |call| {
        let (file, show, data) = (call.word(), call.word(), call.word());
        Ok(if call.open_seq(file, 0, show, data)? == 0 { call.error(Errno::ENOMEM) } else { 0 })
    }),
    call("single_release", release),
    call("seq_release", release),
    call("seq_release_private", |call| {
        let (_, file) = (call.word(), call.word());
        let seq = call.machine.read_word(file.wrapping_add(call.machine.layout.file.private_data));
        let private = call.machine.read_word(seq.wrapping_add(call.machine.layout.seq_file.private));
        call.free(private, FreeBy::Slab)?;
        call.close_seq(file);
        Ok(0)
    }),
    call("seq_read", |call| {
        let (file, to, size, place) = (call.word(), call.word(), call.word(), call.word());
        let pos = call.position(place);
        let bytes = call.read_seq(file, pos, size)?;
        if !call.machine.write_user(to, &bytes) {
            return Ok(call.error(Errno::EFAULT));
        }
        call.set_position(place, pos.saturating_add(bytes.len() as i64));
        Ok(bytes.len() as u64)
    }),
    call("seq_lseek", |call| {
        let file = call.word();
        let offset = call.u64().cast_signed();
        let whence = call.i32();
        let place = file.wrapping_add(call.machine.layout.file.pos);
        let new = match whence {
            0 => offset,
            1 => call.position(place).saturating_add(offset),
            _ => return Ok(call.error(Errno::EINVAL)),
        };
        if new < 0 {
            return Ok(call.error(Errno::EINVAL));
        }
        call.set_position(place, new);
        Ok(new.cast_unsigned())
    }),
    call("seq_printf", |call| {
        let (seq, format) = (call.word(), call.word());
        let text = call.format_arguments(format, TEXT_MAX);
        call.append(seq, &text);
        Ok(0)
    }),
    call("seq_vprintf", |call| {
        let (seq, format, list) = (call.word(), call.word(), call.word());
        let text = call.format_list(format, list, TEXT_MAX);
        call.append(seq, &text);
        Ok(0)
    }),
    call("seq_bprintf", |call| {
        let (seq, format, list) = (call.word(), call.word(), call.word());
        let _ = VaList::from_argument(call.machine.arch, call.machine.cpu.as_ref(), list);
        let text = call.machine.read_string(format, TEXT_MAX);
        call.append(seq, &text);
        Ok(0)
    }),
    call("seq_puts", |call| {
        let (seq, text) = (call.word(), call.word());
        let text = call.text(text)?;
        call.append(seq, &text);
        Ok(0)
    }),
    call("seq_putc", |call| {
        let (seq, byte) = (call.word(), call.u32() as u8);
        call.append(seq, &[byte]);
        Ok(0)
    }),
    call("seq_write", |call| {
        let (seq, data, size) = (call.word(), call.word(), call.word());
        let bytes = call.bytes(data, size)?;
        call.append(seq, &bytes);
        Ok(0)
    }),
    call("seq_pad", |call| {
        let (seq, byte) = (call.word(), call.u32() as u8);
        if byte != 0 {
            call.append(seq, &[byte]);
        }
        Ok(0)
    }),
    call("seq_put_decimal_ull", |call| {
        let (seq, delimiter) = (call.word(), call.word());
        let value = call.u64();
        let mut text = call.machine.read_string(delimiter, 64);
        text.extend_from_slice(value.to_string().as_bytes());
        call.append(seq, &text);
        Ok(0)
    }),
    call("seq_put_decimal_ll", |call| {
        let (seq, delimiter) = (call.word(), call.word());
        let value = call.u64().cast_signed();
        let mut text = call.machine.read_string(delimiter, 64);
        text.extend_from_slice(value.to_string().as_bytes());
        call.append(seq, &text);
        Ok(0)
    }),
];

fn release(call: &mut Call<'_>) -> Done {
    let (_, file) = (call.word(), call.word());
    call.close_seq(file);
    Ok(0)
}

fn open_private(call: &mut Call<'_>, file: u64, operations: u64, size: i32) -> Done {
    let private = call.kmalloc(u64::try_from(size).unwrap_or(0))?;
    if private == 0 {
        return Ok(0);
    }
    call.open_seq(file, operations, 0, private)?;
    Ok(private)
}

impl Call<'_> {
    /// Gives an open file its `struct seq_file`: the address of that.
    pub(crate) fn open_seq(&mut self, file: u64, operations: u64, show: u64, private: u64) -> Done {
        let layout = &self.machine.layout.seq_file;
        let Some(seq) = self.machine.kernel_object("seq file", layout.size) else { return Ok(0) };
        self.machine.write_word(seq + layout.op, operations);
        self.machine.write_word(seq + layout.file, file);
        self.machine.write_word(seq + layout.private, private);
        // `seq_has_overflowed()` compares the two.
        self.machine.write_word(seq + layout.buf_size, TEXT_MAX as u64);
        self.machine.write_word(file.wrapping_add(self.machine.layout.file.private_data), seq);
        self.machine.state.seqs.insert(seq, Seq { show, ..Seq::default() });
        Ok(seq)
    }

    fn close_seq(&mut self, file: u64) {
        let seq = self.machine.read_word(file.wrapping_add(self.machine.layout.file.private_data));
        self.machine.close_seq(seq);
    }

    fn append(&mut self, seq: u64, bytes: &[u8]) {
        let Some(open) = self.machine.state.seqs.get_mut(&seq) else { return };
        let room = TEXT_MAX - open.text.len();
        open.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        let count = open.text.len() as u64;
        self.machine.write_word(seq.wrapping_add(self.machine.layout.seq_file.count), count);
    }

    /// Text at a position of an open file; made when it is first read, and again when it is read from the start.
    pub(crate) fn read_seq(
        &mut self,
        file: u64,
        pos: i64,
        size: u64,
    ) -> Result<Vec<u8>, crate::report::Stop> {
        let seq = self.machine.read_word(file.wrapping_add(self.machine.layout.file.private_data));
        let Some(open) = self.machine.state.seqs.get_mut(&seq) else { return Err(self.bad_pointer(seq)) };
        if !open.complete || pos == 0 {
            (open.complete, open.text) = (true, Vec::new());
            let show = open.show;
            if show == 0 {
                self.traverse(seq)?
            } else {
                self.call_guest(show, &[seq, START_TOKEN])?
            };
        }
        let text = self.machine.state.seqs.get(&seq).map_or(&[][..], |open| &open.text);
        let start = usize::try_from(pos).unwrap_or(usize::MAX).min(text.len());
        let rest = text.get(start..).unwrap_or_default();
        Ok(rest
            .get(..rest.len().min(usize::try_from(size).unwrap_or(usize::MAX)))
            .unwrap_or_default()
            .to_vec())
    }

    fn traverse(&mut self, seq: u64) -> Done {
        let size = self.machine.layout.pointer;
        let place = seq.wrapping_add(self.machine.layout.seq_file.index);
        let operations = self.machine.read_word(seq.wrapping_add(self.machine.layout.seq_file.op));
        let operation = |machine: &Machine, n: u64| machine.read_word(operations.wrapping_add(n * size));
        let (start, stop) = (operation(self.machine, 0), operation(self.machine, 1));
        let (next, show) = (operation(self.machine, 2), operation(self.machine, 3));
        let _ = self.machine.cpu.write(place, &[0; 8]);
        let mut element = self.call_guest(start, &[seq, place])?;
        for _ in 0..ELEMENTS_MAX {
            // NULL or an error ends the list.
            if element == 0 || element > self.machine.word(u64::MAX) - 4095 {
                break;
            }
            let shown = self.call_guest(show, &[seq, element])? as u32;
            if shown.cast_signed() < 0 {
                break;
            }
            element = self.call_guest(next, &[seq, element, place])?;
        }
        self.call_guest(stop, &[seq, element])?;
        Ok(int(0))
    }
}

impl Machine {
    pub(crate) fn close_seq(&mut self, seq: u64) {
        if self.state.seqs.remove(&seq).is_some() {
            self.heap.free_kernel(seq);
        }
    }
}
