//! Interfaces that take a structure and give it back. Offsets of names are those of Linux 6.1 as Debian builds it.

use super::Function;
use super::Handler;
use crate::registry::Name;
use crate::registry::Pair;

const fn pair(
    kind: &'static str,
    register: &'static [&'static str],
    unregister: &'static [&'static str],
    name: Name,
) -> Pair {
    Pair { register, unregister, kind, object: (0, 0), name, many: None }
}

const fn many(mut pair: Pair, wide: u64, narrow: u64) -> Pair {
    pair.many = Some((1, wide, narrow));
    pair
}

/// The structure is another argument, of register and unregister function.
const fn at(mut pair: Pair, register: u8, unregister: u8) -> Pair {
    pair.object = (register, unregister);
    pair
}

static PAIRS: &[Pair] = &[
    pair(
        "platform driver",
        &["__platform_driver_register"],
        &["platform_driver_unregister"],
        Name::Pointer(48, 24),
    ),
    pair("USB driver", &["usb_register_driver"], &["usb_deregister"], Name::Pointer(0, 0)),
    pair("PCI driver", &["__pci_register_driver"], &["pci_unregister_driver"], Name::Pointer(16, 8)),
    at(pair("I2C driver", &["i2c_register_driver"], &["i2c_del_driver"], Name::Pointer(56, 28)), 1, 0),
    at(pair("SPI driver", &["__spi_register_driver"], &[], Name::Pointer(32, 16)), 1, 0),
    pair("HID driver", &["__hid_register_driver"], &["hid_unregister_driver"], Name::Pointer(0, 0)),
    pair("bus", &["bus_register"], &["bus_unregister"], Name::Pointer(0, 0)),
    pair("filesystem", &["register_filesystem"], &["unregister_filesystem"], Name::Pointer(0, 0)),
    pair("NLS table", &["__register_nls"], &["unregister_nls"], Name::Pointer(0, 0)),
    pair("crypto algorithm", &["crypto_register_alg"], &["crypto_unregister_alg"], Name::Inline(184, 168)),
    many(
        pair(
            "crypto algorithm",
            &["crypto_register_algs"],
            &["crypto_unregister_algs"],
            Name::Inline(184, 168),
        ),
        384,
        384,
    ),
    pair("hash algorithm", &["crypto_register_shash"], &["crypto_unregister_shash"], Name::Inline(280, 296)),
    many(
        pair(
            "hash algorithm",
            &["crypto_register_shashes"],
            &["crypto_unregister_shashes"],
            Name::Inline(280, 296),
        ),
        480,
        512,
    ),
    pair("crypto template", &["crypto_register_template"], &["crypto_unregister_template"], Name::None),
    pair("pernet operations", &["register_pernet_subsys"], &["unregister_pernet_subsys"], Name::None),
    pair("pernet device", &["register_pernet_device"], &["unregister_pernet_device"], Name::None),
    pair(
        "netdevice notifier",
        &["register_netdevice_notifier"],
        &["unregister_netdevice_notifier"],
        Name::None,
    ),
    pair("inetaddr notifier", &["register_inetaddr_notifier"], &["unregister_inetaddr_notifier"], Name::None),
    pair(
        "inet6addr notifier",
        &["register_inet6addr_notifier"],
        &["unregister_inet6addr_notifier"],
        Name::None,
    ),
    pair("netevent notifier", &["register_netevent_notifier"], &["unregister_netevent_notifier"], Name::None),
    pair("reboot notifier", &["register_reboot_notifier"], &["unregister_reboot_notifier"], Name::None),
    pair("panic notifier", &["register_restart_handler"], &["unregister_restart_handler"], Name::None),
    pair("oom notifier", &["register_oom_notifier"], &["unregister_oom_notifier"], Name::None),
    pair("module notifier", &["register_module_notifier"], &["unregister_module_notifier"], Name::None),
    pair("PM notifier", &["register_pm_notifier"], &["unregister_pm_notifier"], Name::None),
    pair(
        "rtnl link",
        &["rtnl_link_register", "__rtnl_link_register"],
        &["rtnl_link_unregister"],
        Name::Pointer(16, 8),
    ),
    pair(
        "generic netlink family",
        &["genl_register_family"],
        &["genl_unregister_family"],
        Name::Inline(8, 8),
    ),
    pair("xtables match", &["xt_register_match"], &["xt_unregister_match"], Name::Inline(16, 8)),
    many(
        pair("xtables match", &["xt_register_matches"], &["xt_unregister_matches"], Name::Inline(16, 8)),
        128,
        76,
    ),
    pair("xtables target", &["xt_register_target"], &["xt_unregister_target"], Name::Inline(16, 8)),
    many(
        pair("xtables target", &["xt_register_targets"], &["xt_unregister_targets"], Name::Inline(16, 8)),
        128,
        76,
    ),
    pair("nftables expression", &["nft_register_expr"], &["nft_unregister_expr"], Name::Pointer(40, 20)),
    pair("queueing discipline", &["register_qdisc"], &["unregister_qdisc"], Name::Inline(16, 8)),
    pair(
        "traffic classifier",
        &["register_tcf_proto_ops"],
        &["unregister_tcf_proto_ops"],
        Name::Inline(16, 8),
    ),
    pair("traffic action", &["tcf_register_action"], &["tcf_unregister_action"], Name::Inline(16, 8)),
    pair(
        "TCP congestion control",
        &["tcp_register_congestion_control"],
        &["tcp_unregister_congestion_control"],
        Name::Inline(88, 44),
    ),
    pair("device mapper target", &["dm_register_target"], &["dm_unregister_target"], Name::Pointer(8, 8)),
    pair("PHY driver", &["phy_driver_register"], &["phy_driver_unregister"], Name::Pointer(160, 84)),
    many(
        pair("PHY driver", &["phy_drivers_register"], &["phy_drivers_unregister"], Name::Pointer(160, 84)),
        472,
        240,
    ),
    pair("remote control map", &["rc_map_register"], &["rc_map_unregister"], Name::None),
    pair("comedi driver", &["comedi_driver_register"], &["comedi_driver_unregister"], Name::Pointer(8, 4)),
    pair(
        "comedi PCI driver",
        &["comedi_pci_driver_register"],
        &["comedi_pci_driver_unregister"],
        Name::Pointer(8, 4),
    ),
    pair("binary format", &["__register_binfmt"], &["unregister_binfmt"], Name::None),
    pair("key type", &["register_key_type"], &["unregister_key_type"], Name::Pointer(0, 0)),
    pair("shrinker", &["register_shrinker"], &["unregister_shrinker"], Name::None),
    pair("netfilter socket option", &["nf_register_sockopt"], &["nf_unregister_sockopt"], Name::None),
    pair("protocol", &["proto_register"], &["proto_unregister"], Name::None),
    pair("LED trigger", &["led_trigger_register"], &["led_trigger_unregister"], Name::Pointer(0, 0)),
    pair("serio driver", &["__serio_register_driver"], &["serio_unregister_driver"], Name::None),
    pair("xfrm type", &["xfrm_register_type"], &["xfrm_unregister_type"], Name::Pointer(0, 0)),
    pair("IPv4 xfrm protocol", &["xfrm4_protocol_register"], &["xfrm4_protocol_deregister"], Name::None),
    pair("traffic ematch", &["tcf_em_register"], &["tcf_em_unregister"], Name::None),
    pair("socket diagnosis", &["sock_diag_register"], &["sock_diag_unregister"], Name::None),
    pair(
        "transport class",
        &["transport_class_register"],
        &["transport_class_unregister"],
        Name::Pointer(0, 0),
    ),
    pair("virtio driver", &["register_virtio_driver"], &["unregister_virtio_driver"], Name::Pointer(0, 0)),
    pair("SDIO driver", &["sdio_register_driver"], &["sdio_unregister_driver"], Name::Pointer(0, 0)),
    pair("auxiliary driver", &["__auxiliary_driver_register"], &["auxiliary_driver_unregister"], Name::None),
    pair("AMBA driver", &["amba_driver_register"], &["amba_driver_unregister"], Name::Pointer(0, 0)),
    pair("ACPI driver", &["acpi_bus_register_driver"], &["acpi_bus_unregister_driver"], Name::Inline(0, 0)),
    pair("input handler", &["input_register_handler"], &["input_unregister_handler"], Name::None),
    pair("compression algorithm", &["crypto_register_scomp"], &["crypto_unregister_scomp"], Name::None),
    pair("cipher", &["crypto_register_skcipher"], &["crypto_unregister_skcipher"], Name::None),
    pair("ciphers", &["crypto_register_skciphers"], &["crypto_unregister_skciphers"], Name::None),
    pair("AEAD cipher", &["crypto_register_aead"], &["crypto_unregister_aead"], Name::None),
    pair("AEAD ciphers", &["crypto_register_aeads"], &["crypto_unregister_aeads"], Name::None),
    pair("key agreement", &["crypto_register_kpp"], &["crypto_unregister_kpp"], Name::None),
    pair("public-key cipher", &["crypto_register_akcipher"], &["crypto_unregister_akcipher"], Name::None),
    pair("random generator", &["crypto_register_rng"], &["crypto_unregister_rng"], Name::None),
    pair("random generators", &["crypto_register_rngs"], &["crypto_unregister_rngs"], Name::None),
    pair("asynchronous hash", &["crypto_register_ahash"], &["crypto_unregister_ahash"], Name::None),
    pair("crypto templates", &["crypto_register_templates"], &["crypto_unregister_templates"], Name::None),
    pair("crypto notifier", &["crypto_register_notifier"], &["crypto_unregister_notifier"], Name::None),
    pair(
        "cpufreq governor",
        &["cpufreq_register_governor"],
        &["cpufreq_unregister_governor"],
        Name::Inline(0, 0),
    ),
    pair("IPv4 protocol", &["inet_add_protocol"], &["inet_del_protocol"], Name::None),
    pair("IPv6 protocol", &["inet6_add_protocol"], &["inet6_del_protocol"], Name::None),
    pair("text search", &["textsearch_register"], &["textsearch_unregister"], Name::Pointer(0, 0)),
    pair("netlink notifier", &["netlink_register_notifier"], &["netlink_unregister_notifier"], Name::None),
    pair(
        "switchdev notifier",
        &["register_switchdev_notifier"],
        &["unregister_switchdev_notifier"],
        Name::None,
    ),
    pair("line discipline", &["tty_register_ldisc"], &["tty_unregister_ldisc"], Name::Pointer(0, 0)),
    pair("packet handler", &["dev_add_pack"], &["dev_remove_pack"], Name::None),
    pair("packet offload", &["dev_add_offload"], &["dev_remove_offload"], Name::None),
    pair("quota format", &["register_quota_format"], &["unregister_quota_format"], Name::None),
    pair("light-weight tunnel", &["lwtunnel_encap_add_ops"], &["lwtunnel_encap_del_ops"], Name::None),
    at(pair("bus notifier", &["bus_register_notifier"], &["bus_unregister_notifier"], Name::None), 1, 1),
];

/// The functions of all pairs.
pub(crate) fn functions() -> impl Iterator<Item = Function> {
    PAIRS.iter().flat_map(|pair| {
        let register =
            pair.register.iter().map(move |name| Function { name, handler: Handler::Register(pair) });
        let unregister =
            pair.unregister.iter().map(move |name| Function { name, handler: Handler::Unregister(pair) });
        register.chain(unregister)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_is_in_two_pairs() {
        let mut names: Vec<_> = functions().map(|function| function.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
