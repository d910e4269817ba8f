// The shapes of docs/API.md. Times are RFC 3339 texts in UTC with nanoseconds.

export type Role = "viewer" | "analyst" | "admin";

export interface Session {
  user: string;
  role: Role;
  version: string;
}

export type InterfaceState = "running" | "down" | "absent" | "failed" | "finished";

export interface InterfaceStatus {
  name: string;
  state: InterfaceState;
  why?: string | null;
  since: string;
  received: number;
  written: number;
  written_bytes: number;
  dropped_kernel: number;
  dropped_ring: number;
  dropped_iface: number;
  /** Absent from an older recorder, as is `filtered`. */
  truncated?: number;
  filtered?: number;
  longest_gap_ns?: number;
  packets_per_second: number;
  bytes_per_second: number;
  ring_from: string | null;
  ring_to: string | null;
  ring_bytes: number;
  ring_size_bytes: number;
  ring_segments: number;
  slots_free: number;
  slots: number;
  disk_error?: string | null;
  accounting_error?: string | null;
  filter: string;
  snaplen: number;
  foreign_files: number;
}

export interface SourceStatus {
  kind: Kind;
  name: string;
  state: "ok" | "failing" | "stopped";
  detail: string;
  triggers: number;
  /** What is zero is left out. */
  counters?: Record<string, number>;
  /** What is declared, and what was seen; absent while too little was. */
  lateness?: { declared_ns?: number; median_ns?: number; p95_ns?: number; worst_ns?: number; events: number };
  /** Whether an alert would still find its packets; null while nothing is recorded. */
  lookback?: Lookback | null;
  /** Incidents for whose packets it came too late. */
  too_late?: number;
}

export interface Lookback {
  verdict: "yes" | "barely" | "no";
  need_ns: number;
  span_ns: number;
  margin_ns: number;
  interface: string;
  filling: boolean;
}

export interface MaintenanceStatus {
  name: string;
  effect: "silence" | "precursor";
  active: boolean;
  triggers: number;
}

/** Somebody who is told of incidents and troubles. */
export interface TargetStatus {
  name: string;
  kind: string;
  state: "ok" | "failing";
  sent: number;
  /** Refused for good. */
  failed: number;
  /** The oldest of a full queue. */
  dropped: number;
  waiting: number;
  last_sent: string | null;
  last_error: string | null;
}

export interface Status {
  now: string;
  version: string;
  interfaces: InterfaceStatus[];
  recorder: {
    reachable: boolean;
    pid: number | null;
    started: string | null;
    version: string | null;
    error: string | null;
  };
  server: {
    pid: number;
    started: string;
    incidents: number;
    collecting: number;
    evidence_bytes: number;
    evidence_quota_bytes: number;
    sources: SourceStatus[];
    maintenance?: MaintenanceStatus[];
    /** Absent from an older server. */
    notify?: TargetStatus[];
  };
  clock: {
    synchronised: boolean;
    offset_bound_ns: number | null;
    source: string;
    /** How often the clock was set since the recorder started, and the last few times. */
    steps_total?: number;
    steps?: { from: string; to: string; step_ns: number }[];
  };
  /** Null where the file system cannot be asked. */
  disk: { path: string; free_bytes: number | null; total_bytes: number | null };
}

export type Kind =
  | "manual"
  | "probe"
  | "syslog"
  | "logfile"
  | "journal"
  | "webhook"
  | "trap"
  | "symptom"
  | "drill";

export type IncidentState = "collecting" | "sealing" | "sealed";
export type Grade = "incident" | "precursor";
export type Verdict = "complete" | "incomplete" | "pending";

export interface TimeWindow {
  from: string;
  to: string;
}

export interface Reason {
  code: string;
  interface?: string | null;
  text: string;
}

export interface Gap {
  interface: string;
  from: string;
  to: string;
  cause: string;
}

export interface TimelineEntry {
  at: string;
  received: string;
  kind: Kind;
  source: string;
  text: string;
  /** A line that is not a trigger. A promotion's text is the id of the fault's incident. */
  grade?: Grade;
  note?: "resolved" | "promoted" | null;
  /** The event claimed a time that is not believed. */
  doubt?: { clock: "future" | "past"; claimed: string } | null;
}

export interface InterfaceShare {
  name: string;
  packets: number;
  bytes: number;
  covered: TimeWindow | null;
  counters: {
    received: number;
    written: number;
    written_bytes: number;
    dropped_kernel: number;
    dropped_ring: number;
    dropped_iface: number;
    truncated?: number;
    filtered?: number;
  };
  segments: number;
}

export interface Incident {
  id: string;
  state: IncidentState;
  grade: Grade;
  subject: string;
  trigger: { kind: Kind; source: string; at: string; text: string };
  triggers: number;
  window: TimeWindow;
  covered: TimeWindow | null;
  packets: number;
  bytes: number;
  opened: string;
  sealed?: string | null;
  /** When its source last said that it is over; a later trigger may have followed. */
  resolved?: string | null;
  first_sign?: { at: string; incident: string } | null;
  rule?: string | null;
  fields: Record<string, string>;
  suggested_filter?: string | null;
  completeness: { verdict: Verdict; reasons: Reason[]; gaps: Gap[] };
  interfaces: InterfaceShare[];
  timeline: TimelineEntry[];
}

export interface Rates {
  from: string;
  to: string;
  bucket_ns: number;
  interfaces: { name: string; packets: number[]; bytes: number[] }[];
  provisional: boolean;
}

export interface Flow {
  interface: string;
  protocol: string;
  src: string;
  src_port: number | null;
  dst: string;
  dst_port: number | null;
  first: string;
  last: string;
  packets_to: number;
  packets_back: number;
  bytes_to: number;
  bytes_back: number;
  tcp_flags: string;
  syn_unanswered: number;
  rst: number;
  retransmissions: number;
}

export type FlowSort =
  | "first"
  | "last"
  | "packets"
  | "bytes"
  | "syn_unanswered"
  | "rst"
  | "retransmissions";

export interface Flows {
  total: number;
  indexed: boolean;
  flows: Flow[];
}

/** Seconds. */
export interface Quantiles {
  min: number;
  p10: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

export interface ProbeFigures {
  window: string;
  from: string | null;
  sent: number;
  lost: number;
  unsent: number;
  /** 0 to 1; null when nothing was sent. */
  loss: number | null;
  bursts: number;
  longest_burst: number;
  rtt: Quantiles | null;
  ipdv_p95: number | null;
}

export interface ProbeBin {
  from: string;
  sent: number;
  lost: number;
  unsent: number;
  rtt: Quantiles | null;
}

export interface Probe {
  name: string;
  kind: "icmp" | "tcp" | "dns";
  target: string;
  address: string | null;
  interval_ns: number;
  state: "ok" | "failing" | "stopped";
  detail: string;
  counts: Record<string, number>;
  windows: ProbeFigures[];
  jitter: number | null;
  ttl: number | null;
  ttl_changed: string | null;
  errors: { by: string | null; error: string; count: number; last: string }[];
  /** Only of one probe. */
  history?: ProbeBin[];
}

export type PointHealth = "answers" | "loses" | "limited" | "unknown";

export interface ProbePath {
  name: string;
  points: { probe: string; health: PointHealth }[];
  loss_begins: number | null;
  text: string | null;
}

export interface ProbeBoard {
  now: string;
  probes: Probe[];
  paths: ProbePath[];
}

export type ProbeVerdict = "not_sent" | "left_no_reply" | "left_refused" | "reply_passed" | "only_reply" | "not_seen" | "never_seen";

export interface ProbeFinding {
  seq: number;
  sent: string;
  verdict: ProbeVerdict;
  left: string | null;
  reply: string | null;
  refused: [string, string] | null;
  interface: string | null;
  text: string;
}

export interface ProbeFindings {
  target: string | null;
  findings: ProbeFinding[];
  provisional: boolean;
}

export type DrillOutcome = "running" | "passed" | "failed" | "interrupted";

export interface Drill {
  id: string;
  kind: Kind;
  source: string;
  /** `schedule` or an account. */
  asked_by: string;
  started: string;
  ended?: string | null;
  outcome: DrillOutcome;
  why?: string | null;
  failed_at?: string | null;
  incident?: string | null;
  steps: { step: string; after_ns: number; detail?: string }[];
  sighting?: { at: string; interface: string; after_ns: number } | null;
  notes?: string[];
}

export interface Drillable {
  kind: Kind;
  name: string;
  cannot: string | null;
}

export interface DrillBoard {
  sources: Drillable[];
  next: string | null;
  /** Newest first. */
  drills: Drill[];
}

/** RFC 9457. */
export interface Problem {
  title: string;
  status: number;
  detail?: string;
  code?: string;
}
