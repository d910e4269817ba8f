import { beforeAll, describe, expect, it } from "vitest";

import { visible } from "../src/format/foreign";
import { parseInstant, parseTyped, toRfc3339, writeInstant } from "../src/format/instant";
import { apiSpan, bitRate, byteRate, bytes, count, parseSpan, percent, relative, span } from "../src/format/quantity";

beforeAll(() => {
  process.env["TZ"] = "Asia/Tokyo";
});

const AT = "2026-11-23T10:02:11.000000001Z";

describe("instants", () => {
  it("keep every nanosecond", () => {
    const ns = parseInstant(AT);
    expect(ns).toBe(1_795_428_131_000_000_001n);
    expect(toRfc3339(ns ?? 0n)).toBe(AT);
    expect(parseInstant("2026-11-23T19:02:11.5+09:00")).toBe(1_795_428_131_500_000_000n);
  });

  it("refuse what is not a time", () => {
    for (const text of ["", "now", "2026-11-23", "2026-13-40T00:00:00Z", "2026-11-23T10:02:11.1234567890Z", null]) {
      expect(parseInstant(text)).toBeNull();
    }
  });

  it("are written with their zone", () => {
    const ns = parseInstant(AT) ?? 0n;
    expect(writeInstant(ns, "utc", 9)).toEqual({ date: "2026-11-23", time: "10:02:11.000000001", zone: "UTC" });
    expect(writeInstant(ns, "local", 3)).toEqual({ date: "2026-11-23", time: "19:02:11.000", zone: "UTC+9" });
  });

  it("are read as people type them, in the zone shown", () => {
    const near = parseInstant(AT) ?? 0n;
    expect(parseTyped("19:02:12.25", "local", near)).toBe(near - 1n + 1_250_000_000n);
    expect(parseTyped("10:02", "utc", near)).toBe(near - 1n - 11_000_000_000n);
    expect(parseTyped("2026-11-23 10:02:11.000000001", "utc", near)).toBe(near);
    expect(parseTyped(AT, "local", near)).toBe(near);
    expect(parseTyped("25:00:00", "utc", near)).toBeNull();
    expect(parseTyped("yesterday", "utc", near)).toBeNull();
  });
});

describe("quantities", () => {
  it("carry their unit", () => {
    expect(bytes(0, "en")).toBe("0 B");
    expect(bytes(1536, "en")).toBe("1.5 KiB");
    expect(bytes(107_374_182_400, "ja")).toBe("100 GiB");
    expect(bytes(1_048_575, "en")).toBe("1 MiB");
    expect(byteRate(3_910_000, "en")).toBe("3.91 MB/s");
    expect(bitRate(125_000, "en")).toBe("1 Mbit/s");
    expect(count(1_234_567, "en")).toBe("1,234,567");
    expect(percent(0.00001234, "en")).toBe("0.0012%");
  });

  it("show two units of a span", () => {
    expect(span(11_520_000, "en")).toBe("3 h 12 min");
    expect(span(11_520_000, "ja")).toBe("3 時間 12 分");
    expect(span(86_400_000, "en")).toBe("1 d");
    expect(span(250, "en")).toBe("250 ms");
    expect(span(1200, "en")).toBe("1.2 s");
    expect(span(3_605_000, "en")).toBe("1 h");
    expect(span(-5, "en")).toBe("0 ms");
  });

  it("say how long ago", () => {
    expect(relative(0, 180_000, "en")).toBe("3 minutes ago");
    expect(relative(0, 180_000, "ja")).toBe("3 分前");
    expect(relative(500, 0, "ja")).toBe("0 秒前");
    expect(relative(20_000, 0, "en")).toBe("in 20 seconds");
  });

  it("read spans as people type them", () => {
    expect(parseSpan("30s")).toBe(30_000);
    expect(parseSpan("1h 30m")).toBe(5_400_000);
    expect(parseSpan(" ５分 ")).toBe(300_000);
    expect(parseSpan("1時間30分")).toBe(5_400_000);
    expect(parseSpan("250ms")).toBe(250);
    expect(parseSpan("90")).toBe(90_000);
    for (const text of ["", "-5m", "5 parsecs", "m5", "5m;"]) expect(parseSpan(text)).toBeNull();
    expect(apiSpan(300_000)).toBe("300s");
    expect(apiSpan(250)).toBe("250ms");
  });
});

describe("foreign text", () => {
  it("shows what would hide or reorder its surroundings", () => {
    expect(visible("a\u202egnp.exe")).toBe("a[U+202E]gnp.exe");
    expect(visible("bell\u0007 esc\u001b[31m")).toBe("bell[U+0007] esc[U+001B][31m");
    expect(visible("<img src=x onerror=alert(1)> 支社 شبكة\tx\ny")).toBe("<img src=x onerror=alert(1)> 支社 شبكة\tx\ny");
  });
});
