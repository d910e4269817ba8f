import { describe, expect, it } from "vitest";

import type { Drill, Incident, InterfaceStatus, Rates } from "../src/api/types";
import { flowFilter, withVlan } from "../src/filter";
import { around } from "../src/pages/incident/DownloadPanel";
import { endpoint, firstOrder } from "../src/pages/incident/FlowTable";
import { withoutName } from "../src/pages/incident/CompletenessCard";
import { columns, unrecorded } from "../src/pages/incident/RateChart";
import { bands, marks } from "../src/pages/probes/ProbeChart";
import { latest, marksOf, spans } from "../src/pages/drills/marks";
import { withDrill } from "../src/pages/drills/useDrills";
import { pathText } from "../src/pages/probes/ProbesPage";
import { roundTrip } from "../src/format/quantity";
import { en } from "../src/i18n/en";
import { ja } from "../src/i18n/ja";
import { forecast } from "../src/pages/overview/InterfaceCard";
import { standing } from "../src/pages/overview/LookbackCell";
import { parseRoute } from "../src/router";
import { preferredLanguage } from "../src/settings";

describe("filters", () => {
  it("select one flow", () => {
    const tcp = { protocol: "tcp", src: "192.0.2.1", src_port: 40_000, dst: "198.51.100.7", dst_port: 443 };
    expect(flowFilter(tcp)).toBe("tcp and host 192.0.2.1 and host 198.51.100.7 and port 40000 and port 443");
    expect(flowFilter({ ...tcp, protocol: "icmpv6", src: "fe80::1%eth1", src_port: null, dst: "2001:db8::2", dst_port: null })).toBe("icmp6 and host fe80::1 and host 2001:db8::2");
    expect(flowFilter({ ...tcp, protocol: "udp", src_port: 53, dst_port: 53 })).toBe("udp and host 192.0.2.1 and host 198.51.100.7 and port 53");
    expect(flowFilter({ protocol: "lldp", src: "AA-BB-CC-00-11-22", src_port: null, dst: "01:80:c2:00:00:0e", dst_port: null })).toBe("ether host aa:bb:cc:00:11:22 and ether host 01:80:c2:00:00:0e");
  });

  it("take over nothing that is not an address", () => {
    expect(flowFilter({ protocol: "weird", src: "x or port 1", src_port: null, dst: "", dst_port: null })).toBe("");
  });

  it("extend to tagged frames once", () => {
    const once = withVlan("host 192.0.2.1");
    expect(once).toBe("(host 192.0.2.1) or (vlan and (host 192.0.2.1))");
    expect(withVlan(once)).toBe(once);
    expect(withVlan("  ")).toBe("");
  });
});

describe("probes", () => {
  const rtt = { min: 0.001, p10: 0.002, p50: 0.003, p90: 0.004, p99: 0.005, max: 0.006 };
  const history = [
    { from: "2026-11-23T10:00:00.000000000Z", sent: 10, lost: 0, unsent: 0, rtt },
    { from: "2026-11-23T10:00:30.000000000Z", sent: 4, lost: 1, unsent: 12, rtt: null },
  ];

  it("are drawn from the most to the least, with a hole where nothing came back", () => {
    expect(bands(history)).toEqual([[1_795_428_000, 1_795_428_030], [6, null], [4, null], [3, null], [2, null], [1, null]]);
    expect(marks(history)).toEqual([{ lost: 0, unsent: 0 }, { lost: 0.25, unsent: 0.75 }]);
  });

  it("say where loss begins", () => {
    const points = ["gw", "edge"].map((probe) => ({ probe, health: "answers" as const }));
    const text = (loss_begins: number | null): string => pathText({ name: "p", points, loss_begins, text: null }, en.probes);
    expect([text(null), text(0), text(1)]).toEqual(["No loss on the way.", "Loss begins before gw, the first point.", "Loss begins between gw and edge."]);
  });

  it("have round trips of three digits", () => {
    expect([0.000_085, 0.001_234, 2.5].map((s) => roundTrip(s, "en").replace(/\s/, " "))).toEqual(["85 µs", "1.23 ms", "2.5 s"]);
  });
});

describe("drills", () => {
  const drill = (id: string, source: string, outcome: Drill["outcome"]): Drill => ({
    id, source, outcome, kind: "syslog", asked_by: "schedule", started: "2026-11-23T10:00:00Z",
    steps: [{ step: "sent", after_ns: 100 }, { step: "sealed", after_ns: 400, detail: "7 packets" }],
  });
  const all = [drill("4", "a", "running"), drill("3", "a", "passed"), drill("2", "b", "failed"), drill("1", "a", "failed")];

  it("are marked by source, the oldest first", () => {
    expect(marksOf({ kind: "syslog", name: "a" }, all).map((one) => one.id)).toEqual(["1", "3", "4"]);
  });

  it("count by their latest result", () => {
    expect(latest(all).map((one) => one.id)).toEqual(["3", "2"]);
  });

  it("have steps that follow each other", () => {
    expect(spans(drill("1", "a", "passed"))).toEqual([
      { step: "sent", from: 0, to: 0.25, ns: 100, detail: "" },
      { step: "sealed", from: 0.25, to: 1, ns: 300, detail: "7 packets" },
    ]);
  });

  it("get on in their place", () => {
    const board = { sources: [], next: null, drills: all };
    expect(withDrill(board, drill("4", "a", "passed")).drills.map((one) => one.outcome)).toEqual(["passed", "passed", "failed", "failed"]);
    expect(withDrill(board, drill("5", "b", "running")).drills[0]?.id).toBe("5");
    expect(withDrill(board, drill("3", "a", "running"))).toBe(board);
  });
});

describe("routes", () => {
  it("are read from the fragment", () => {
    expect(parseRoute("")).toEqual({ page: "overview" });
    expect(parseRoute("#/")).toEqual({ page: "overview" });
    expect(parseRoute("#/probes")).toEqual({ page: "probes", name: "" });
    expect(parseRoute("#/probes/a%2Fb")).toEqual({ page: "probes", name: "a/b" });
    expect(parseRoute("#login=a%2Bb")).toEqual({ page: "login", link: "a+b" });
    expect(parseRoute("#/incidents?state=sealed&q=a%26b")).toEqual({ page: "incidents", filter: { state: "sealed", grade: "", q: "a&b" } });
    expect(parseRoute("#/incidents/20261123T100211Z-5f3a9c")).toEqual({ page: "incident", id: "20261123T100211Z-5f3a9c" });
    expect(parseRoute("#/incidents/%E0%A4%A")).toEqual({ page: "incident", id: "%E0%A4%A" });
    expect(parseRoute("#/else/where/now")).toEqual({ page: "unknown" });
  });
});

describe("language", () => {
  it("is the first we speak", () => {
    expect(preferredLanguage(["fr-FR", "ja-JP", "en"])).toBe("ja");
    expect(preferredLanguage(["en-GB", "ja"])).toBe("en");
    expect(preferredLanguage([])).toBe("en");
  });
});

const second = (n: number): string => `2026-11-23T10:00:${String(n).padStart(2, "0")}.000000000Z`;
const ZERO = Date.UTC(2026, 10, 23, 10) / 1000;

describe("the rate chart", () => {
  it("shades what is not recorded, within the window", () => {
    const incident = {
      state: "sealed",
      window: { from: second(0), to: second(50) },
      covered: { from: second(10), to: second(50) },
      completeness: { verdict: "incomplete", reasons: [], gaps: [{ interface: "eth1", from: second(45), to: second(59), cause: "ring_full" }] },
    } as unknown as Incident;
    expect(unrecorded(incident)).toEqual([
      { from: ZERO, to: ZERO + 10 },
      { from: ZERO + 45, to: ZERO + 50 },
    ]);
    expect(unrecorded({ ...incident, state: "collecting", covered: null })).toEqual([{ from: ZERO + 45, to: ZERO + 50 }]);
  });

  it("shows packets per second at the middle of each bucket", () => {
    const rates: Rates = { from: second(0), to: second(4), bucket_ns: 2e9, interfaces: [{ name: "eth1", packets: [10, 4], bytes: [0, 0] }], provisional: false };
    expect(columns(rates)).toEqual([[ZERO + 1, ZERO + 3], [5, 2]]);
  });
});

describe("the rest", () => {
  it("narrows to the trigger within the window", () => {
    expect(around(50n, 10n, { from: 0n, to: 55n })).toEqual({ from: 40n, to: 55n });
    expect(around(50n, 100n, { from: 0n, to: 55n })).toBeNull();
    expect(around(500n, 10n, { from: 0n, to: 55n })).toBeNull();
  });

  it("forecasts the ring from its average rate", () => {
    const one = { ring_from: "2026-11-23T10:00:00Z", ring_to: "2026-11-23T10:10:00Z", ring_bytes: 10, ring_size_bytes: 100 } as InterfaceStatus;
    expect(forecast(one)).toBe(6_000_000);
    expect(forecast({ ...one, ring_bytes: 99 })).toBeNull();
    expect(forecast({ ...one, ring_to: "2026-11-23T10:00:30Z" })).toBeNull();
    expect(forecast({ ...one, ring_from: null })).toBeNull();
  });

  it("calls a ring too short only once it is full", () => {
    expect(standing({ verdict: "no", filling: true })).toBe("notYet");
    expect(standing({ verdict: "no", filling: false })).toBe("no");
    for (const filling of [true, false]) {
      expect(standing({ verdict: "barely", filling })).toBe("barely");
      expect(standing({ verdict: "yes", filling })).toBe("yes");
    }
  });

  it("says each standing of a source in a word of its own, and how far a filling ring has come", () => {
    for (const { lookback } of [en.source, ja.source]) {
      const words = Object.values(lookback.verdicts);
      expect(new Set(words).size).toBe(words.length);
    }
    expect(en.source.lookback.soFar("1 min", "5 min")).toBe("Still filling: 1 min of 5 min recorded so far");
    expect(ja.source.lookback.soFar("1 分", "5 分")).toBe("蓄積中: 必要な 5 分のうち 1 分を記録済み");
  });

  it("does not say an interface's name twice", () => {
    expect(withoutName("eth1: the ring holds no packet yet", "eth1")).toBe("the ring holds no packet yet");
    expect(withoutName("eth10: x", "eth1")).toBe("eth10: x");
    expect(withoutName("no segment", null)).toBe("no segment");
  });

  it("writes endpoints unambiguously", () => {
    expect(endpoint("192.0.2.1", 443)).toBe("192.0.2.1:443");
    expect(endpoint("2001:db8::1", 443)).toBe("[2001:db8::1]:443");
    expect(endpoint("2001:db8::1", null)).toBe("2001:db8::1");
    expect(firstOrder("first")).toBe("asc");
    expect(firstOrder("bytes")).toBe("desc");
  });
});
