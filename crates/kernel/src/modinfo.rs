//! `check_modinfo()`: vermagic, and what origin and license taint; `module_sig_check()`.

use lkm_link::LoadInfo;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::signature::appended_signature;

use crate::Host;
use crate::IGNORE_MODVERSIONS;
use crate::IGNORE_VERMAGIC;
use crate::Kernel;
use crate::Lockdown;
use crate::ModuleId;
use crate::Reason;
use crate::SignatureFault;
use crate::Taints;
use crate::profile::SignatureRules;
use crate::profile::TaintTiming;
use crate::taint::Lockdep;

/// Licenses that are compatible with the GPL, exactly as they must be written.
const GPL_COMPATIBLE: &[&[u8]] =
    &[b"GPL", b"GPL v2", b"GPL and additional rights", b"Dual BSD/GPL", b"Dual MIT/GPL", b"Dual MPL/GPL"];

/// `license_is_gpl_compatible()`
pub fn license_is_gpl_compatible(license: &[u8]) -> bool {
    GPL_COMPATIBLE.contains(&license)
}

/// `same_magic()`: with symbol versions the release does not count.
fn same_magic(has: &[u8], wants: &[u8], has_crcs: bool) -> bool {
    let skip = |magic| {
        let magic: &[u8] = magic;
        magic.iter().position(|&byte| byte == b' ').map_or(&[][..], |at| magic.get(at..).unwrap_or(&[]))
    };
    if has_crcs { skip(has) == skip(wants) } else { has == wants }
}

impl Kernel {
    /// `check_modinfo()`
    pub(crate) fn check_modinfo<H: Host>(
        &mut self,
        host: &mut H,
        info: &LoadInfo<'_>,
        flags: u32,
        taints: &mut Taints,
    ) -> Result<(), Reason> {
        let name = Text(info.module_name);
        let has = info.modinfo(b"vermagic").filter(|_| flags & IGNORE_VERMAGIC == 0);
        match has {
            None => {
                if !self.try_to_force_load(host, info.module_name, taints, b"bad vermagic") {
                    return Err(Reason::NoVersionMagic);
                }
            }
            Some(has) => {
                let has_crcs = self.profile.config.modversions && info.index.vers != 0;
                let wants = self.profile.vermagic.clone();
                if !same_magic(has, &wants, has_crcs) {
                    host.log(
                        Level::Err,
                        format_args!("{name}: version magic '{}' should be '{}'", Text(has), Text(&wants)),
                    );
                    return Err(Reason::VersionMagic { has: has.to_vec(), wants: wants.into_owned() });
                }
            }
        }
        if info.modinfo(b"livepatch").is_some() && !self.profile.link.livepatch {
            // Older kernels taint for the origin first; what is printed last is the same.
            if self.profile.rules.taint_timing == TaintTiming::CheckModinfo {
                self.taint_by_origin(host, info, taints);
            }
            host.log(
                Level::Err,
                format_args!(
                    "{name}: module is marked as livepatch module, but livepatch support is disabled"
                ),
            );
            return Err(Reason::Livepatch);
        }
        if self.profile.rules.taint_timing == TaintTiming::CheckModinfo {
            self.taint_by_modinfo(host, info, taints);
        }
        Ok(())
    }

    /// Where the module comes from.
    fn taint_by_origin<H: Host>(&mut self, host: &mut H, info: &LoadInfo<'_>, taints: &mut Taints) {
        let name = Text(info.module_name);
        if info.modinfo(b"intree").is_none() {
            if self.profile.rules.oot_message {
                self.log_first(
                    host,
                    Taints::OOT_MODULE,
                    format_args!("{name}: loading out-of-tree module taints kernel."),
                );
            }
            self.add_taint_module(host, taints, Taints::OOT_MODULE, Lockdep::StillOk);
        }
        if self.profile.config.retpoline && info.modinfo(b"retpoline").is_none() {
            host.log(
                Level::Warning,
                format_args!("{name}: loading module not compiled with retpoline compiler."),
            );
        }
        if info.modinfo(b"staging").is_some() {
            self.add_taint_module(host, taints, Taints::CRAP, Lockdep::StillOk);
            host.log(
                Level::Warning,
                format_args!(
                    "{name}: module is from the staging directory, the quality is unknown, you have been warned."
                ),
            );
        }
    }

    /// What origin and license taint.
    pub(crate) fn taint_by_modinfo<H: Host>(
        &mut self,
        host: &mut H,
        info: &LoadInfo<'_>,
        taints: &mut Taints,
    ) {
        let name = Text(info.module_name);
        self.taint_by_origin(host, info, taints);
        if info.livepatch {
            self.add_taint_module(host, taints, Taints::LIVEPATCH, Lockdep::StillOk);
            if self.once.first_livepatch() {
                host.log(Level::Notice, format_args!("{name}: tainting kernel with TAINT_LIVEPATCH"));
            }
        }
        let license = info.modinfo(b"license").unwrap_or(b"unspecified");
        if !license_is_gpl_compatible(license) {
            self.log_first(
                host,
                Taints::PROPRIETARY_MODULE,
                format_args!("{name}: module license '{}' taints kernel.", Text(license)),
            );
            self.add_taint_module(host, taints, Taints::PROPRIETARY_MODULE, Lockdep::NowUnreliable);
        }
        if self.profile.rules.test_taint && info.modinfo(b"test").is_some() {
            self.log_first(host, Taints::TEST, format_args!("{name}: loading test module taints kernel."));
            self.add_taint_module(host, taints, Taints::TEST, Lockdep::StillOk);
        }
    }

    /// Modules that are known by name to wrap proprietary code. `was_proprietary` is the kernel's taint before
    /// the routine that this is part of, which from 6.4 on is also the one that looks at the license.
    pub(crate) fn taint_by_name<H: Host>(
        &mut self,
        host: &mut H,
        name: &[u8],
        taints: &mut Taints,
        was_proprietary: bool,
    ) {
        let proprietary = Taints::PROPRIETARY_MODULE;
        match name {
            b"ndiswrapper" => self.add_taint(host, proprietary, Lockdep::NowUnreliable),
            b"driverloader" | b"lve" => {
                self.add_taint_module(host, taints, proprietary, Lockdep::NowUnreliable);
            }
            _ => {}
        }
        if !was_proprietary && self.taints.contains(proprietary) {
            host.log(Level::Warning, format_args!("{}: module license taints kernel.", Text(name)));
        }
    }

    /// The taints of origin, license and signature after the module is in the list.
    pub(crate) fn module_augment_kernel_taints<H: Host>(
        &mut self,
        host: &mut H,
        id: ModuleId,
        info: &LoadInfo<'_>,
        sig_ok: bool,
    ) {
        let Some(mut taints) = self.module_taints(id) else { return };
        let was_proprietary = self.taints.contains(Taints::PROPRIETARY_MODULE);
        if self.profile.rules.taint_timing == TaintTiming::AfterInsertion {
            self.taint_by_modinfo(host, info, &mut taints);
        }
        if self.profile.config.module_sig && !sig_ok {
            if self.once.first_unverified() {
                host.log(
                    Level::Notice,
                    format_args!(
                        "{}: module verification failed: signature and/or required key missing - tainting kernel",
                        Text(info.module_name)
                    ),
                );
            }
            self.add_taint_module(host, &mut taints, Taints::UNSIGNED_MODULE, Lockdep::StillOk);
        }
        if self.profile.rules.taint_timing == TaintTiming::AfterInsertion {
            self.taint_by_name(host, info.module_name, &mut taints, was_proprietary);
        }
        if let Some(module) = self.module_mut(id) {
            module.sig_ok = sig_ok;
            module.taints = taints;
        }
    }

    /// `check_export_symbol_versions()`, or before 6.4 `check_module_license_and_versions()`.
    pub(crate) fn check_export_symbol_versions<H: Host>(
        &mut self,
        host: &mut H,
        id: ModuleId,
        info: &LoadInfo<'_>,
    ) -> Result<(), Reason> {
        if self.profile.rules.taint_timing == TaintTiming::CheckModinfo {
            let mut taints = self.module_taints(id).unwrap_or_default();
            let was_proprietary = self.taints.contains(Taints::PROPRIETARY_MODULE);
            self.taint_by_name(host, info.module_name, &mut taints, was_proprietary);
            if let Some(module) = self.module_mut(id) {
                module.taints = taints;
            }
        }
        if !self.profile.config.modversions {
            return Ok(());
        }
        let entry = self.profile.rules.ksymtab.entry_size(self.profile.arch.class()) as u64;
        let lacks = |table: &[u8], crcs: &[u8]| {
            let (_, count) = info.section_objs(table, entry);
            count > 0 && info.find_sec(crcs) == 0
        };
        let old = self.profile.old_tables().any(|(_, syms, crcs)| lacks(syms.as_bytes(), crcs.as_bytes()));
        if !old && !lacks(b"__ksymtab", b"__kcrctab") && !lacks(b"__ksymtab_gpl", b"__kcrctab_gpl") {
            return Ok(());
        }
        let mut taints = self.module_taints(id).unwrap_or_default();
        let reason = b"no versions for exported symbols";
        let forced = self.try_to_force_load(host, info.module_name, &mut taints, reason);
        if let Some(module) = self.module_mut(id) {
            module.taints = taints;
        }
        if forced { Ok(()) } else { Err(Reason::ExportsWithoutVersions) }
    }

    /// `setup_modinfo()`
    pub(crate) fn setup_modinfo(&mut self, id: ModuleId, info: &LoadInfo<'_>) {
        if let Some(module) = self.module_mut(id) {
            module.version = info.modinfo(b"version").map(<[u8]>::to_vec);
            module.srcversion = info.modinfo(b"srcversion").map(<[u8]>::to_vec);
        }
    }

    /// `module_sig_check()`: the module without its signature, and whether the signature was good.
    pub(crate) fn module_sig_check<'data, H: Host>(
        &mut self,
        host: &mut H,
        data: &'data [u8],
        flags: u32,
    ) -> Result<(&'data [u8], bool), Reason> {
        if !self.profile.config.module_sig {
            return Ok((data, false));
        }
        // Flags that make the module another one than was signed make it an unsigned one.
        let mangled = flags & (IGNORE_MODVERSIONS | IGNORE_VERMAGIC) != 0;
        let (body, errno) = match appended_signature(data) {
            _ if mangled => (data, Errno::ENODATA),
            Ok(None) => (data, Errno::ENODATA),
            Ok(Some(signature)) => match self.verify(host, &signature) {
                Ok(()) => return Ok((signature.body, true)),
                Err(errno) => (signature.body, errno),
            },
            Err(error) => {
                if let Some((level, line)) = error.log(self.profile.elf.generation) {
                    host.log(level, format_args!("{line}"));
                }
                (error.rest, error.errno())
            }
        };
        self.tolerate(host, errno).map(|()| (body, false))
    }

    fn verify<H: Host>(
        &self,
        host: &mut H,
        signature: &lkm_module::signature::AppendedSignature<'_>,
    ) -> Result<(), Errno> {
        let signer = signature.signer().map_err(|_| Errno::EBADMSG)?;
        if signer.has_content {
            host.log(Level::Warning, format_args!("PKCS7: Data already supplied"));
            host.log(Level::Err, format_args!("PKCS#7 signature with non-detached data"));
            return Err(Errno::EBADMSG);
        }
        if signer.signed_attributes {
            host.log(Level::Warning, format_args!("PKCS7: Invalid module sig (has authattrs)"));
            return Err(Errno::EKEYREJECTED);
        }
        host.verify_signature(signature)
    }

    /// Which signature failures a kernel lives with.
    fn tolerate<H: Host>(&self, host: &mut H, errno: Errno) -> Result<(), Reason> {
        let (fault, what) = match errno {
            Errno::ENODATA => (SignatureFault::Unsigned, "unsigned module"),
            Errno::ENOPKG => (SignatureFault::UnsupportedCrypto, "module with unsupported crypto"),
            Errno::ENOKEY => (SignatureFault::UnavailableKey, "module with unavailable key"),
            _ => return Err(Reason::Signature { fault: SignatureFault::Malformed, errno }),
        };
        let enforced = self.options.sig_enforce || self.profile.config.module_sig_force;
        if self.profile.rules.signature_rules == SignatureRules::Old {
            // Before 5.3 a missing signature and a missing key were one, and nothing was said.
            return match errno {
                Errno::ENOPKG => Err(Reason::Signature { fault, errno }),
                _ if enforced => Err(Reason::Signature { fault, errno: Errno::ENOKEY }),
                _ => Ok(()),
            };
        }
        if enforced {
            host.log(Level::Notice, format_args!("Loading of {what} is rejected"));
            return Err(Reason::Signature { fault, errno: Errno::EKEYREJECTED });
        }
        if self.options.lockdown >= Lockdown::Integrity {
            self.log_lockdown(host, "unsigned module loading");
            return Err(Reason::Signature { fault, errno: Errno::EPERM });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_counts_without_versions_only() {
        assert!(same_magic(b"6.1.0-1 SMP ", b"6.1.0-2 SMP ", true));
        assert!(!same_magic(b"6.1.0-1 SMP ", b"6.1.0-2 SMP ", false));
        assert!(!same_magic(b"6.1.0-1 SMP preempt ", b"6.1.0-1 SMP ", true));
        assert!(same_magic(b"6.1.0-1 SMP ", b"6.1.0-1 SMP ", false));
    }

    #[test]
    fn licenses() {
        assert!(license_is_gpl_compatible(b"Dual MIT/GPL"));
        for license in [&b"gpl"[..], b"GPL v3", b"GPL ", b"", b"Proprietary"] {
            assert!(!license_is_gpl_compatible(license));
        }
    }
}
