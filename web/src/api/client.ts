import type { Drill, DrillBoard, Flows, FlowSort, Incident, Probe, ProbeBoard, ProbeFindings, Problem, Rates, Session, Status } from "./types";

/** A refusal by the server, or no answer at all (`status` 0, code `unreachable`). */
export class ApiError extends Error {
  readonly problem: Problem;
  readonly retryAfterSeconds: number | null;

  constructor(problem: Problem, retryAfterSeconds: number | null = null) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  get code(): string {
    return this.problem.code ?? "";
  }
}

/** Called when a request that needs a session is answered 401. */
let onExpired: () => void = () => {};

export function whenSessionExpires(action: () => void): void {
  onExpired = action;
}

export async function problemOf(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  let problem: Problem = { title: response.statusText, status: response.status };
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null) {
      problem = { ...problem, ...(parsed as Partial<Problem>), status: response.status };
    }
  } catch {
    // Not JSON: something between us and the server answered. The status line has to do.
  }
  const retry = Number(response.headers.get("Retry-After"));
  return new ApiError(problem, Number.isFinite(retry) && retry > 0 ? retry : null);
}

/** Longer than this a server that only has to say who we are does not take. */
const ANSWER_MS = 10_000;

/** `fetch` with the API's manners: refusals and network failures become `ApiError`. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError({ title: "", status: 0, code: "unreachable" });
  }
  if (response.ok) return response;
  if (response.status === 401 && !path.endsWith("/login") && !path.endsWith("/session")) onExpired();
  throw await problemOf(response);
}

async function json<T>(path: string, init?: RequestInit): Promise<T> {
  const response = await request(path, init);
  return (await response.json()) as T;
}

function post(body: unknown): RequestInit {
  return {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
}

/** A query string of the parameters that are set. */
export function query(parameters: Record<string, string | number | undefined | null>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, String(value));
  }
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

const incidentPath = (id: string): string => `/api/v1/incidents/${encodeURIComponent(id)}`;

export interface FreezeRequest {
  before?: string;
  after?: string;
  reason?: string;
  filter?: string;
}

export interface ExportOptions {
  format: "pcapng" | "pcap";
  filter?: string;
  from?: string;
  to?: string;
}

export const api = {
  session: () => json<Session>("/api/v1/session", { signal: AbortSignal.timeout(ANSWER_MS) }),
  login: (credentials: { user: string; password: string } | { link: string }) =>
    json<Session>("/api/v1/login", post(credentials)),
  logout: () => request("/api/v1/logout", { method: "POST" }),
  status: () => json<Status>("/api/v1/status"),
  incidents: (
    filter: { state?: string; grade?: string; q?: string; limit?: number },
    signal?: AbortSignal,
  ) => json<Incident[]>(`/api/v1/incidents${query(filter)}`, signal ? { signal } : {}),
  incident: (id: string) => json<Incident>(incidentPath(id)),
  probes: () => json<ProbeBoard>("/api/v1/probes"),
  probe: (name: string) => json<Probe>(`/api/v1/probes/${encodeURIComponent(name)}`),
  probesOf: (id: string) => json<ProbeFindings>(`${incidentPath(id)}/probes`),
  drills: () => json<DrillBoard>("/api/v1/drills"),
  drill: (source: string) => json<{ drills: Drill[] }>("/api/v1/drills", post({ source })),
  freeze: (wish: FreezeRequest) => json<{ incident: string }>("/api/v1/incidents", post(wish)),
  rates: (id: string, buckets: number) =>
    json<Rates>(`${incidentPath(id)}/timeline${query({ buckets })}`),
  flows: (
    id: string,
    options: { q?: string; sort: FlowSort; order: "asc" | "desc"; limit: number; offset: number },
    signal?: AbortSignal,
  ) => json<Flows>(`${incidentPath(id)}/flows${query(options)}`, signal ? { signal } : {}),
  pcapUrl: (id: string, options: ExportOptions) =>
    `${incidentPath(id)}/pcap${query({ ...options })}`,
  bundleUrl: (id: string) => `${incidentPath(id)}/bundle`,
  eventsUrl: "/api/v1/events",
};
