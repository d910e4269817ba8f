// A stand-in for the server while the interface is being developed: it answers in the shapes of
// docs/API.md, with invented data, and serves ../dist under the real Content-Security-Policy. It
// is not shipped and knows nothing about packets. See ../README.md.
//
//   node dev/fixture.mjs [--port 8650] [--scenario normal|empty|trouble|away]

import { randomBytes } from "node:crypto";
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const arguments_ = process.argv.slice(2);
const option = (name, fallback) => {
  const at = arguments_.indexOf(`--${name}`);
  return at === -1 ? fallback : (arguments_[at + 1] ?? fallback);
};
const PORT = Number(option("port", "8650"));
const SCENARIO = option("scenario", "normal");
const DIST = join(dirname(fileURLToPath(import.meta.url)), "..", "dist");

const USER = "admin";
const PASSWORD = "correct horse";
const VERSION = "0.1.0";
const POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
const MINUTE = 60_000;
const started = Date.now() - 3 * 60 * MINUTE;

// --- invented data -----------------------------------------------------------------------------

// A fixed seed: every run shows the same flows.
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const iso = (ms, ns = 0) => new Date(ms).toISOString().replace("Z", `${String(ns).padStart(6, "0")}Z`);

function idOf(ms) {
  const stamp = new Date(ms).toISOString().replace(/[-:]/g, "").slice(0, 15);
  return `${stamp}Z-${randomBytes(3).toString("hex")}`;
}

const INTERFACES = SCENARIO === "empty" ? [] : ["eth1", "eth2"];

function interfaceStatus(name, i, now) {
  const absent = SCENARIO === "trouble" && i === 1;
  const wave = 1 + 0.35 * Math.sin(now / 9000 + i * 2) + 0.15 * Math.sin(now / 1700);
  const rate = absent ? 0 : (i === 0 ? 8420 : 61.5) * wave;
  const lost = SCENARIO === "trouble" && i === 0 ? 1234 + Math.floor((now - started) / 400) : 0;
  return {
    name: SCENARIO === "trouble" && i === 0 ? "enp129s0f1np1-mirror" : name,
    state: absent ? "absent" : "running",
    why: absent ? "no interface of this name" : null,
    since: iso(absent ? now - 7 * MINUTE : started, 4211),
    received: absent ? 0 : Math.floor(((now - started) / 1000) * (i === 0 ? 8420 : 61.5)),
    written: absent ? 0 : Math.floor(((now - started) / 1000) * (i === 0 ? 8420 : 61.5)) - lost,
    written_bytes: absent ? 0 : Math.floor((now - started) * (i === 0 ? 5120 : 22)),
    dropped_kernel: lost,
    dropped_ring: lost === 0 ? 0 : 17,
    dropped_iface: 0,
    truncated: lost === 0 ? 0 : 5120,
    filtered: lost === 0 ? 0 : 88_210,
    longest_gap_ns: 1_804_211,
    packets_per_second: rate,
    bytes_per_second: rate * 612,
    ring_from: absent ? null : iso(i === 0 ? now - 192 * MINUTE : now - 24 * MINUTE, 123_456),
    ring_to: absent ? null : iso(now - 700, 7),
    ring_bytes: absent ? 0 : i === 0 ? 107_374_182_400 * 0.99 : 3_221_225_472,
    ring_size_bytes: 107_374_182_400,
    ring_segments: absent ? 0 : 812,
    slots_free: 15,
    slots: 16,
    disk_error: null,
    filter: SCENARIO === "trouble" && i === 0 ? "not port 22" : "",
    snaplen: SCENARIO === "trouble" ? 128 : 262_144,
    foreign_files: SCENARIO === "trouble" && i === 0 ? 2 : 0,
  };
}

const S = 1_000_000_000;
// In the scenario of trouble the ring is full and still too short.
const lookback = (verdict, need, span) => ({ verdict, need_ns: need * S, span_ns: span * S, margin_ns: (span - need) * S, interface: "eth2", filling: SCENARIO !== "trouble" });
const lateness = (median, p95, worst, declared) => ({ ...(declared && { declared_ns: declared * S }), median_ns: median * S, p95_ns: p95 * S, worst_ns: worst * S, events: 812 });

const SOURCES =
  SCENARIO === "empty"
    ? []
    : [
        { kind: "probe", name: "provider-edge", state: "ok", detail: "203.0.113.1 1.2 ms", triggers: 2, counters: { sent: 10_812, received: 10_799, lost: 13, silenced: 1 }, lookback: lookback("yes", 303, 1440) },
        { kind: "probe", name: "branch-osaka", state: "failing", detail: "198.51.100.20: 3 of the last 5 lost", triggers: 5 },
        { kind: "syslog", name: "udp://127.0.0.1:5514", state: "ok", detail: "1 rule, 18,220 messages seen", triggers: 12, counters: { received: 18_220, matched: 12, future: 3 }, lateness: lateness(0.45, 1.2, 9), lookback: lookback("yes", 301, 1440) },
        { kind: "logfile", name: "/var/log/app/error.log", state: "failing", detail: "no such file; it is read as soon as it is there", triggers: 0, lateness: { events: 0 }, lookback: null },
        { kind: "webhook", name: "prometheus", state: "ok", detail: "alertmanager", triggers: 3, lateness: lateness(90, 640, 3900, 120), lookback: lookback("barely", 940, 1440) },
        { kind: "webhook", name: "carrier-portal", state: "ok", detail: "last call yesterday", triggers: 2, lateness: lateness(2400, 5400, 7200), lookback: lookback("no", 5700, 1440), too_late: 2 },
      ];

const TARGETS =
  SCENARIO === "empty"
    ? []
    : [
        { name: "ops", kind: "slack", state: "ok", sent: 18, failed: 0, dropped: 0, waiting: 0, last_sent: "2026-11-23T10:02:12.481000000Z", last_error: null },
        { name: "noc", kind: "email", state: "failing", sent: 11, failed: 2, dropped: 0, waiting: 7, last_sent: null, last_error: "Connection error: failed to connect: Connection refused (os error 111)" },
        { name: "siem", kind: "syslog", state: "ok", sent: 0, failed: 0, dropped: 0, waiting: 0, last_sent: null, last_error: null },
      ];

function status() {
  const now = Date.now();
  return {
    now: iso(now, 118_004),
    version: VERSION,
    interfaces: SCENARIO === "away" ? [] : INTERFACES.map((name, i) => interfaceStatus(name, i, now)),
    recorder:
      SCENARIO === "away"
        ? { reachable: false, pid: null, started: null, version: null, error: "connect to /var/lib/wirewitness/ring/control.sock: Connection refused (os error 111)" }
        : { reachable: true, pid: 812, started: iso(started), version: VERSION, error: null },
    server: {
      pid: 813,
      started: iso(started),
      incidents: incidents.length,
      collecting: incidents.filter((one) => one.state === "collecting").length,
      evidence_bytes: 48_318_382_080,
      evidence_quota_bytes: 214_748_364_800,
      sources: SOURCES,
      maintenance: SCENARIO === "empty" ? [] : [{ name: "provider's night", effect: "silence", active: true, triggers: 1 }],
      notify: TARGETS,
    },
    clock: SCENARIO === "trouble" ? { synchronised: false, offset_bound_ns: null, source: "ntp", steps_total: 1, steps: [{ from: iso(now - 3 * MINUTE), to: iso(now - 5 * MINUTE), step_ns: -120_000_000_000 }] } : { synchronised: true, offset_bound_ns: 412_000, source: "chrony 192.0.2.1 stratum 3", steps_total: 0, steps: [] },
    disk: { path: "/var/lib/wirewitness", free_bytes: SCENARIO === "trouble" ? 9_126_805_504 : 812_126_805_504, total_bytes: 1_000_204_886_016 },
  };
}

const NO_COUNTERS = { received: 0, written: 0, written_bytes: 0, dropped_kernel: 0, dropped_ring: 0, dropped_iface: 0 };

function share(name, packets, covered, lost = 0) {
  return {
    name,
    packets,
    bytes: packets * 612,
    covered,
    counters: { ...NO_COUNTERS, received: packets + lost, written: packets, written_bytes: packets * 612, dropped_kernel: lost },
    segments: Math.ceil(packets / 20_000),
  };
}

function sealed(minutesAgo, trigger, extra = {}) {
  const at = Date.now() - minutesAgo * MINUTE;
  const window = { from: iso(at - 5 * MINUTE, 204_117), to: iso(at + MINUTE, 204_117) };
  const packets = extra.packets ?? 2_894_112;
  return {
    id: idOf(at),
    state: "sealed",
    grade: "incident",
    subject: trigger.subject,
    trigger: { kind: trigger.kind, source: trigger.source, at: iso(at, 204_117), text: trigger.text },
    triggers: extra.triggers ?? 1,
    window,
    covered: window,
    packets,
    bytes: packets * 612,
    opened: iso(at + 300, 5512),
    sealed: iso(at + MINUTE + 2300, 90_001),
    rule: null,
    fields: {},
    suggested_filter: null,
    completeness: { verdict: "complete", reasons: [], gaps: [] },
    interfaces: [share("eth1", packets - 20_100, window), share("eth2", 20_100, window)],
    timeline: [{ at: iso(at, 204_117), received: iso(at + 240, 88), kind: trigger.kind, source: trigger.source, text: trigger.text }],
    ...extra,
  };
}

function examples() {
  if (SCENARIO === "empty") return [];
  const list = [
    sealed(12, { kind: "probe", source: "branch-osaka", subject: "branch-osaka (198.51.100.20)", text: "3 of the last 5 echo requests to 198.51.100.20 were lost" }, { suggested_filter: "host 198.51.100.20", triggers: 4 }),
    sealed(55, { kind: "webhook", source: "prometheus", subject: "InstanceDown erp.example.net:443", text: "erp.example.net:443 of job blackbox has been down for more than 1 minute." }, { fields: { instance: "erp.example.net:443", severity: "critical" }, suggested_filter: "host 192.0.2.44 and port 443", rule: "alerts" }),
    sealed(131, { kind: "syslog", source: "udp://127.0.0.1:5514", subject: "<img src=x onerror=alert(1)>", text: "<script>alert('x')</script> \u202egnp.exe \u0007 ERROR peer=192.0.2.9 \u001b[31mred" }, { rule: "errors", fields: { peer: "192.0.2.9" } }),
    sealed(300, { kind: "logfile", source: "/var/log/app/error.log", subject: "支社 VPN が切断されました（拠点: 大阪・トンネル 3）", text: "ERROR 支社 VPN が切断されました peer=198.51.100.20 理由=DPD タイムアウト" }, { grade: "precursor", packets: 41_220 }),
    sealed(1500, { kind: "syslog", source: "tcp://0.0.0.0:6514", subject: "شبكة الفرع غير متاحة: العبّارة لا تستجيب", text: "شبكة الفرع غير متاحة" }),
    sealed(4000, { kind: "trap", source: "core-switch", subject: `linkDown ${"GigabitEthernet1/0/24-".repeat(10)}end`, text: "A very long subject without a single space" }, { triggers: 10_000 }),
  ];
  const at = Date.parse(list[1].trigger.at);
  const first = list[1].window;
  list[1].completeness = {
    verdict: "incomplete",
    reasons: [
      { code: "dropped_kernel", interface: "eth1", text: "the kernel had no buffer for 1,204 packets between 10:02:11 and 10:02:14" },
      { code: "gap", interface: "eth2", text: "nothing was recorded for 42 s: the interface was down" },
      { code: "rotated", text: "the first 30 s of the window had already left the ring" },
    ],
    gaps: [{ interface: "eth2", from: iso(at - 100_000), to: iso(at - 58_000), cause: "interface_down" }],
  };
  list[1].covered = { from: iso(Date.parse(first.from) + 30_000), to: first.to };
  list[1].interfaces = [share("eth1", 2_874_012, list[1].covered, 1204), share("eth2", 20_100, list[1].covered)];
  list[5].timeline = Array.from({ length: 100 }, (_, i) => ({ ...list[5].timeline[0], at: iso(Date.parse(list[5].trigger.at) + i * 70), received: iso(Date.parse(list[5].trigger.at) + i * 70 + (i % 7 === 0 ? 4100 : 30)), text: `linkDown ifIndex=${i}` }));
  list[0].timeline = [0, 8, 21, 44].map((s) => ({ ...list[0].timeline[0], at: iso(Date.parse(list[0].trigger.at) + s * 1000, 33), received: iso(Date.parse(list[0].trigger.at) + s * 1000 + 210), ...(s === 8 && { doubt: { clock: "past", claimed: "2020-01-01T00:00:07.000000000Z" } }) }));
  return list;
}

const incidents = examples();

function flowsOf(incident) {
  const random = generator(incident.id.length * 7919 + incident.packets);
  const total = incident.triggers >= 10_000 ? 100_000 : 137;
  const from = Date.parse(incident.window.from);
  const length = Date.parse(incident.window.to) - from;
  const pick = (list) => list[Math.floor(random() * list.length)];
  return Array.from({ length: total }, (_, i) => {
    const protocol = pick(["tcp", "tcp", "tcp", "udp", "udp", "icmp", "arp"]);
    const six = random() < 0.12 && protocol !== "arp";
    const ports = protocol === "tcp" || protocol === "udp";
    const begin = from + random() * length * 0.9;
    const amount = Math.floor(10 ** (random() * 5)) + 1;
    const silent = protocol === "tcp" && random() < 0.12;
    const back = silent ? 0 : Math.floor(amount * random());
    const address = (last) => (six ? `2001:db8:0:${Math.floor(random() * 9)}::${last.toString(16)}` : `192.0.2.${last}`);
    return {
      interface: pick(INTERFACES),
      protocol: six && protocol === "icmp" ? "icmpv6" : protocol,
      src: address(1 + (i % 250)),
      src_port: ports ? 32_768 + Math.floor(random() * 28_000) : null,
      dst: six ? address(2) : `198.51.100.${1 + Math.floor(random() * 250)}`,
      dst_port: ports ? pick([443, 53, 80, 22, 3389, 8443]) : null,
      first: iso(Math.floor(begin), Math.floor(random() * 999_999)),
      last: iso(Math.floor(begin + random() * (from + length - begin)), Math.floor(random() * 999_999)),
      packets_to: amount,
      packets_back: back,
      bytes_to: amount * 412,
      bytes_back: back * 988,
      tcp_flags: protocol !== "tcp" ? "" : silent ? "S" : "SAFP",
      syn_unanswered: silent ? 1 + (i % 4) : 0,
      rst: protocol === "tcp" && !silent && random() < 0.1 ? 1 : 0,
      retransmissions: protocol === "tcp" && random() < 0.15 ? Math.ceil(random() * 40) : 0,
    };
  });
}

const flowCache = new Map();

function ratesOf(incident, buckets) {
  const random = generator(incident.packets + 17);
  const from = Date.parse(incident.window.from);
  const to = Date.parse(incident.window.to);
  const width = (to - from) / buckets;
  const until = Math.min(Date.now(), to);
  const hidden = (ms, name) =>
    ms > until ||
    (incident.covered && (ms < Date.parse(incident.covered.from) || ms > Date.parse(incident.covered.to))) ||
    incident.completeness.gaps.some((gap) => gap.interface === name && ms >= Date.parse(gap.from) && ms < Date.parse(gap.to));
  const at = Date.parse(incident.trigger.at);
  return {
    from: incident.window.from,
    to: incident.window.to,
    bucket_ns: Math.round(width * 1e6),
    interfaces: INTERFACES.map((name, i) => {
      const packets = Array.from({ length: buckets }, (_, n) => {
        const ms = from + n * width;
        if (hidden(ms, name)) return 0;
        const dip = i === 0 && ms > at - 4000 && ms < at + 20_000 ? 0.15 : 1;
        return Math.round((i === 0 ? 8400 : 2100) * (width / 1000) * dip * (0.8 + 0.4 * random()));
      });
      return { name, packets, bytes: packets.map((n) => n * 612) };
    }),
    provisional: incident.state !== "sealed",
  };
}

// --- a freeze runs through its states -------------------------------------------------------------

const listeners = new Set();

function send(event, data) {
  for (const response of listeners) response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

function spanMs(text, fallback) {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text ?? "");
  return match ? Number(match[1]) * { ms: 1, s: 1000, m: MINUTE, h: 60 * MINUTE }[match[2]] : fallback;
}

function freeze(body) {
  const at = Date.now();
  const window = { from: iso(at - spanMs(body.before, 5 * MINUTE), 1), to: iso(at + spanMs(body.after, MINUTE), 1) };
  const text = body.reason ?? "";
  const incident = {
    id: idOf(at),
    state: "collecting",
    grade: "incident",
    subject: text || "manual freeze by admin",
    trigger: { kind: "manual", source: USER, at: iso(at, 1), text },
    triggers: 1,
    window,
    covered: null,
    packets: 0,
    bytes: 0,
    opened: iso(at, 400_000),
    fields: {},
    suggested_filter: body.filter,
    completeness: { verdict: "pending", reasons: [], gaps: [] },
    interfaces: [],
    timeline: [{ at: iso(at, 1), received: iso(at, 2), kind: "manual", source: USER, text }],
  };
  incidents.unshift(incident);
  send("incident", incident);
  setTimeout(() => {
    incident.state = "sealing";
    send("incident", incident);
    setTimeout(() => {
      Object.assign(incident, {
        state: "sealed",
        covered: window,
        packets: 271_004,
        bytes: 271_004 * 612,
        sealed: iso(Date.now(), 77),
        completeness: { verdict: "complete", reasons: [], gaps: [] },
        interfaces: INTERFACES.map((name) => share(name, 135_502, window)),
      });
      send("incident", incident);
    }, 1200);
  }, Date.parse(window.to) - at);
  return incident;
}

setInterval(() => send("status", status()), 1000);

// --- a small, valid pcapng ---------------------------------------------------------------------------

function block(type, body) {
  const length = 12 + body.length;
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(length, 4);
  body.copy(bytes, 8);
  bytes.writeUInt32LE(length, length - 4);
  return bytes;
}

function pcapng() {
  const header = Buffer.alloc(16, 0xff);
  header.writeUInt32LE(0x1a2b3c4d, 0);
  header.writeUInt16LE(1, 4);
  header.writeUInt16LE(0, 6);
  const description = Buffer.alloc(8);
  description.writeUInt16LE(1, 0);
  description.writeUInt32LE(262_144, 4);
  const packet = Buffer.alloc(20 + 60);
  packet.writeUInt32LE(60, 12);
  packet.writeUInt32LE(60, 16);
  return Buffer.concat([block(0x0a0d0d0a, header), block(1, description), block(6, packet)]);
}

// --- HTTP ----------------------------------------------------------------------------------------

const sessions = new Set();
const links = new Set(["one-time-code", ...Array.from({ length: 40 }, (_, i) => `link-${i}`)]);
let failures = 0;

function reply(response, code, body, headers = {}) {
  const type = code >= 400 ? "application/problem+json" : "application/json";
  response.writeHead(code, { "Content-Type": type, "Cache-Control": "no-store", ...headers });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

function problem(response, code, name, detail, headers) {
  reply(response, code, { type: "about:blank", title: name, status: code, detail, code: name }, headers);
}

function bodyOf(request) {
  return new Promise((resolve) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      try {
        resolve(JSON.parse(Buffer.concat(parts).toString() || "{}"));
      } catch {
        resolve({});
      }
    });
  });
}

// Not a parser: only enough to answer as libpcap would to what the tests type.
const wrongFilter = (filter) => /\b(and|or|not)\s+(and|or|port\s*$|$)|^(and|or)\b|host\s*$/.test(filter ?? "");
const LIBPCAP = 'can\'t parse filter expression: syntax error (filter "%s")';

async function login(request, response) {
  const body = await bodyOf(request);
  const good = body.link ? links.delete(body.link) : body.user === USER && body.password === PASSWORD;
  if (!good) {
    failures += 1;
    if (failures > 5) return problem(response, 429, "too_many_attempts", "too many failed logins from this address", { "Retry-After": "60" });
    return problem(response, 401, "bad_credentials", "user or password is wrong, or the link was used");
  }
  failures = 0;
  const token = randomBytes(16).toString("hex");
  sessions.add(token);
  reply(response, 200, { user: USER, role: "admin", version: VERSION }, { "Set-Cookie": `session=${token}; HttpOnly; SameSite=Strict; Path=/` });
}

function download(response, name, type, body) {
  response.writeHead(200, { "Content-Type": type, "Content-Length": body.length, "Content-Disposition": `attachment; filename="${name}"` });
  response.end(body); // for HEAD node leaves the body out
}

function oneIncident(response, incident, verb, parameters) {
  switch (verb) {
    case undefined:
      return reply(response, 200, incident);
    case "timeline":
      return reply(response, 200, ratesOf(incident, Number(parameters.get("buckets") ?? 300)));
    case "flows": {
      if (incident.state !== "sealed") return reply(response, 200, { total: 0, indexed: false, flows: [] });
      if (!flowCache.has(incident.id)) flowCache.set(incident.id, flowsOf(incident));
      const q = parameters.get("q") ?? "";
      const sort = parameters.get("sort") ?? "first";
      const sign = parameters.get("order") === "desc" ? -1 : 1;
      const value = { packets: (f) => f.packets_to + f.packets_back, bytes: (f) => f.bytes_to + f.bytes_back }[sort] ?? ((f) => f[sort]);
      const found = flowCache.get(incident.id).filter((f) => [f.protocol, f.src, f.dst, f.src_port, f.dst_port].join(" ").includes(q));
      found.sort((a, b) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
      const offset = Number(parameters.get("offset") ?? 0);
      return reply(response, 200, { total: found.length, indexed: true, flows: found.slice(offset, offset + Number(parameters.get("limit") ?? 100)) });
    }
    case "pcap": {
      const filter = parameters.get("filter");
      if (wrongFilter(filter)) return problem(response, 400, "bad_filter", LIBPCAP.replace("%s", filter));
      if (filter === "host 10.9.9.9") return problem(response, 404, "nothing_to_give", "271,004 packets lie in the window; none matches the filter");
      return download(response, `wirewitness-${incident.id}.pcapng`, "application/x-pcapng", pcapng());
    }
    case "bundle":
      return download(response, `wirewitness-${incident.id}.tar`, "application/x-tar", Buffer.alloc(10_240));
    default:
      return problem(response, 404, "no_such_route", verb);
  }
}

async function handle(request, response) {
  const url = new URL(request.url, "http://fixture");
  const path = url.pathname;
  if (!path.startsWith("/api/")) return file(response, path);
  if (path === "/api/v1/login") return login(request, response);
  const token = /session=([0-9a-f]+)/.exec(request.headers.cookie ?? "")?.[1] ?? "";
  if (!sessions.has(token)) return problem(response, 401, "no_session", "log in first");
  if (path === "/api/v1/session") return reply(response, 200, { user: USER, role: "admin", version: VERSION });
  if (path === "/api/v1/logout") {
    sessions.delete(token);
    return reply(response, 204);
  }
  if (path === "/api/v1/status") return reply(response, 200, status());
  if (path === "/api/v1/events") {
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    listeners.add(response);
    request.on("close", () => listeners.delete(response));
    send("status", status());
    return undefined;
  }
  if (path === "/api/v1/incidents" && request.method === "POST") {
    const body = await bodyOf(request);
    if (wrongFilter(body.filter)) return problem(response, 400, "bad_filter", LIBPCAP.replace("%s", body.filter));
    return reply(response, 202, { incident: freeze(body).id });
  }
  if (path === "/api/v1/incidents") {
    const [state, grade, q] = ["state", "grade", "q"].map((name) => url.searchParams.get(name));
    const found = incidents.filter((one) => (!state || one.state === state) && (!grade || one.grade === grade) && (!q || JSON.stringify([one.subject, one.trigger]).toLowerCase().includes(q.toLowerCase())));
    return reply(response, 200, found.slice(0, Number(url.searchParams.get("limit") ?? 100)));
  }
  const [, id, verb] = /^\/api\/v1\/incidents\/([^/]+)(?:\/([a-z]+))?$/.exec(path) ?? [];
  const incident = incidents.find((one) => one.id === decodeURIComponent(id ?? ""));
  if (!incident) return problem(response, 404, "no_such_incident", `there is no incident ${id ?? path}`);
  return oneIncident(response, incident, verb, url.searchParams);
}

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

function file(response, path) {
  const name = join(DIST, normalize(path === "/" ? "/index.html" : path));
  if (!name.startsWith(DIST) || !existsSync(name) || !statSync(name).isFile()) return problem(response, 404, "not_found", path);
  response.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "application/octet-stream", "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff" });
  createReadStream(name).pipe(response);
  return undefined;
}

createServer((request, response) => {
  handle(request, response).catch?.((error) => problem(response, 500, "fixture", String(error)));
}).listen(PORT, "127.0.0.1", () => {
  process.stdout.write(`http://127.0.0.1:${PORT}/#login=one-time-code  (or ${USER} / ${PASSWORD}), scenario ${SCENARIO}\n`);
});
