//! The kernel's command line.

use super::Blacklist;
use super::Config;
use super::Options;
use super::Origin;
use super::Problem;
use super::named;
use super::push;

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Module,
    Parameter,
    Value,
    /// Something that is not for a module, up to the next blank outside of quotes.
    Ignored,
}

/// Adds what is for modules.
pub(super) fn add(config: &mut Config, text: &[u8]) {
    let mut state = State::Module;
    let mut quoted = false;
    let mut item = Item::at(0);
    // Past the end there is a blank, as it were, which ends the last item.
    for position in 0..=text.len() {
        let byte = text.get(position).copied().unwrap_or(b' ');
        // Most bytes are parts of words.
        if !matches!(byte, b'"' | b' ' | b'\t'..=b'\r' | b'.' | b'=') {
            continue;
        }
        match byte {
            b'"' => {
                quoted = !quoted;
                if quoted && state == State::Module && position == item.start {
                    item = Item { quote: true, ..Item::at(position + 1) };
                } else if state != State::Value {
                    state = State::Ignored;
                }
            }
            b' ' | b'\t'..=b'\r' => match (quoted, state) {
                (true, State::Value) => {}
                (true, _) => state = State::Ignored,
                (false, ended) => {
                    if matches!(ended, State::Parameter | State::Value) {
                        add_item(config, text, &item, position);
                    }
                    item = Item::at(position + 1);
                    state = State::Module;
                }
            },
            b'.' if state == State::Module => {
                item.dot = position;
                state = State::Parameter;
            }
            b'.' if state == State::Parameter => state = State::Ignored,
            b'=' if state == State::Parameter => {
                item.equals = Some(position);
                state = State::Value;
            }
            b'=' if state == State::Module => state = State::Ignored,
            _ => {}
        }
    }
}

/// Places in the command line.
struct Item {
    start: usize,
    /// Whether there is a `"` before it.
    quote: bool,
    dot: usize,
    equals: Option<usize>,
}

impl Item {
    fn at(start: usize) -> Item {
        Item { start, quote: false, dot: start, equals: None }
    }
}

fn add_item(config: &mut Config, text: &[u8], item: &Item, end: usize) {
    let part = |start: usize, end: usize| text.get(start..end).unwrap_or_default();
    let module = part(item.start, item.dot);
    let parameter = part(item.dot + 1, item.equals.unwrap_or(end));
    let quote: &[u8] = if item.quote { b"\"" } else { b"" };
    let value = item.equals.map(|equals| part(equals + 1, end));
    let origin = Origin::KernelCommandLine;
    if let (b"modprobe", b"blacklist", Some(value)) = (module, parameter, value) {
        for name in [quote, value].concat().split(|byte| *byte == b',').filter(|name| !name.is_empty()) {
            // What cannot be a name matches none either.
            let module = named(name).unwrap_or_else(|| name.into());
            push(&mut config.blacklist, Blacklist { module, origin: origin.clone() });
        }
        return;
    }
    let Some(name) = named(module) else {
        config.problems.push(Problem::BadModule(module.to_vec()));
        return;
    };
    // Without a quote to move, it is as it stands there.
    let moved;
    let options = match value {
        Some(value) if item.quote => {
            moved = [parameter, b"=", quote, value].concat();
            &moved
        }
        _ => part(item.dot + 1, end),
    };
    push(&mut config.options, Options::new(name, options, origin));
}
