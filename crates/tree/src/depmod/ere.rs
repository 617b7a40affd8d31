//! Extended regular expressions (POSIX 9.4), as far as lines of `depmod.d` use them to say for which kernels they are.
//!
//! Whether a pattern is somewhere in a text, in time proportional to the product of their lengths. Back-references and
//! GNU's `\<`, `\>`, `\b`, `\B` are not known; a pattern with one is none.

/// Instructions of a compiled pattern; `a{9}{9}{9}{9}` and the like stop here.
const LIMIT: usize = 4096;
/// Groups in groups.
const DEPTH: usize = 64;

/// A pattern, compiled.
#[derive(Clone, Debug)]
pub(super) struct Ere {
    program: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A byte of this set.
    Byte(Box<Set>),
    /// Only at the start of the text.
    Start,
    /// Only at its end.
    End,
    /// Go on at either.
    Either(usize, usize),
    Done,
}

type Set = [bool; 256];

/// A pattern taken apart.
#[derive(Clone)]
enum Node {
    Nothing,
    Set(Box<Set>),
    Start,
    End,
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    /// At least and at most so often.
    Repeat(Box<Node>, usize, Option<usize>),
}

impl Ere {
    /// `None` if it is not a pattern.
    pub(super) fn new(pattern: &[u8]) -> Option<Ere> {
        let mut parser = Parser { rest: pattern, depth: 0 };
        let node = parser.choice()?;
        if !parser.rest.is_empty() {
            return None;
        }
        let mut program = Vec::new();
        emit(&node, &mut program)?;
        program.push(Step::Done);
        Some(Ere { program })
    }

    /// Whether some part of the text is what the pattern says.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let mut now = vec![false; self.program.len()];
        let mut next = now.clone();
        for position in 0..=text.len() {
            // A match may begin anywhere.
            if self.reach(0, position, text, &mut now) {
                return true;
            }
            let Some(byte) = text.get(position) else { break };
            next.fill(false);
            for (index, step) in self.program.iter().enumerate() {
                if let Step::Byte(set) = step
                    && now.get(index) == Some(&true)
                    && set.get(usize::from(*byte)) == Some(&true)
                    && self.reach(index + 1, position + 1, text, &mut next)
                {
                    return true;
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        false
    }

    /// Marks the steps that can be reached without a byte. True if the end is one.
    fn reach(&self, start: usize, position: usize, text: &[u8], marks: &mut [bool]) -> bool {
        let mut todo = vec![start];
        while let Some(index) = todo.pop() {
            match marks.get_mut(index) {
                Some(mark) if !*mark => *mark = true,
                _ => continue,
            }
            match self.program.get(index) {
                Some(Step::Done) => return true,
                Some(Step::Either(a, b)) => todo.extend([*a, *b]),
                Some(Step::Start) if position == 0 => todo.push(index + 1),
                Some(Step::End) if position == text.len() => todo.push(index + 1),
                _ => {}
            }
        }
        false
    }
}

fn emit(node: &Node, program: &mut Vec<Step>) -> Option<()> {
    if program.len() > LIMIT {
        return None;
    }
    match node {
        Node::Nothing => {}
        Node::Set(set) => program.push(Step::Byte(set.clone())),
        Node::Start => program.push(Step::Start),
        Node::End => program.push(Step::End),
        Node::Sequence(nodes) => {
            for node in nodes {
                emit(node, program)?;
            }
        }
        Node::Choice(nodes) => {
            let mut ends = Vec::new();
            for (index, node) in nodes.iter().enumerate() {
                let split = program.len();
                if index + 1 < nodes.len() {
                    program.push(Step::Either(split + 1, 0));
                }
                emit(node, program)?;
                if index + 1 < nodes.len() {
                    ends.push(program.len());
                    program.push(Step::Either(0, 0));
                    let here = program.len();
                    if let Some(Step::Either(_, other)) = program.get_mut(split) {
                        *other = here;
                    }
                }
            }
            let here = program.len();
            for end in ends {
                if let Some(step) = program.get_mut(end) {
                    *step = Step::Either(here, here);
                }
            }
        }
        Node::Repeat(node, least, most) => {
            for _ in 0..*least {
                emit(node, program)?;
            }
            match most {
                None => {
                    let split = program.len();
                    program.push(Step::Either(split + 1, 0));
                    emit(node, program)?;
                    program.push(Step::Either(split, split));
                    let here = program.len();
                    if let Some(Step::Either(_, other)) = program.get_mut(split) {
                        *other = here;
                    }
                }
                Some(most) => {
                    let mut splits = Vec::new();
                    for _ in *least..*most {
                        splits.push(program.len());
                        program.push(Step::Either(program.len() + 1, 0));
                        emit(node, program)?;
                    }
                    let here = program.len();
                    for split in splits {
                        if let Some(Step::Either(_, other)) = program.get_mut(split) {
                            *other = here;
                        }
                    }
                }
            }
        }
    }
    (program.len() <= LIMIT).then_some(())
}

struct Parser<'a> {
    rest: &'a [u8],
    depth: usize,
}

fn one(byte: u8) -> Node {
    set(|other| other == byte)
}

fn set(contains: impl Fn(u8) -> bool) -> Node {
    let mut set = [false; 256];
    (0..=255).zip(&mut set).for_each(|(byte, mark)| *mark = contains(byte));
    Node::Set(Box::new(set))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 11
}

impl Parser<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.strip_prefix(&[byte]) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn choice(&mut self) -> Option<Node> {
        let mut nodes = vec![self.sequence()?];
        while self.eat(b'|') {
            nodes.push(self.sequence()?);
        }
        if nodes.len() == 1 { nodes.pop() } else { Some(Node::Choice(nodes)) }
    }

    fn sequence(&mut self) -> Option<Node> {
        let mut nodes = Vec::new();
        while let Some(&byte) = self.rest.first() {
            // Outside of a group a `)` is an ordinary character.
            if byte == b'|' || (byte == b')' && self.depth > 0) {
                break;
            }
            let mut node = self.atom()?;
            while let Some((least, most)) = self.times()? {
                node = Node::Repeat(Box::new(node), least, most);
            }
            nodes.push(node);
        }
        Some(if nodes.is_empty() { Node::Nothing } else { Node::Sequence(nodes) })
    }

    fn atom(&mut self) -> Option<Node> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match byte {
            b'^' => Node::Start,
            b'$' => Node::End,
            b'.' => set(|byte| byte != 0),
            b'[' => self.bracket()?,
            b'(' => {
                self.depth += 1;
                if self.depth > DEPTH {
                    return None;
                }
                let node = self.choice()?;
                self.depth -= 1;
                self.eat(b')').then_some(node)?
            }
            b'*' | b'+' | b'?' | b'{' => return None,
            b'\\' => {
                let (&byte, rest) = self.rest.split_first()?;
                self.rest = rest;
                match byte {
                    b'w' => set(is_word),
                    b'W' => set(|byte| !is_word(byte)),
                    b's' => set(is_space),
                    b'S' => set(|byte| !is_space(byte)),
                    b'1'..=b'9' | b'<' | b'>' | b'b' | b'B' | b'`' | b'\'' => return None,
                    byte => one(byte),
                }
            }
            byte => one(byte),
        })
    }

    /// How often what stands before is to come; the inner `None` if nothing is said.
    #[allow(clippy::option_option)]
    fn times(&mut self) -> Option<Option<(usize, Option<usize>)>> {
        Some(Some(if self.eat(b'*') {
            (0, None)
        } else if self.eat(b'+') {
            (1, None)
        } else if self.eat(b'?') {
            (0, Some(1))
        } else if self.eat(b'{') {
            let least = self.number();
            let comma = self.eat(b',');
            let most = if comma { self.number() } else { least };
            let least = match least {
                Some(least) => least,
                None if comma => 0,
                None => return None,
            };
            if !self.eat(b'}') || most.is_some_and(|most| most < least) || least.max(most.unwrap_or(0)) > 255
            {
                return None;
            }
            (least, most)
        } else {
            return Some(None);
        }))
    }

    fn number(&mut self) -> Option<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(digits);
        self.rest = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn bracket(&mut self) -> Option<Node> {
        let inverted = self.eat(b'^');
        let mut set = Box::new([false; 256]);
        let mut first = true;
        loop {
            if !first && self.eat(b']') {
                break;
            }
            first = false;
            if let Some(rest) = self.rest.strip_prefix(b"[:") {
                let end = rest.windows(2).position(|pair| pair == b":]")?;
                let class = class(rest.get(..end)?)?;
                self.rest = rest.get(end + 2..)?;
                (0..=255).zip(set.iter_mut()).for_each(|(byte, mark)| *mark |= class(byte));
                continue;
            }
            let from = self.element()?;
            let mut to = from;
            if let [b'-', after, ..] = self.rest
                && *after != b']'
            {
                self.rest = self.rest.get(1..)?;
                to = self.element()?;
                if to < from {
                    return None;
                }
            }
            (0..=255).zip(set.iter_mut()).for_each(|(byte, mark)| *mark |= (from..=to).contains(&byte));
        }
        if inverted {
            set.iter_mut().for_each(|mark| *mark = !*mark);
        }
        Some(Node::Set(set))
    }

    /// A character in brackets, also as `[.x.]` or `[=x=]`.
    fn element(&mut self) -> Option<u8> {
        if let [b'[', kind @ (b'.' | b'='), byte, end, b']', rest @ ..] = self.rest
            && end == kind
        {
            self.rest = rest;
            return Some(*byte);
        }
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }
}

fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"space" => is_space,
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What `expr` of the C library says; `None` if the pattern is none.
    fn is_in(pattern: &str, text: &str) -> Option<bool> {
        Some(Ere::new(pattern.as_bytes())?.is_in(text.as_bytes()))
    }

    #[test]
    fn patterns_as_they_are_written() {
        let release = "6.1.0-56-amd64";
        for (pattern, expected) in [
            ("6.1", Some(true)),
            ("^6\\.1\\.", Some(true)),
            ("^5", Some(false)),
            ("amd64$", Some(true)),
            ("(arm|amd)64$", Some(true)),
            ("6\\.[0-9]+\\.0-[[:digit:]]{2}-", Some(true)),
            ("6\\.[0-9]+\\.0-[[:digit:]]{3,}-", Some(false)),
            ("[^[:alnum:].-]", Some(false)),
            ("[]6]", Some(true)),
            ("", Some(true)),
            ("()", Some(true)),
            ("x*", Some(true)),
            ("^(6|1|\\.|0|-)*amd", Some(false)),
            ("^(6|1|\\.|0|-|5)*amd", Some(true)),
            ("*", None),
            ("a{", None),
            ("[a", None),
            ("(a", None),
            ("a{2,1}", None),
            ("\\1", None),
            ("[z-a]", None),
            ("a)", Some(false)),
        ] {
            assert_eq!(is_in(pattern, release), expected, "{pattern}");
        }
    }

    #[test]
    fn the_same_as_grep() {
        let pieces =
            ["a", "b", ".", "[ab]", "[^a]", "(a|b)", "(ab)", "^", "$", "b{2}", "a{1,2}", "b{0,}", "\\."];
        let suffixes = ["", "*", "+", "?", "|", ""];
        let texts = ["", "a", "b", "ab", "ba", "aab", "abb", "bb", "a.b", "aa", "abab", "bab"];
        let mut state = 1_u32;
        let mut draw = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % bound
        };
        let mut compared = 0;
        for _ in 0..150 {
            let mut pattern = String::new();
            for _ in 0..1 + draw(4) {
                let piece = pieces[draw(pieces.len())];
                pattern += piece;
                if !matches!(piece, "^" | "$") && !piece.ends_with('}') {
                    pattern += suffixes[draw(suffixes.len())];
                }
            }
            let mut child = Command::new("grep")
                .args(["-nE", "-e", &pattern])
                .env("LC_ALL", "C")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::io::Write::write_all(
                &mut child.stdin.take().unwrap(),
                texts.map(|t| format!("{t}\n")).concat().as_bytes(),
            )
            .unwrap();
            let output = child.wait_with_output().unwrap();
            let theirs = String::from_utf8(output.stdout).unwrap();
            let lines: Vec<usize> =
                theirs.lines().map(|line| line.split_once(':').unwrap().0.parse().unwrap()).collect();
            for (index, text) in texts.iter().enumerate() {
                assert_eq!(
                    is_in(&pattern, text),
                    Some(lines.contains(&(index + 1))),
                    "{pattern} in '{text}'"
                );
                compared += 1;
            }
        }
        assert_eq!(compared, 150 * texts.len());
    }

    proptest! {
        #[test]
        fn any_pattern_comes_to_an_end(pattern in "[]a(){}|*+?.^$1,9\\[:-]{0,40}", text in "[a1]{0,60}") {
            is_in(&pattern, &text);
        }
    }
}
