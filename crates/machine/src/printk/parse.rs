/// A width or precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Not given.
    None,
    /// In the format.
    Given(i32),
    /// `*`: an `int` argument.
    Argument,
}

/// A length modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// `int`
    Int,
    /// `hh`
    Char,
    /// `h`
    Short,
    /// `l`
    Long,
    /// `ll`, `L`
    LongLong,
    /// `z`
    Size,
    /// `t`
    PtrDiff,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion<'f> {
    /// `%%`
    Percent,
    /// `%c`
    Char,
    /// `%s`
    String,
    /// `%d`, `%i`
    Signed,
    /// `%u`
    Unsigned,
    /// `%o`
    Octal,
    /// `%x`
    HexLower,
    /// `%X`
    HexUpper,
    /// `%p` with all letters (of Latin-1) and digits that follow.
    Pointer(&'f [u8]),
    /// A letter that the kernel refuses (`%n`, floating point), or the end of the format: nothing more is printed.
    Invalid(u8),
}

/// One conversion with what modifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec<'f> {
    /// `-`
    pub left: bool,
    /// `+`
    pub plus: bool,
    /// A space.
    pub space: bool,
    /// `#`
    pub special: bool,
    /// `0`
    pub zero: bool,
    /// Least width.
    pub width: Number,
    /// Precision.
    pub precision: Number,
    /// Length modifier.
    pub length: Length,
    /// What is printed.
    pub conversion: Conversion<'f>,
}

/// A piece of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'f> {
    /// Bytes to print as they are.
    Literal(&'f [u8]),
    /// A conversion.
    Spec(Spec<'f>),
}

/// The kernel's `isalnum()`, which knows Latin-1.
fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0xc0 && !matches!(byte, 0xd7 | 0xf7)
}

/// Iterator over the pieces of a format.
#[derive(Clone, Debug)]
pub struct Pieces<'f> {
    rest: &'f [u8],
}

/// Cuts a format into pieces. It ends at a NUL, if there is one.
pub fn parse(format: &[u8]) -> Pieces<'_> {
    let end = format.iter().position(|&byte| byte == 0).unwrap_or(format.len());
    Pieces { rest: format.get(..end).unwrap_or_default() }
}

impl<'f> Pieces<'f> {
    fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or(0)
    }

    fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Decimal digits as the kernel reads them: the value wraps.
    fn digits(&mut self) -> Option<i32> {
        self.peek().is_ascii_digit().then(|| {
            let mut value = 0_i32;
            while self.peek().is_ascii_digit() {
                value = value.wrapping_mul(10).wrapping_add(i32::from(self.peek() - b'0'));
                self.skip();
            }
            value
        })
    }

    fn number(&mut self) -> Number {
        if let Some(value) = self.digits() {
            return Number::Given(value);
        }
        if self.peek() == b'*' {
            self.skip();
            return Number::Argument;
        }
        Number::None
    }

    fn length(&mut self) -> Length {
        let first = self.peek();
        let length = match first {
            b'h' => Length::Short,
            b'l' => Length::Long,
            b'L' => Length::LongLong,
            b'z' => Length::Size,
            b't' => Length::PtrDiff,
            _ => return Length::Int,
        };
        self.skip();
        let twice = match length {
            Length::Short => Length::Char,
            Length::Long => Length::LongLong,
            _ => return length,
        };
        if self.peek() != first {
            return length;
        }
        self.skip();
        twice
    }

    fn spec(&mut self) -> Spec<'f> {
        let mut spec = Spec {
            left: false,
            plus: false,
            space: false,
            special: false,
            zero: false,
            width: Number::None,
            precision: Number::None,
            length: Length::Int,
            conversion: Conversion::Percent,
        };
        loop {
            match self.peek() {
                b'-' => spec.left = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.special = true,
                b'0' => spec.zero = true,
                _ => break,
            }
            self.skip();
        }
        spec.width = self.number();
        if self.peek() == b'.' {
            self.skip();
            // The kernel takes a lone point for no precision at all, where C takes it for zero.
            spec.precision = self.number();
        }
        spec.length = self.length();
        let letter = self.peek();
        self.skip();
        spec.conversion = match letter {
            b'%' => Conversion::Percent,
            b'c' => Conversion::Char,
            b's' => Conversion::String,
            b'd' | b'i' => Conversion::Signed,
            b'u' => Conversion::Unsigned,
            b'o' => Conversion::Octal,
            b'x' => Conversion::HexLower,
            b'X' => Conversion::HexUpper,
            b'p' => {
                let end =
                    self.rest.iter().position(|&byte| !is_alphanumeric(byte)).unwrap_or(self.rest.len());
                let (extension, rest) = self.rest.split_at(end);
                self.rest = rest;
                Conversion::Pointer(extension)
            }
            letter => {
                self.rest = &[];
                Conversion::Invalid(letter)
            }
        };
        spec
    }
}

impl<'f> Iterator for Pieces<'f> {
    type Item = Piece<'f>;

    fn next(&mut self) -> Option<Piece<'f>> {
        if self.rest.is_empty() {
            return None;
        }
        let literal = self.rest.iter().position(|&byte| byte == b'%').unwrap_or(self.rest.len());
        if literal > 0 {
            let (text, rest) = self.rest.split_at(literal);
            self.rest = rest;
            return Some(Piece::Literal(text));
        }
        self.skip();
        Some(Piece::Spec(self.spec()))
    }
}
