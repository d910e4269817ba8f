//! The default gateway, as the kernel lists it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

const UP_AND_GATEWAY: u32 = 3;

/// The next hop of the default route with the smallest metric, IPv4 before IPv6.
pub(super) fn gateway() -> Option<SocketAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    if let Some(address) = parse_v4(&read("/proc/net/route")) {
        return Some(SocketAddr::new(IpAddr::V4(address), 0));
    }
    let (address, interface) = parse_v6(&read("/proc/net/ipv6_route"))?;
    let scope = if address.is_unicast_link_local() {
        interface_index(&interface)?
    } else {
        0
    };
    Some(SocketAddrV6::new(address, 0, 0, scope).into())
}

/// The number of an interface.
pub(super) fn interface_index(name: &str) -> Option<u32> {
    if !is_interface_name(name) {
        return None;
    }
    let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok();
    index?.trim().parse().ok()
}

/// Whether it could be the name of an interface: so that it is no path.
pub(super) fn is_interface_name(name: &str) -> bool {
    let printable = name.chars().all(|c| c.is_ascii_graphic() && c != '/');
    !name.is_empty() && name.len() < 16 && printable && !name.starts_with('.')
}

/// `/proc/net/route`: interface, destination, gateway, flags, _, _, metric, mask, in hexadecimal;
/// addresses as the machine stores them.
fn parse_v4(table: &str) -> Option<Ipv4Addr> {
    let route = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let mut hex = || u32::from_str_radix(columns.next()?, 16).ok();
        let (destination, gateway, flags) = (hex()?, hex()?, hex()?);
        let metric: u32 = columns.nth(2)?.parse().ok()?;
        let mask = u32::from_str_radix(columns.next()?, 16).ok()?;
        let default = destination == 0 && mask == 0;
        (default && flags & UP_AND_GATEWAY == UP_AND_GATEWAY)
            .then(|| (metric, Ipv4Addr::from(gateway.to_ne_bytes())))
    };
    let best = table
        .lines()
        .filter_map(route)
        .min_by_key(|(metric, _)| *metric);
    best.map(|(_, gateway)| gateway)
}

/// `/proc/net/ipv6_route`: destination, prefix, source, prefix, next hop, metric, _, _, flags,
/// interface, in hexadecimal.
fn parse_v6(table: &str) -> Option<(Ipv6Addr, String)> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let &[
            destination,
            prefix,
            _,
            _,
            hop,
            metric,
            _,
            _,
            flags,
            interface,
        ] = columns.as_slice()
        else {
            return None;
        };
        let number = |text| u32::from_str_radix(text, 16).ok();
        let hop = u128::from_str_radix(hop, 16).ok()?;
        let default = u128::from_str_radix(destination, 16).ok()? == 0 && number(prefix)? == 0;
        let usable = number(flags)? & UP_AND_GATEWAY == UP_AND_GATEWAY && hop != 0;
        let route = (number(metric)?, Ipv6Addr::from(hop), interface.to_owned());
        (default && usable).then_some(route)
    };
    let best = table.lines().filter_map(route).min_by_key(|route| route.0);
    best.map(|(_, hop, interface)| (hop, interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_default_route_of_smallest_metric() {
        let table = "\
            Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth1\t00000000\t010200C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
            eth2\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000200C0\t010200C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(parse_v4(table), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(parse_v4("Iface\n"), None);
        assert_eq!(parse_v4("a b c\n\u{0}"), None);
    }

    /// iproute2 asks the kernel another way (netlink) and must agree.
    #[test]
    fn iproute2_agrees() {
        let shown = std::process::Command::new("ip")
            .args(["-4", "route", "show", "default"])
            .output()
            .expect("iproute2 is installed");
        let shown = String::from_utf8(shown.stdout).unwrap();
        let mut words = shown.lines().next().unwrap_or_default().split_whitespace();
        let via = words.find(|word| *word == "via").and_then(|_| words.next());
        let read = parse_v4(&fs::read_to_string("/proc/net/route").unwrap());
        assert_eq!(read.map(|address| address.to_string()).as_deref(), via);
    }

    #[test]
    fn the_default_route_of_ipv6() {
        let zero = "00000000000000000000000000000000";
        let table = format!(
            "fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 eth0\n\
             {zero} 00 {zero} 00 fe80000000000000000000000000000a 00000400 2 0 00000003 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        let expected = ("fe80::a".parse().unwrap(), "eth0".to_owned());
        assert_eq!(parse_v6(&table), Some(expected));
        assert_eq!(parse_v6("x"), None);
    }
}
