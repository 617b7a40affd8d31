//! The same as JSON: an object for each file, every field but the file's name an array, because each may occur more
//! than once. Bytes that are not UTF-8 become U+FFFD.

use std::collections::BTreeMap;

use lkm_module::Errno;
use serde::Serialize;

use super::KernelDirectory;
use super::Request;
use super::Subject;
use super::params::Params;
use crate::Context;

#[derive(Serialize)]
pub(super) struct Object {
    /// Only of what is part of the kernel; modules have their names among their fields.
    #[serde(rename = "builtin", skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(flatten)]
    fields: BTreeMap<String, Vec<String>>,
    #[serde(rename = "parm", skip_serializing_if = "Vec::is_empty")]
    params: Vec<Parameter>,
}

#[derive(Serialize)]
struct Parameter {
    name: String,
    description: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

pub(super) fn describe(
    context: &mut Context<'_>,
    kernel: &KernelDirectory,
    subject: &Subject,
    request: Request<'_>,
) -> Result<Object, Errno> {
    let field = request.field;
    let filename = field.is_none_or(|field| field == b"filename").then(|| string(subject.filename()));
    let name = match subject {
        Subject::Builtin { name } if field.is_none() => Some(string(name)),
        _ => None,
    };
    let mut object = Object { name, filename, fields: BTreeMap::new(), params: Vec::new() };
    if field == Some(b"filename") {
        return Ok(object);
    }
    let source = subject.open(kernel, field)?;
    let mut params = Params::default();
    let all = source.fields(field)?;
    for (key, value) in &all {
        let is_param = *key == b"parm" || *key == b"parmtype";
        if is_param && field.is_none_or(|field| field == b"parm") {
            if !params.add(key, value) {
                context.error(&[b"Found invalid \"", key, b"=", value, b"\": missing ':'"]);
            }
        } else if field.is_none_or(|field| field == *key) {
            // The line breaks of the printed form are no part of a value.
            let text = if *key == b"signature" { string(value).replace("\n\t\t", "") } else { string(value) };
            object.fields.entry(string(key)).or_default().push(text);
        }
    }
    object.params = params
        .iter()
        .map(|param| Parameter {
            name: string(param.name),
            description: param.description.map(string),
            kind: param.kind.map(string),
        })
        .collect();
    Ok(object)
}

pub(super) fn text(objects: &[Object]) -> String {
    serde_json::to_string_pretty(objects).unwrap_or_default() + "\n"
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
