// Every function returns the number together with its unit.

import type { Language } from "../settings";

const NBSP = " ";

/** `1,234`: for counts whose noun stands beside it. */
export function count(n: number, language: Language): string {
  return new Intl.NumberFormat(language).format(n);
}

function scaled(n: number, step: number, units: readonly string[], language: Language): string {
  let value = n;
  let unit = 0;
  while (Math.abs(value) >= step * 0.99995 && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
  return `${text}${NBSP}${units[unit] ?? ""}`;
}

/** Sizes on disk and of packets: binary units, as in the configuration. */
export function bytes(n: number, language: Language): string {
  return scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"], language);
}

/** Bytes per second: decimal units, as is custom for rates. */
export function byteRate(n: number, language: Language): string {
  return scaled(n, 1000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"], language);
}

/** Bits per second of a byte rate. */
export function bitRate(bytesPerSecond: number, language: Language): string {
  return scaled(bytesPerSecond * 8, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"], language);
}

export function percent(share: number, language: Language): string {
  const digits = share !== 0 && share < 0.001 ? 4 : share < 0.1 ? 1 : 0;
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits }).format(
    share,
  );
}

/** The two largest units of a span: `3 h 12 min`, `45 s`, `2.5 s`, `250 ms`. */
export function span(ms: number, language: Language): string {
  const names =
    language === "ja"
      ? { d: "日", h: "時間", min: "分", s: "秒", ms: "ミリ秒" }
      : { d: "d", h: "h", min: "min", s: "s", ms: "ms" };
  const part = (n: number | string, unit: string): string => `${n}${NBSP}${unit}`;
  const size = Math.max(0, ms);
  if (size < 1000) return part(Math.round(size), names.ms);
  if (size < 10_000 && size % 1000 !== 0) return part((Math.floor(size / 100) / 10).toString(), names.s);
  const seconds = Math.floor(size / 1000);
  const units: [number, string][] = [
    [Math.floor(seconds / 86_400), names.d],
    [Math.floor(seconds / 3600) % 24, names.h],
    [Math.floor(seconds / 60) % 60, names.min],
    [seconds % 60, names.s],
  ];
  const first = units.findIndex(([n]) => n > 0);
  return units
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => part(n, unit))
    .join(" ");
}

/** A round trip in seconds with three digits: `85 µs`, `1.23 ms`, `2.5 s`. */
export function roundTrip(seconds: number, language: Language): string {
  const [value, unit] = seconds < 0.001 ? [seconds * 1e6, "µs"] : seconds < 1 ? [seconds * 1000, "ms"] : [seconds, language === "ja" ? "秒" : "s"];
  const text = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 }).format(value);
  return `${text}${NBSP}${unit}`;
}

/** `3 minutes ago`, `in 20 seconds`. */
export function relative(ms: number, now: number, language: Language): string {
  const seconds = (ms - now) / 1000;
  const size = Math.abs(seconds);
  const format = new Intl.RelativeTimeFormat(language, {
    numeric: language === "ja" ? "always" : "auto",
    style: "long",
  });
  // Within a second of now counts as past: clocks of server and browser differ by that much.
  if (size < 1) return format.format(-0, "second");
  if (size < 60) return format.format(Math.trunc(seconds), "second");
  if (size < 3600) return format.format(Math.trunc(seconds / 60), "minute");
  if (size < 86_400) return format.format(Math.trunc(seconds / 3600), "hour");
  if (size < 86_400 * 60) return format.format(Math.trunc(seconds / 86_400), "day");
  return format.format(Math.trunc(seconds / (86_400 * 30.44)), "month");
}

const SPAN = /^(?:\d+(?:\.\d+)?\s*(?:ms|s|sec|m|min|h|d|秒|分|時間|日)\s*)+$/;
const SPAN_PART = /(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d|秒|分|時間|日)/g;
const SPAN_MS: Record<string, number> = {
  ms: 1, s: 1000, sec: 1000, 秒: 1000, m: 60_000, min: 60_000, 分: 60_000,
  h: 3_600_000, 時間: 3_600_000, d: 86_400_000, 日: 86_400_000,
};

/** Milliseconds of a span as people type it (`30s`, `1h 30m`, `5分`; a bare number is seconds). */
export function parseSpan(text: string): number | null {
  const trimmed = text.trim().normalize("NFKC").toLowerCase();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * 1000);
  if (!SPAN.test(trimmed)) return null;
  let total = 0;
  for (const [, n, unit] of trimmed.matchAll(SPAN_PART)) total += Number(n) * (SPAN_MS[unit ?? ""] ?? 0);
  return Math.round(total);
}

/** The span as the API takes it. */
export function apiSpan(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}
