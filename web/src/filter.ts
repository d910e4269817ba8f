// pcap-filter(7) expressions made from what the user clicked on.

import type { Flow } from "./api/types";

const IPV4 = /^\d{1,3}(\.\d{1,3}){3}$/;
const IPV6 = /^[0-9a-f:]*:[0-9a-f:.]*$/i;
const MAC = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

const PROTOCOLS: Record<string, string> = {
  tcp: "tcp",
  udp: "udp",
  sctp: "sctp",
  icmp: "icmp",
  icmpv6: "icmp6",
  arp: "arp",
  igmp: "igmp",
};

function host(address: string): string | null {
  const bare = address.replace(/%.*$/, "");
  if (MAC.test(bare)) return `ether host ${bare.replaceAll("-", ":").toLowerCase()}`;
  if (IPV4.test(bare) || IPV6.test(bare)) return `host ${bare}`;
  return null;
}

/** The expression that selects one flow, both directions; empty when nothing of it is expressible. */
export function flowFilter(flow: Pick<Flow, "protocol" | "src" | "src_port" | "dst" | "dst_port">): string {
  const parts: string[] = [];
  const protocol = PROTOCOLS[flow.protocol.toLowerCase()];
  if (protocol) parts.push(protocol);
  for (const address of new Set([flow.src, flow.dst])) {
    const part = host(address);
    if (part) parts.push(part);
  }
  for (const port of new Set([flow.src_port, flow.dst_port])) {
    if (port !== null) parts.push(`port ${port}`);
  }
  return parts.join(" and ");
}

/**
 * The expression extended to frames with an 802.1Q tag. In pcap-filter(7) `vlan` shifts the offsets
 * of everything after it, so the untagged branch comes first.
 */
export function withVlan(filter: string): string {
  const inner = filter.trim();
  return inner === "" || coversVlan(inner) ? inner : `(${inner}) or (vlan and (${inner}))`;
}

export function coversVlan(filter: string): boolean {
  return /\bvlan\b/.test(filter);
}
