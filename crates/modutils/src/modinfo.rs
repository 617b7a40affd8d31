//! `modinfo`: what module files say of themselves.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lkm_module::Errno;
use lkm_module::signature::SignerInfo;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::getopt::Opt;
use crate::getopt::Spec;
use crate::module_name;
use crate::path::base_name;
use crate::path::is_module_file_name;
use crate::sparse::Source;

mod json;
mod params;

use params::Params;

const JSON: u8 = 1;

pub(crate) const COMMAND: Command = Command {
    name: "modinfo",
    about: "show what a module says of itself",
    synopsis: &["[options] filename ..."],
    description: "Prints what modules say of themselves: author, licence, description, dependencies, parameters, signature.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[Spec] = &[
    Spec::flag(b'a', "author", "print only 'author'"),
    Spec::flag(b'd', "description", "print only 'description'"),
    Spec::flag(b'l', "license", "print only 'license'"),
    Spec::flag(b'p', "parameters", "print only 'parm'"),
    Spec::flag(b'n', "filename", "print only 'filename'"),
    Spec::flag(b'0', "null", "end each value with a zero byte, not a newline"),
    Spec::with_value(b'F', "field", "FIELD", "print only this field"),
    Spec::flag(JSON, "json", "a JSON array with an object for each file").only_long(),
    command::VERSION,
    command::HELP,
];

/// What is printed and how.
#[derive(Clone, Copy)]
struct Request<'a> {
    /// The only field that is wanted.
    field: Option<&'a [u8]>,
    /// Ends each value.
    separator: u8,
}

/// A field with its value.
type Field<'a> = (&'a [u8], Cow<'a, [u8]>);

pub(crate) fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let mut request = Request { field: None, separator: b'\n' };
    let mut json = false;
    let parsed = match COMMAND.parse(context, args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    for Opt { key, value } in parsed.options {
        match key {
            b'a' => request.field = Some(b"author"),
            b'd' => request.field = Some(b"description"),
            b'l' => request.field = Some(b"license"),
            b'p' => request.field = Some(b"parm"),
            b'n' => request.field = Some(b"filename"),
            b'F' => request.field = Some(value.as_bytes()),
            b'0' => request.separator = 0,
            _ => json = true,
        }
    }
    let files = parsed.operands;
    if files.is_empty() {
        context.error(&[b"missing module or filename."]);
        return 1;
    }
    let mut objects = Vec::new();
    let mut code = 0;
    for file in files {
        let is_file = std::fs::metadata(file).is_ok_and(|kind| kind.is_file());
        if !is_file || !is_module_file_name(file.as_bytes()) {
            context.error(&[b"Module ", file.as_bytes(), b" not found."]);
            code = 1;
            continue;
        }
        let result = if json {
            json::describe(context, file, request).map(|object| objects.push(object))
        } else {
            print(context, file, request)
        };
        if let Err(errno) = result {
            let name = module_name(base_name(file.as_bytes()));
            context.error(&[b"could not get modinfo from '", &name, b"': ", errno.text().as_bytes()]);
            code = 1;
        }
    }
    if json {
        context.print(json::text(&objects).as_bytes());
    }
    code
}

fn print(context: &mut Context<'_>, file: &OsStr, request: Request<'_>) -> Result<(), Errno> {
    let Request { field, separator } = request;
    let end = &[separator][..];
    let path = absolute(file);
    if field == Some(b"filename") {
        context.print(&[&path, end].concat());
        return Ok(());
    }
    if field.is_none() {
        context.print(&[b"filename:       ", &path[..], end].concat());
    }
    let source = open(file, field)?;
    let fields = fields(&source, field)?;
    let mut params = Params::default();
    for (key, value) in &fields {
        let wants_params = field.is_none() || field == Some(b"parm");
        if wants_params && (*key == b"parm" || *key == b"parmtype") {
            if !params.add(key, value) {
                context.error(&[b"Found invalid \"", key, b"=", value, b"\": missing ':'"]);
            }
        } else if field.is_some() {
            if field == Some(key) {
                context.print(&[value, end].concat());
            }
        } else if separator == 0 {
            context.print(&[key, &b"="[..], value, end].concat());
        } else {
            // A negative width means its absolute value: a longer key than 15 is followed by blanks again.
            let blanks = vec![b' '; key.len().abs_diff(15)];
            context.print(&[key, &b":"[..], &blanks, value, end].concat());
        }
    }
    for param in params.iter() {
        let line = match field {
            None => [&b"parm:           "[..], &param.line()].concat(),
            Some(_) => param.field_line(),
        };
        context.print(&[&line, end].concat());
    }
    Ok(())
}

/// Reads of a file what the field is found in.
fn open(file: &OsStr, field: Option<&[u8]>) -> Result<Source, Errno> {
    let mut source = Source::open(Path::new(file))?;
    source.read_modinfo()?;
    if field.is_none_or(is_signature_field) {
        source.read_signature()?;
    }
    Ok(source)
}

/// The fields in their order: those of `.modinfo`, then those of the signature, if one of them is wanted.
fn fields<'a>(source: &'a Source, field: Option<&[u8]>) -> Result<Vec<Field<'a>>, Errno> {
    let tags = source.modinfo()?.iter();
    let mut fields: Vec<Field<'a>> =
        tags.map(|tag| (tag.name, Cow::Borrowed(tag.value.unwrap_or(b"")))).collect();
    if field.is_none_or(is_signature_field)
        && let Some(signer) = source.signer()
    {
        fields.extend(signature_fields(&signer));
    }
    Ok(fields)
}

fn is_signature_field(field: &[u8]) -> bool {
    [&b"sig_id"[..], b"signer", b"sig_key", b"sig_hashalgo", b"signature"].contains(&field)
}

fn signature_fields<'a>(signer: &SignerInfo<'a>) -> [Field<'a>; 5] {
    // The number of a certificate is positive; a zero byte only says so where its first bit is set.
    let serial = signer.serial.map(|serial| match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    });
    let key = serial.or(signer.skid).unwrap_or(b"");
    [
        (b"sig_id", Cow::Borrowed(b"PKCS#7")),
        (b"signer", Cow::Borrowed(signer.issuer_cn.unwrap_or(b""))),
        (b"sig_key", Cow::Owned(hex(key))),
        (b"sig_hashalgo", Cow::Owned(signer.digest.to_string().into_bytes())),
        (b"signature", Cow::Owned(hex(signer.signature))),
    ]
}

/// Bytes in hexadecimal with colons between them, 20 on a line.
fn hex(bytes: &[u8]) -> Vec<u8> {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' - 10 + value };
    let mut text = Vec::with_capacity(bytes.len() * 3 + bytes.len() / 20 * 3);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            text.push(b':');
            if at % 20 == 0 {
                text.extend_from_slice(b"\n\t\t");
            }
        }
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

/// The path from the root, with what the user wrote at its end.
fn absolute(file: &OsStr) -> Vec<u8> {
    let file = file.as_bytes();
    if file.starts_with(b"/") {
        return file.to_vec();
    }
    match std::env::current_dir() {
        Ok(directory) => [directory.as_os_str().as_bytes(), b"/", file].concat(),
        Err(_) => file.to_vec(),
    }
}
