//! System calls in the guest, by way of its PID 1.

use std::time::Duration;

use lkm_link::Arch;

use super::Result;
use super::agent::Agent;
use super::qemu::Qemu;

/// Steps in a batch, as in the agent.
const STEPS: usize = 1024;
/// Bytes for data, as in the agent.
const DATA: usize = 16 << 20;
/// How long the kernel may take to boot or to load a module.
const LIMIT: Duration = Duration::from_secs(180);

/// Numbers of system calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) open: u64,
    pub(crate) write: u64,
    pub(crate) close: u64,
    pub(crate) mount: u64,
    pub(crate) getdents64: u64,
    pub(crate) syslog: u64,
    pub(crate) init_module: u64,
    pub(crate) delete_module: u64,
    pub(crate) finit_module: u64,
}

const X86_64: Numbers = Numbers {
    open: 2,
    write: 1,
    close: 3,
    mount: 165,
    getdents64: 217,
    syslog: 103,
    init_module: 175,
    delete_module: 176,
    finit_module: 313,
};

const ARM: Numbers = Numbers {
    open: 5,
    write: 4,
    close: 6,
    mount: 21,
    getdents64: 217,
    syslog: 103,
    init_module: 128,
    delete_module: 129,
    finit_module: 379,
};

/// The agent's own: reads a file descriptor until its end.
const READ_ALL: u64 = 0xffff_0001;

/// An argument of a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    Value(u64),
    /// The result of an earlier step of the batch.
    Result(usize),
}

#[derive(Debug)]
struct Step {
    number: u64,
    arguments: Vec<Argument>,
}

/// System calls to be done in one go, with their data.
#[derive(Debug)]
pub(crate) struct Batch {
    data_base: u64,
    steps: Vec<Step>,
    /// What the host writes into the data before the batch.
    data: Vec<u8>,
    /// Buffers to be read back start here and grow; `data` must stay below the first.
    answers: Vec<(u64, u64)>,
    next_answer: u64,
}

/// Input of a batch ends and answers start here.
const ANSWERS: u64 = 1 << 20;

impl Batch {
    /// Puts bytes into the guest's memory; their address.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Argument {
        let at = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        Argument::Value(self.data_base + at)
    }

    /// Puts a NUL-terminated text into the guest's memory; its address.
    pub(crate) fn text(&mut self, text: &str) -> Argument {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(&bytes)
    }

    /// A buffer for an answer: its number (for [`Answers::buffer`]) and address.
    pub(crate) fn buffer(&mut self, size: u64) -> (usize, Argument) {
        let at = self.next_answer;
        self.next_answer += size.next_multiple_of(8);
        self.answers.push((at, size));
        (self.answers.len() - 1, Argument::Value(self.data_base + at))
    }

    /// A system call; the index of its result.
    pub(crate) fn call(&mut self, number: u64, arguments: &[Argument]) -> usize {
        self.steps.push(Step { number, arguments: arguments.to_vec() });
        self.steps.len() - 1
    }

    /// Reads a whole file: index of the step whose result is its length or an error, and number of the buffer.
    pub(crate) fn read_file(&mut self, numbers: Numbers, path: &str, limit: u64) -> FileAnswer {
        let path = self.text(path);
        let open = self.call(numbers.open, &[path, Argument::Value(0), Argument::Value(0)]);
        let (buffer, address) = self.buffer(limit);
        let read = self.read_all(Argument::Result(open), address, limit);
        self.call(numbers.close, &[Argument::Result(open)]);
        FileAnswer { open, read, buffer }
    }

    /// Reads a file descriptor until its end; the index of the step whose result is the length.
    pub(crate) fn read_all(&mut self, fd: Argument, address: Argument, limit: u64) -> usize {
        self.call(READ_ALL, &[fd, address, Argument::Value(limit)])
    }

    /// There is room for `files` more files of `size` bytes.
    pub(crate) fn has_room(&self, files: usize, size: u64) -> bool {
        self.steps.len() + 3 * files <= STEPS && self.next_answer + size * files as u64 <= DATA as u64
    }
}

/// Where the answer to [`Batch::read_file`] is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileAnswer {
    open: usize,
    read: usize,
    buffer: usize,
}

/// What a batch brought.
#[derive(Debug)]
pub(crate) struct Answers {
    results: Vec<i64>,
    buffers: Vec<Vec<u8>>,
}

impl Answers {
    /// Result of a system call: as the kernel returned it, errors negative.
    pub(crate) fn result(&self, step: usize) -> i64 {
        self.results.get(step).copied().unwrap_or(i64::MIN)
    }

    /// The first `length` bytes of a buffer.
    pub(crate) fn buffer(&self, number: usize, length: i64) -> &[u8] {
        let bytes = self.buffers.get(number).map(Vec::as_slice).unwrap_or_default();
        bytes.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default()
    }

    /// A file's bytes, or the errno.
    pub(crate) fn file(&self, answer: FileAnswer) -> std::result::Result<&[u8], i64> {
        match (self.result(answer.open), self.result(answer.read)) {
            (error @ ..0, _) | (_, error @ ..0) => Err(-error),
            (_, length) => Ok(self.buffer(answer.buffer, length)),
        }
    }
}

/// A booted guest whose PID 1 waits at its label whenever this value is not in the middle of a call.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    pub(crate) qemu: Qemu,
    pub(crate) arch: Arch,
    agent: &'a Agent,
}

impl<'a> Guest<'a> {
    /// Lets the machine boot until PID 1 waits.
    pub(crate) fn boot(mut qemu: Qemu, arch: Arch, agent: &'a Agent) -> Result<Guest<'a>> {
        qemu.gdb.set_breakpoint(agent.stop)?;
        let booted = qemu.gdb.resume(LIMIT);
        let mut guest = Guest { qemu, arch, agent };
        booted.map_err(|error| format!("{error}; console:\n{}", guest.qemu.console()))?;
        if guest.program_counter()? != agent.stop {
            return Err("the guest stopped, but not in PID 1".into());
        }
        Ok(guest)
    }

    /// Numbers of the guest's system calls.
    pub(crate) fn numbers(&self) -> Numbers {
        match self.arch {
            Arch::X86_64 => X86_64,
            Arch::Arm => ARM,
        }
    }

    fn word(&self) -> usize {
        match self.arch {
            Arch::X86_64 => 8,
            Arch::Arm => 4,
        }
    }

    /// gdb's number of the program counter.
    fn pc_register(&self) -> u32 {
        match self.arch {
            Arch::X86_64 => 16,
            Arch::Arm => 15,
        }
    }

    /// Where the guest stands.
    pub(crate) fn program_counter(&mut self) -> Result<u64> {
        self.qemu.gdb.register(self.pc_register())
    }

    /// Argument `index` of the function whose first instruction the guest stands at.
    pub(crate) fn argument(&mut self, index: usize) -> Result<u64> {
        // rdi rsi rdx rcx r8 r9
        const X86: [u32; 6] = [5, 4, 3, 2, 8, 9];
        match (self.arch, index) {
            (Arch::X86_64, 0..6) => self.qemu.gdb.register(X86[index]),
            (Arch::Arm, 0..4) => self.qemu.gdb.register(index as u32),
            (Arch::Arm, _) => {
                let stack = self.qemu.gdb.register(13)?;
                let mut bytes = [0; 4];
                self.qemu.gdb.read(stack + 4 * (index as u64 - 4), &mut bytes)?;
                Ok(u64::from(u32::from_le_bytes(bytes)))
            }
            (Arch::X86_64, _) => Err("an argument on the stack".into()),
        }
    }

    /// An empty batch.
    pub(crate) fn batch(&self) -> Batch {
        let data_base = self.agent.mailbox + (self.word() * (1 + 9 * STEPS)) as u64;
        Batch { data_base, steps: Vec::new(), data: Vec::new(), answers: Vec::new(), next_answer: ANSWERS }
    }

    /// Runs a batch from start to end.
    pub(crate) fn run(&mut self, batch: &Batch) -> Result<Answers> {
        self.start(batch)?;
        self.go_on()?;
        self.finish(batch)
    }

    /// Writes a batch and makes the guest ready to run it with [`Guest::go_on`].
    pub(crate) fn start(&mut self, batch: &Batch) -> Result<()> {
        let word = self.word();
        if batch.steps.len() > STEPS || batch.data.len() as u64 > ANSWERS {
            return Err("the batch is too large".into());
        }
        let mut bytes = Vec::new();
        let mut push = |value: u64| bytes.extend_from_slice(&value.to_le_bytes()[..word]);
        push(batch.steps.len() as u64);
        for step in &batch.steps {
            push(step.number);
            let mut references = 0;
            for index in 0..6 {
                match step.arguments.get(index) {
                    Some(&Argument::Value(value)) => push(value),
                    Some(&Argument::Result(of)) => {
                        references |= 1 << index;
                        push(of as u64);
                    }
                    None => push(0),
                }
            }
            push(references);
            push(0);
        }
        self.qemu.gdb.write(self.agent.mailbox, &bytes)?;
        self.qemu.gdb.write(batch.data_base, &batch.data)?;
        let register = self.pc_register();
        self.qemu.gdb.set_register(register, self.agent.go, word)
    }

    /// Runs the guest to its next stop: a breakpoint in the kernel, or the end of the batch.
    pub(crate) fn go_on(&mut self) -> Result<u64> {
        if let Err(error) = self.qemu.gdb.resume(LIMIT) {
            let console = self.qemu.console();
            let start = console.len().saturating_sub(4000);
            return Err(format!("{error}; console:\n{}", console.get(start..).unwrap_or_default()).into());
        }
        self.program_counter()
    }

    /// The answers, once the guest stands at its label again.
    pub(crate) fn finish(&mut self, batch: &Batch) -> Result<Answers> {
        let at = self.program_counter()?;
        if at != self.agent.stop {
            return Err(format!("the guest stands at {at:#x} instead of its label").into());
        }
        let word = self.word();
        let size = (word * (1 + 9 * batch.steps.len())) as u64;
        let mailbox = self.qemu.qmp.read(self.agent.mailbox, size)?;
        let results = mailbox.get(word..).unwrap_or_default().chunks_exact(9 * word).map(|step| {
            let result = step.get(8 * word..).unwrap_or_default();
            match word {
                4 => i64::from(result.try_into().map_or(0, i32::from_le_bytes)),
                _ => result.try_into().map_or(0, i64::from_le_bytes),
            }
        });
        let results = results.collect();
        let mut buffers = Vec::new();
        if batch.next_answer > ANSWERS {
            let all = self.qemu.qmp.read(batch.data_base + ANSWERS, batch.next_answer - ANSWERS)?;
            for &(at, size) in &batch.answers {
                let start = (at - ANSWERS) as usize;
                buffers.push(all.get(start..start + size as usize).unwrap_or_default().to_vec());
            }
        }
        Ok(Answers { results, buffers })
    }

    /// It waits at its label.
    pub(crate) fn is_waiting(&self, program_counter: u64) -> bool {
        program_counter == self.agent.stop
    }
}
