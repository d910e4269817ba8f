// The server's events: status every second, incidents as they change. Reconnects by itself.

import { parseInstant, toMs } from "../format/instant";
import { askSession } from "../session";
import { Store } from "../store";
import { api } from "./client";
import type { Drill, Incident, Status } from "./types";

/** Seconds of rates kept for the sparklines. */
export const HISTORY_SECONDS = 120;
/** The server sends a status every second; this long without one means the line is dead. */
const SILENCE_MS = 6000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

export interface Sample {
  at: number;
  packets: number;
  bytes: number;
  dropped: number;
}

export type Connection = "connecting" | "live" | "lost";

export const connection = new Store<Connection>("connecting");
export const status = new Store<Status | null>(null);
export const history = new Map<string, Sample[]>();
/** Server time minus browser time, in milliseconds. */
export const clockOffset = new Store(0);

type Changed = { incident: Incident } | { released: string } | { reconnected: true };
const changes = new Set<(change: Changed) => void>();

/** Calls back when an incident changed, went, or when changes may have been missed. */
export function onChange(listener: (change: Changed) => void): () => void {
  changes.add(listener);
  return () => changes.delete(listener);
}

const drills = new Set<(drill: Drill) => void>();

/** Calls back when a drill got on. */
export function onDrill(listener: (drill: Drill) => void): () => void {
  drills.add(listener);
  return () => drills.delete(listener);
}

function tell(change: Changed): void {
  for (const listener of [...changes]) listener(change);
}

export function takeStatus(next: Status): void {
  const now = parseInstant(next.now);
  if (now !== null) clockOffset.set(toMs(now) - Date.now());
  for (const one of next.interfaces) {
    const samples = history.get(one.name) ?? [];
    samples.push({
      at: now === null ? Date.now() : toMs(now),
      packets: one.packets_per_second,
      bytes: one.bytes_per_second,
      dropped: one.dropped_kernel + one.dropped_ring + one.dropped_iface,
    });
    history.set(one.name, samples.slice(-HISTORY_SECONDS));
  }
  status.set(next);
}

function parsed<T>(event: Event): T | null {
  try {
    return JSON.parse((event as MessageEvent<string>).data) as T;
  } catch {
    return null;
  }
}

/** Opens the event stream and keeps it open; returns the function that ends it. */
export function follow(): () => void {
  let source: EventSource | null = null;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let silence: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  let ended = false;

  const hear = (): void => {
    clearTimeout(silence);
    silence = setTimeout(fail, SILENCE_MS);
    if (connection.get() === "live") return;
    const before = connection.get();
    failures = 0;
    connection.set("live");
    if (before === "lost") tell({ reconnected: true });
  };

  const open = (): void => {
    source = new EventSource(api.eventsUrl);
    silence = setTimeout(fail, SILENCE_MS);
    source.addEventListener("status", (event) => {
      const next = parsed<Status>(event);
      if (!next) return;
      takeStatus(next);
      hear();
    });
    source.addEventListener("incident", (event) => {
      const incident = parsed<Incident>(event);
      if (incident) tell({ incident });
    });
    source.addEventListener("released", (event) => {
      const released = parsed<{ id: string }>(event);
      if (released) tell({ released: released.id });
    });
    source.addEventListener("drill", (event) => {
      const drill = parsed<Drill>(event);
      if (drill) for (const listener of [...drills]) listener(drill);
    });
    source.onerror = fail;
  };

  function fail(): void {
    source?.close();
    source = null;
    clearTimeout(silence);
    clearTimeout(retry);
    if (ended) return;
    connection.set("lost");
    const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 8000;
    failures += 1;
    retry = setTimeout(() => {
      // An EventSource cannot tell an ended session from a dead server; a plain request can.
      void askSession().then((known) => {
        if (ended || known === false) return;
        if (known === null) fail();
        else open();
      });
    }, wait);
  }

  open();
  return () => {
    ended = true;
    source?.close();
    clearTimeout(retry);
    clearTimeout(silence);
    connection.set("connecting");
  };
}
