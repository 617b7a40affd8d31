//! Parameters: `parm=NAME:DESCRIPTION` and `parmtype=NAME:TYPE` brought together.

use std::collections::BTreeMap;

/// Parameters by name, in the order in which they are first named.
#[derive(Default)]
pub(super) struct Params<'a> {
    list: Vec<Param<'a>>,
    /// Place in the list; a search would take the square of what a hostile file holds.
    places: BTreeMap<&'a [u8], usize>,
}

/// One parameter.
pub(super) struct Param<'a> {
    pub(super) name: &'a [u8],
    pub(super) description: Option<&'a [u8]>,
    pub(super) kind: Option<&'a [u8]>,
}

impl<'a> Params<'a> {
    /// Takes in a string of modinfo. False if it names no parameter.
    pub(super) fn add(&mut self, key: &[u8], value: &'a [u8]) -> bool {
        let Some(colon) = value.iter().position(|&byte| byte == b':') else { return false };
        let (name, rest) = value.split_at(colon);
        let text = rest.get(1..);
        let place = *self.places.entry(name).or_insert_with(|| {
            self.list.push(Param { name, description: None, kind: None });
            self.list.len() - 1
        });
        if let Some(param) = self.list.get_mut(place) {
            if key == b"parm" {
                param.description = text;
            } else {
                param.kind = text;
            }
        }
        true
    }

    /// The last that was named first: the compiler puts the strings of a source file in reverse.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Param<'a>> {
        self.list.iter().rev()
    }
}

impl Param<'_> {
    /// Among other fields: `NAME:DESCRIPTION (TYPE)`, and `NAME:TYPE` without a description.
    pub(super) fn line(&self) -> Vec<u8> {
        match (self.description, self.kind) {
            (None, kind) => [self.name, b":", kind.unwrap_or(b"")].concat(),
            _ => self.field_line(),
        }
    }

    /// Alone: as [`Param::line`], but `NAME: (TYPE)` without a description.
    pub(super) fn field_line(&self) -> Vec<u8> {
        let description = self.description.unwrap_or(b"");
        match self.kind {
            Some(kind) => [self.name, b":", description, b" (", kind, b")"].concat(),
            None => [self.name, b":", description].concat(),
        }
    }
}
