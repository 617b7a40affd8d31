//! What a name on the command line stands for: files, and parts of the kernel.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;
use lkm_tree::config::Config;
use lkm_tree::index::binary::Index;
use lkm_tree::index::text::builtin_fields;
use lkm_tree::lookup::IndexFile;
use lkm_tree::lookup::LookupError;
use lkm_tree::lookup::Modules;
use lkm_tree::name::underscores;

use super::Field;
use super::absolute;
use super::is_signature_field;
use super::signature_fields;
use crate::module_name;
use crate::path::base_name;
use crate::sparse::Source;

/// A module that something is printed of.
#[derive(Debug)]
pub(super) enum Subject {
    /// It lies in a file.
    File {
        /// The module's name as messages have it.
        name: Vec<u8>,
        /// Where the file is, from the root.
        path: PathBuf,
    },
    /// It is part of the kernel, or an index says that it is a module and no index knows a file.
    Builtin {
        /// Its name.
        name: Vec<u8>,
    },
}

impl Subject {
    /// The module in a file that the user named.
    pub(super) fn of_file(given: &OsStr) -> Subject {
        let given = given.as_bytes();
        Subject::File {
            name: module_name(base_name(given)),
            path: PathBuf::from(OsStr::from_bytes(&absolute(given))),
        }
    }

    /// The module's name.
    pub(super) fn name(&self) -> &[u8] {
        match self {
            Subject::File { name, .. } | Subject::Builtin { name } => name,
        }
    }

    /// What stands for its file.
    pub(super) fn filename(&self) -> &[u8] {
        match self {
            Subject::File { path, .. } => path.as_os_str().as_bytes(),
            Subject::Builtin { .. } => b"(builtin)",
        }
    }

    /// Reads what the field is found in, or everything that `modinfo` prints.
    pub(super) fn open<'k>(
        &self,
        kernel: &'k KernelDirectory,
        field: Option<&[u8]>,
    ) -> Result<Facts<'k>, Errno> {
        match self {
            Subject::Builtin { name } => kernel.builtin_fields(name).map(Facts::Builtin),
            Subject::File { path, .. } => {
                let with_signature = field.is_none_or(is_signature_field);
                let mut source = Source::open(path, with_signature)?;
                source.read_modinfo()?;
                if with_signature {
                    source.read_signature()?;
                }
                Ok(Facts::File(source))
            }
        }
    }
}

/// What is known of a module.
pub(super) enum Facts<'k> {
    /// Its file.
    File(Source),
    /// Its fields in the list of the kernel's build.
    Builtin(Vec<Field<'k>>),
}

impl Facts<'_> {
    /// The fields in their order: those of `.modinfo`, then those of the signature, if one of them is wanted.
    pub(super) fn fields(&self, field: Option<&[u8]>) -> Result<Vec<Field<'_>>, Errno> {
        let source = match self {
            Facts::Builtin(fields) => {
                return Ok(fields.iter().map(|(key, value)| (*key, Cow::Borrowed(&**value))).collect());
            }
            Facts::File(source) => source,
        };
        let tags = source.modinfo()?.iter();
        let mut fields: Vec<Field<'_>> =
            tags.map(|tag| (tag.name, Cow::Borrowed(tag.value.unwrap_or(b"")))).collect();
        if field.is_none_or(is_signature_field)
            && let Some(signer) = source.signer()
        {
            fields.extend(signature_fields(&signer));
        }
        Ok(fields)
    }
}

/// `/lib/modules/VERSION`; nothing of it is read before it is needed.
#[derive(Debug)]
pub(super) struct KernelDirectory {
    modules: Modules,
    /// `modules.builtin.modinfo`.
    builtin: OnceCell<Option<Vec<u8>>>,
}

impl KernelDirectory {
    pub(super) fn new(path: PathBuf) -> KernelDirectory {
        // Aliases of the configuration are for those who load.
        KernelDirectory { modules: Modules::new(path, Config::default()), builtin: OnceCell::new() }
    }

    pub(super) fn path(&self) -> &Path {
        self.modules.directory()
    }

    /// The modules that a name, or an alias if those count, stands for. The error is what was not found.
    pub(super) fn find(&self, given: &OsStr, only_names: bool) -> Result<Vec<Subject>, &'static [u8]> {
        let given = given.as_bytes();
        if only_names {
            return self.by_name(given).map(|subject| vec![subject]).ok_or(b"Module name");
        }
        let found = self.modules.find(given).map_err(|error| match error {
            LookupError::BadName(_) => &b"Module alias"[..],
            _ => b"Module",
        })?;
        let subject = |name: Vec<u8>| match self.modules.path(&name) {
            Ok(Some(path)) => Subject::File { name, path },
            _ => Subject::Builtin { name },
        };
        Ok(found.into_iter().map(|found| subject(found.name)).collect())
    }

    /// A module by its name, or by the name of its file; a part of the kernel also by an alias.
    fn by_name(&self, given: &[u8]) -> Option<Subject> {
        let name = underscores(given.split(|&byte| byte == b'.').next().unwrap_or(given))?;
        if let Ok(Some(path)) = self.modules.path(&name) {
            return Some(Subject::File { name, path });
        }
        if self.modules.is_builtin(&name) {
            return Some(Subject::Builtin { name });
        }
        let aliases = Index::open(&self.modules.index_path(IndexFile::BuiltinAliases)).ok()?;
        let found = aliases.matching(&name).ok()?;
        found.first().map(|value| Subject::Builtin { name: value.text.to_vec() })
    }

    /// What the kernel's build noted of a part of it; nothing on kernels before 5.2, which have no such list. Every
    /// string of the list ends in a NUL.
    fn builtin_fields(&self, name: &[u8]) -> Result<Vec<Field<'_>>, Errno> {
        let path = || self.modules.directory().join("modules.builtin.modinfo");
        let Some(list) = self.builtin.get_or_init(|| std::fs::read(path()).ok()) else {
            return Ok(Vec::new());
        };
        let fields = builtin_fields(list).flatten().filter(|field| field.module == name);
        let fields: Vec<Field<'_>> = fields.map(|field| (field.field, Cow::Borrowed(field.value))).collect();
        if fields.is_empty() {
            // Only an alias says that there is such a module.
            return if self.modules.is_builtin(name) { Err(Errno::ENOSYS) } else { Ok(fields) };
        }
        if list.ends_with(&[0]) { Ok(fields) } else { Err(Errno::EINVAL) }
    }
}
