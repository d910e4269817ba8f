// Instants are nanoseconds since the epoch as bigint: a JavaScript number holds only microseconds.

import type { Zone } from "../settings";

export type Ns = bigint;

const MS = 1_000_000n;
const RFC3339 =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$/;

/** Nanoseconds of an RFC 3339 text, or null. */
export function parseInstant(text: string | null | undefined): Ns | null {
  const match = text ? RFC3339.exec(text.trim()) : null;
  if (!match) return null;
  const [, year, month, day, hour, minute, second, fraction = "", offset = "Z"] = match;
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}${offset.toUpperCase()}`;
  const ms = Date.parse(iso);
  if (Number.isNaN(ms)) return null;
  return BigInt(ms) * MS + BigInt(fraction.padEnd(9, "0"));
}

/** Milliseconds since the epoch, for arithmetic where they are enough. */
export function toMs(at: Ns): number {
  return Number(at / MS);
}

export function fromMs(ms: number): Ns {
  return BigInt(Math.round(ms)) * MS;
}

/** RFC 3339 in UTC with nanoseconds, as the API takes it. */
export function toRfc3339(at: Ns): string {
  const seconds = new Date(toMs(at)).toISOString().slice(0, 19);
  return `${seconds}.${fractionOf(at, 9)}Z`;
}

function fractionOf(at: Ns, digits: number): string {
  const ns = ((at % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return ns.toString().padStart(9, "0").slice(0, digits);
}

const two = (n: number): string => String(n).padStart(2, "0");

/** `UTC`, `UTC+9`, `UTC−3:30`: the zone that holds at that instant. */
export function zoneLabel(zone: Zone, at: Ns): string {
  if (zone === "utc") return "UTC";
  const minutes = -new Date(toMs(at)).getTimezoneOffset();
  if (minutes === 0) return "UTC±0";
  const size = Math.abs(minutes);
  const rest = size % 60 === 0 ? "" : `:${two(size % 60)}`;
  return `UTC${minutes < 0 ? "−" : "+"}${Math.floor(size / 60)}${rest}`;
}

export interface Written {
  date: string;
  time: string;
  zone: string;
}

/** Date and time of day as written in the zone; ISO order, which every language reads. */
export function writeInstant(at: Ns, zone: Zone, digits: 0 | 3 | 6 | 9 = 0): Written {
  const d = new Date(toMs(at));
  const utc = zone === "utc";
  const year = utc ? d.getUTCFullYear() : d.getFullYear();
  const month = (utc ? d.getUTCMonth() : d.getMonth()) + 1;
  const day = utc ? d.getUTCDate() : d.getDate();
  const hour = utc ? d.getUTCHours() : d.getHours();
  const minute = utc ? d.getUTCMinutes() : d.getMinutes();
  const second = utc ? d.getUTCSeconds() : d.getSeconds();
  const fraction = digits === 0 ? "" : `.${fractionOf(at, digits)}`;
  return {
    date: `${String(year).padStart(4, "0")}-${two(month)}-${two(day)}`,
    time: `${two(hour)}:${two(minute)}:${two(second)}${fraction}`,
    zone: zoneLabel(zone, at),
  };
}

const TYPED =
  /^(?:(\d{4})-(\d{1,2})-(\d{1,2})[T ]+)?(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?$/;

/**
 * A time as people type it: RFC 3339, or `[YYYY-MM-DD ]HH:MM[:SS[.fraction]]` in the shown zone;
 * a missing date is that of `near`.
 */
export function parseTyped(text: string, zone: Zone, near: Ns): Ns | null {
  const exact = parseInstant(text);
  if (exact !== null) return exact;
  const match = TYPED.exec(text.trim());
  if (!match) return null;
  const [, year, month, day, hour, minute, second = "0", fraction = ""] = match;
  const base = writeInstant(near, zone).date.split("-").map(Number);
  const y = Number(year ?? base[0]);
  const mo = Number(month ?? base[1]);
  const d = Number(day ?? base[2]);
  const [h, mi, s] = [Number(hour), Number(minute), Number(second)];
  if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || s > 59) return null;
  const ms =
    zone === "utc" ? Date.UTC(y, mo - 1, d, h, mi, s) : new Date(y, mo - 1, d, h, mi, s).getTime();
  return BigInt(ms) * MS + BigInt(fraction.padEnd(9, "0"));
}
