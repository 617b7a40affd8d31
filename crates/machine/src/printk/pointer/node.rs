//! Nodes of the device tree and what stands for them in general: `%pOF`, `%pfw`.

use super::super::DeviceTree;
use super::super::render::read_string;
use super::Environment;
use super::Field;
use super::Output;
use super::Style;
use super::bad_pointer;
use super::number;
use super::read;
use super::read_pointer;
use super::unreadable;

/// Nodes on a path, and properties of a node, that are looked at: more than any tree has, so that one that leads back to
/// itself ends.
const NODES_MAX: usize = 256;
/// Bytes of a name, and of a list of strings.
const NAME: usize = 1024;
const LIST: usize = 4096;

/// A `struct fwnode_handle` by who answers for it.
#[derive(Clone, Copy)]
enum Owner {
    /// The device tree; the `struct device_node` that it is in.
    Tree(DeviceTree, u64),
    /// Nobody: it has no functions, or not the one for names.
    None,
    /// Functions that a real kernel would call.
    Other,
}

fn owner(fwnode: u64, environment: &dyn Environment) -> Option<Owner> {
    let structures = environment.structures();
    let operations = read_pointer(fwnode.wrapping_add(structures.fwnode_operations), environment)?;
    if operations == 0 {
        return Some(Owner::None);
    }
    if let Some(tree) = structures.device_tree
        && environment.is_device_tree(operations)
    {
        return Some(Owner::Tree(tree, fwnode.wrapping_sub(tree.fwnode)));
    }
    let name = read_pointer(operations.wrapping_add(structures.fwnode_get_name), environment)?;
    let prefix = read_pointer(operations.wrapping_add(structures.fwnode_get_name_prefix), environment)?;
    Some(if name == 0 && prefix == 0 { Owner::None } else { Owner::Other })
}

/// `kbasename(full_name)` of a node and where it stands.
fn base_name(node: u64, tree: &DeviceTree, environment: &dyn Environment) -> Option<(u64, Vec<u8>)> {
    let at = read_pointer(node.wrapping_add(tree.full_name), environment)?;
    let name = read_string(at, NAME, NAME, environment)?;
    let start = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    Some((at.wrapping_add(start as u64), name.get(start..)?.to_vec()))
}

/// The names from the root to the node, with the slash before each but the root's.
fn path(node: u64, tree: &DeviceTree, environment: &dyn Environment) -> Option<Vec<u8>> {
    let mut names = Vec::new();
    let mut here = node;
    while here != 0 && names.len() < NODES_MAX {
        names.push(base_name(here, tree, environment)?.1);
        here = read_pointer(here.wrapping_add(tree.parent), environment)?;
    }
    names.reverse();
    Some(names.join(&b'/'))
}

/// Name and where it stands (0 for nowhere), or the whole path.
fn name(fwnode: u64, whole: bool, environment: &dyn Environment) -> Option<(u64, Vec<u8>)> {
    Some(match owner(fwnode, environment)? {
        Owner::Tree(tree, node) if whole => (0, path(node, &tree, environment)?),
        Owner::Tree(tree, node) => base_name(node, &tree, environment)?,
        // Without functions there are neither prefix nor name.
        Owner::None if whole => (0, b"(null)(null)".to_vec()),
        Owner::None => (0, b"(null)".to_vec()),
        Owner::Other => (0, b"(%pfw?)".to_vec()),
    })
}

/// `%pfw` with f for the path (also without a letter), P for the name.
pub(super) fn firmware_node(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    let whole = extension.get(2) != Some(&b'P');
    match name(at, whole, environment) {
        Some((_, text)) if whole => Field { precision: -1, ..field }.text(out, &text),
        Some((_, text)) => field.text(out, &text),
        None => unreadable(out, field),
    }
}

/// `%pOF` with f, n, p, P, c, C, F for the parts.
pub(super) fn device_node(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    let Some(tree) = environment.structures().device_tree else { return };
    let letters = extension.get(2..).unwrap_or_default();
    let known = letters.iter().take_while(|letter| b"fnpPFcC".contains(letter)).count();
    let letters = if known == 0 { b"f" } else { letters.get(..known).unwrap_or_default() };
    // Parts are cut by the precision, the width is that of the whole.
    let piece = Field { width: -1, ..field };
    let mut whole = Output::new(out.limit());
    for (n, letter) in letters.iter().enumerate() {
        if n > 0 {
            whole.push(b':');
        }
        if part(&mut whole, at, *letter, &tree, piece, environment).is_none() {
            return unreadable(out, field);
        }
    }
    Field { precision: -1, ..field }.text(out, whole.bytes());
}

fn part(
    out: &mut Output,
    node: u64,
    letter: u8,
    tree: &DeviceTree,
    field: Field,
    environment: &dyn Environment,
) -> Option<()> {
    let fwnode = node.wrapping_add(tree.fwnode);
    match letter {
        b'f' => out.extend(&name(fwnode, true, environment)?.1),
        b'n' => {
            let (_, mut text) = name(fwnode, false, environment)?;
            text.truncate(text.iter().position(|&byte| byte == b'@').unwrap_or(text.len()));
            out.extend(&text);
        }
        b'p' => {
            let handle = u32::from_le_bytes(read(node.wrapping_add(tree.phandle), environment)?);
            number(out, u64::from(handle), false, false, Style::DECIMAL);
        }
        b'P' => {
            let (at, text) = name(fwnode, false, environment)?;
            // The kernel takes a name whose second byte is a NUL for the root's, and looks there even if the first is one.
            let root = match text.len() {
                0 => at == 0 || read(at.wrapping_add(1), environment) == Some([0]),
                length => length == 1,
            };
            field.text(out, if root { b"/" } else { &text });
        }
        b'F' => {
            let flags = read_pointer(node.wrapping_add(tree.flags), environment)?;
            let letters = [(1, b'D'), (2, b'd'), (3, b'P'), (4, b'B')];
            let text = letters.map(|(bit, letter)| if flags >> bit & 1 != 0 { letter } else { b'-' });
            field.text(out, &text);
        }
        b'c' => {
            let Some(list) = compatible(node, tree, environment)? else { return Some(()) };
            // Nothing is printed unless the string ends within the property.
            if let Some(end) =
                list.bytes.get(..list.length).and_then(|list| list.iter().position(|&byte| byte == 0))
            {
                field.text(out, list.bytes.get(..end)?);
            }
        }
        _ => {
            let Some(list) = compatible(node, tree, environment)? else { return Some(()) };
            let mut start = 0;
            loop {
                if start > 0 {
                    field.text(out, b",");
                }
                let rest = list.bytes.get(start..).unwrap_or_default();
                let text = rest.split(|&byte| byte == 0).next().unwrap_or_default();
                field.text(out, b"\"");
                field.text(out, text);
                field.text(out, b"\"");
                start += text.len() + 1;
                if start >= list.length {
                    break;
                }
            }
        }
    }
    Some(())
}

/// The value of a property.
struct List {
    /// Its bytes and, as strings may reach beyond it, those behind.
    bytes: Vec<u8>,
    /// Its length as the property tells it.
    length: usize,
}

/// The property `compatible`; inner `None` if the node has none or it has no value.
fn compatible(node: u64, tree: &DeviceTree, environment: &dyn Environment) -> Option<Option<List>> {
    let mut here = read_pointer(node.wrapping_add(tree.properties), environment)?;
    for _ in 0..NODES_MAX {
        if here == 0 {
            break;
        }
        let name = read_pointer(here.wrapping_add(tree.property_name), environment)?;
        if bad_pointer(name, environment).is_none()
            && read_string(name, NAME, NAME, environment)? == b"compatible"
        {
            let length = u32::from_le_bytes(read(here.wrapping_add(tree.property_length), environment)?);
            let value = read_pointer(here.wrapping_add(tree.property_value), environment)?;
            if value == 0 {
                return Some(None);
            }
            let length = usize::try_from(length).ok()?.min(LIST);
            let mut bytes = vec![0; length];
            environment.read(value, &mut bytes).then_some(())?;
            if bytes.last() != Some(&0) {
                let behind = value.wrapping_add(length as u64);
                bytes.extend(read_string(behind, NAME, NAME, environment)?);
            }
            return Some(Some(List { bytes, length }));
        }
        here = read_pointer(here.wrapping_add(tree.property_next), environment)?;
    }
    Some(None)
}
