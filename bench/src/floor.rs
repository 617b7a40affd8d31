//! The least that linking can cost: the same work for well-formed modules without looking at anything twice or
//! refusing anything. Not a linker that one may use: a damaged file makes it read and write anywhere.

use std::ptr;

use crate::memory::Pages;
use crate::tree::Exports;

const ALLOC: u64 = 2;
const NOBITS: u32 = 8;
const RELA: u32 = 4;
const REL: u32 = 9;
const SYMTAB: u32 = 2;

#[repr(C)]
struct Header {
    ident: [u8; 16],
    types: [u16; 2],
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    sizes: [u16; 4],
    shnum: u16,
    shstrndx: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    addr: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entsize: u64,
}

#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

#[repr(C)]
struct Rela {
    offset: u64,
    kind: u32,
    symbol: u32,
    addend: u64,
}

/// Lays out, copies and relocates a module for the address `base`.
///
/// # Safety
///
/// The file is a well-formed x86_64 module whose imports are all exported.
pub unsafe fn link(file: &[u8], exports: &Exports, base: u64) -> Option<Pages> {
    let start = file.as_ptr();
    // SAFETY: every offset and index below is as the caller vouches for.
    unsafe {
        let header = ptr::read_unaligned(start.cast::<Header>());
        let table = start.add(header.shoff as usize).cast::<Section>();
        let mut sections: Vec<Section> =
            (0..usize::from(header.shnum)).map(|index| ptr::read_unaligned(table.add(index))).collect();

        let mut size = 0;
        let mut symtab = 0;
        for (index, section) in sections.iter_mut().enumerate() {
            if section.kind == SYMTAB {
                symtab = index;
            }
            if section.flags & ALLOC != 0 {
                size = (size + section.align.max(1) - 1) & !(section.align.max(1) - 1);
                section.addr = base + size;
                size += section.size;
            }
        }
        let mut image = Pages::new(size as usize, false)?;
        let memory = image.as_mut_ptr();
        let place = |section: &Section| memory.add((section.addr - base) as usize);
        for section in sections.iter().filter(|section| section.flags & ALLOC != 0 && section.kind != NOBITS)
        {
            ptr::copy_nonoverlapping(
                start.add(section.offset as usize),
                place(section),
                section.size as usize,
            );
        }

        let strings = start.add(sections[sections[symtab].link as usize].offset as usize);
        let symbols = start.add(sections[symtab].offset as usize).cast::<Symbol>();
        let values: Vec<u64> = (0..sections[symtab].size as usize / size_of::<Symbol>())
            .map(|index| {
                let symbol = ptr::read_unaligned(symbols.add(index));
                match symbol.section {
                    0 => {
                        let name = strings.add(symbol.name as usize);
                        let length = libc::strlen(name.cast());
                        exports.get(std::slice::from_raw_parts(name, length)).copied().unwrap_or(0)
                    }
                    0xff00.. => symbol.value,
                    section => symbol.value + sections.get_unchecked(usize::from(section)).addr,
                }
            })
            .collect();

        for rela in sections.iter().filter(|section| section.kind == RELA) {
            let target = sections.get_unchecked(rela.info as usize);
            if target.flags & ALLOC == 0 {
                continue;
            }
            let entries = start.add(rela.offset as usize).cast::<Rela>();
            for index in 0..rela.size as usize / size_of::<Rela>() {
                let entry = ptr::read_unaligned(entries.add(index));
                let value = values.get_unchecked(entry.symbol as usize).wrapping_add(entry.addend);
                let at = place(target).add(entry.offset as usize);
                match entry.kind {
                    0 => {}
                    1 => ptr::write_unaligned(at.cast(), value),
                    24 => ptr::write_unaligned(at.cast(), value.wrapping_sub(target.addr + entry.offset)),
                    2 | 4 => {
                        ptr::write_unaligned(at.cast(), value.wrapping_sub(target.addr + entry.offset) as u32)
                    }
                    _ => ptr::write_unaligned(at.cast(), value as u32),
                }
            }
        }
        Some(image)
    }
}

#[repr(C)]
struct Header32 {
    ident: [u8; 16],
    types: [u16; 2],
    version: u32,
    entry: u32,
    phoff: u32,
    shoff: u32,
    flags: u32,
    sizes: [u16; 4],
    shnum: u16,
    shstrndx: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Section32 {
    name: u32,
    kind: u32,
    flags: u32,
    addr: u32,
    offset: u32,
    size: u32,
    link: u32,
    info: u32,
    align: u32,
    entsize: u32,
}

#[repr(C)]
struct Symbol32 {
    name: u32,
    value: u32,
    size: u32,
    info: u8,
    other: u8,
    section: u16,
}

/// The same for ARM, without veneers: everything is in reach.
///
/// # Safety
///
/// The file is a well-formed module for ARM whose imports are all exported.
pub unsafe fn link_arm(file: &[u8], exports: &Exports, base: u32) -> Option<Pages> {
    let start = file.as_ptr();
    // SAFETY: every offset and index below is as the caller vouches for.
    unsafe {
        let header = ptr::read_unaligned(start.cast::<Header32>());
        let table = start.add(header.shoff as usize).cast::<Section32>();
        let mut sections: Vec<Section32> =
            (0..usize::from(header.shnum)).map(|index| ptr::read_unaligned(table.add(index))).collect();

        let mut size = 0;
        let mut symtab = 0;
        for (index, section) in sections.iter_mut().enumerate() {
            if section.kind == SYMTAB {
                symtab = index;
            }
            if u64::from(section.flags) & ALLOC != 0 {
                size = (size + section.align.max(1) - 1) & !(section.align.max(1) - 1);
                section.addr = base + size;
                size += section.size;
            }
        }
        let mut image = Pages::new(size as usize, false)?;
        let memory = image.as_mut_ptr();
        let place = |section: &Section32| memory.add((section.addr - base) as usize);
        let loaded = |section: &&Section32| u64::from(section.flags) & ALLOC != 0 && section.kind != NOBITS;
        for section in sections.iter().filter(loaded) {
            let from = start.add(section.offset as usize);
            ptr::copy_nonoverlapping(from, place(section), section.size as usize);
        }

        let strings = start.add(sections[sections[symtab].link as usize].offset as usize);
        let symbols = start.add(sections[symtab].offset as usize).cast::<Symbol32>();
        let values: Vec<u32> = (0..sections[symtab].size as usize / size_of::<Symbol32>())
            .map(|index| {
                let symbol = ptr::read_unaligned(symbols.add(index));
                match symbol.section {
                    0 => {
                        let name = strings.add(symbol.name as usize);
                        let length = libc::strlen(name.cast());
                        exports.get(std::slice::from_raw_parts(name, length)).copied().unwrap_or(0) as u32
                    }
                    0xff00.. => symbol.value,
                    section => symbol.value.wrapping_add(sections.get_unchecked(usize::from(section)).addr),
                }
            })
            .collect();

        for rel in sections.iter().filter(|section| section.kind == REL) {
            let target = sections.get_unchecked(rel.info as usize);
            if u64::from(target.flags) & ALLOC == 0 {
                continue;
            }
            let entries = start.add(rel.offset as usize).cast::<[u32; 2]>();
            for index in 0..rel.size as usize / size_of::<[u32; 2]>() {
                let [offset, info] = ptr::read_unaligned(entries.add(index));
                let value = *values.get_unchecked((info >> 8) as usize);
                let at = place(target).add(offset as usize).cast::<u32>();
                let here = target.addr.wrapping_add(offset);
                let word = ptr::read_unaligned(at);
                let immediate = (word >> 4 & 0xf000 | word & 0xfff) as i16 as u32;
                let halved = |value: u32| word & 0xfff0_f000 | (value & 0xf000) << 4 | value & 0xfff;
                let word = match info & 0xff {
                    2 => word.wrapping_add(value),
                    3 => word.wrapping_add(value).wrapping_sub(here),
                    1 | 28 | 29 => {
                        let offset = ((word << 8) as i32 >> 6) as u32;
                        let offset = offset.wrapping_add(value).wrapping_sub(here);
                        word & 0xff00_0000 | offset >> 2 & 0x00ff_ffff
                    }
                    42 => {
                        let offset = ((word << 1) as i32 >> 1) as u32;
                        word & 0x8000_0000 | offset.wrapping_add(value).wrapping_sub(here) & 0x7fff_ffff
                    }
                    43 => halved(immediate.wrapping_add(value)),
                    44 => halved(immediate.wrapping_add(value) >> 16),
                    _ => continue,
                };
                ptr::write_unaligned(at, word);
            }
        }
        Some(image)
    }
}
