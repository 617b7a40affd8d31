//! `modinfo`: what module files say of themselves.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;
use lkm_module::signature::SignerInfo;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::explain;
use crate::explain::Attempt;
use crate::getopt::Opt;
use crate::getopt::Spec;
use crate::path::is_module_file_name;

mod json;
mod params;
mod subject;

use params::Params;
use subject::KernelDirectory;
use subject::Subject;

const JSON: u8 = 1;

pub(crate) const COMMAND: Command = Command {
    name: "modinfo",
    about: "show what a module says of itself",
    synopsis: &["[options] modulename|filename|alias ..."],
    description: "Prints what modules say of themselves: author, licence, description, dependencies, parameters, signature.

What is named is a file if there is one of that name that ends in .ko, .ko.gz, .ko.xz or .ko.zst, otherwise a module or an
alias, which is looked up in the indexes of the kernel's directory; an alias may stand for several modules. Of modules that
are part of the kernel it prints what modules.builtin.modinfo has.

Behind the message about a file or a name stand lines that begin with two blanks, cause: and try:, which explain it.

The exit code is 0 if everything that was named was found and read.",
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
    Spec::flag(b'm', "modname", "what is named are modules, not files or aliases"),
    Spec::with_value(
        b'k',
        "set-version",
        "VERSION",
        "the kernel's release, instead of that of the running one",
    ),
    Spec::with_value(b'b', "basedir", "DIR", "the directory that lib/modules is in, instead of /"),
    Spec::flag(JSON, "json", "a JSON array with an object for each module").only_long(),
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
    let (mut json, mut only_names) = (false, false);
    let (mut release, mut base) = (None, None);
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
            b'm' => only_names = true,
            b'k' => release = Some(value),
            b'b' => base = Some(value),
            _ => json = true,
        }
    }
    if parsed.operands.is_empty() {
        context.error(&[b"missing module or filename."]);
        return 1;
    }
    let kernel = KernelDirectory::new(directory(context, base, release));
    let mut objects = Vec::new();
    let mut code = 0;
    for given in parsed.operands {
        let is_file = || is_module_file_name(given.as_bytes()) && Path::new(given).is_file();
        let subjects = if !only_names && is_file() {
            vec![Subject::of_file(given)]
        } else {
            match kernel.find(given, only_names) {
                Ok(subjects) => subjects,
                Err(what) => {
                    context.error(&[what, b" ", given.as_bytes(), b" not found."]);
                    explain::refusal(context, Attempt::LookUp(given.as_bytes(), kernel.path()));
                    code = 1;
                    continue;
                }
            }
        };
        for subject in subjects {
            let result = if json {
                json::describe(context, &kernel, &subject, request).map(|object| objects.push(object))
            } else {
                print(context, &kernel, &subject, request)
            };
            if let Err(errno) = result {
                let text = errno.text().as_bytes();
                context.error(&[b"could not get modinfo from '", subject.name(), b"': ", text]);
                if let Subject::File { path, .. } = &subject {
                    explain::refusal(context, Attempt::Read(path, errno));
                }
                code = 1;
            }
        }
        if context.output_failed() {
            break;
        }
    }
    if json {
        context.print(json::text(&objects).as_bytes());
    }
    code
}

/// `BASE/lib/modules/RELEASE`, put together as text: `filename` shows it as it was given.
fn directory(context: &Context<'_>, base: Option<&OsStr>, release: Option<&OsStr>) -> PathBuf {
    let running;
    let release = match release {
        Some(release) => release.as_bytes(),
        None => {
            running = context.kernel.release();
            &running
        }
    };
    let directory = match base {
        Some(base) => [base.as_bytes(), b"/lib/modules/", release].concat(),
        None => [context.module_root.as_bytes(), b"/", release].concat(),
    };
    PathBuf::from(OsString::from_vec(absolute(&directory)))
}

fn print(
    context: &mut Context<'_>,
    kernel: &KernelDirectory,
    subject: &Subject,
    request: Request<'_>,
) -> Result<(), Errno> {
    let Request { field, separator } = request;
    let end = &[separator][..];
    if field == Some(b"filename") {
        context.print(&[subject.filename(), end].concat());
        return Ok(());
    }
    match (subject, field) {
        (Subject::Builtin { name }, None) => {
            context.print(&[b"name:           ", &name[..], end].concat());
        }
        (Subject::Builtin { name }, Some(b"name")) => context.print(&[name, end].concat()),
        _ => {}
    }
    if field.is_none() {
        context.print(&[b"filename:       ", subject.filename(), end].concat());
    }
    let source = subject.open(kernel, field)?;
    let mut params = Params::default();
    let fields = source.fields(field)?;
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

fn is_signature_field(field: &[u8]) -> bool {
    [&b"sig_id"[..], b"signer", b"sig_key", b"sig_hashalgo", b"signature"].contains(&field)
}

fn signature_fields<'a>(signer: &SignerInfo<'a>) -> impl Iterator<Item = Field<'a>> {
    // The number of a certificate is positive; a zero byte only says so where its first bit is set.
    let serial = signer.serial.map(|serial| match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    });
    let key = serial.or(signer.skid).unwrap_or(b"");
    // One that is named by the identifier of its key has no name.
    let signer_name = signer.issuer_cn.map(|name| (&b"signer"[..], Cow::Borrowed(name)));
    let rest: [Field<'a>; 3] = [
        (b"sig_key", Cow::Owned(hex(key))),
        (b"sig_hashalgo", Cow::Owned(signer.digest.to_string().into_bytes())),
        (b"signature", Cow::Owned(hex(signer.signature))),
    ];
    let first: Field<'a> = (b"sig_id", Cow::Borrowed(b"PKCS#7"));
    std::iter::once(first).chain(signer_name).chain(rest)
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
fn absolute(path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    match std::env::current_dir() {
        Ok(directory) => [directory.as_os_str().as_bytes(), b"/", path].concat(),
        Err(_) => path.to_vec(),
    }
}
