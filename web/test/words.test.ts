import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { en } from "../src/i18n/en";
import { ja } from "../src/i18n/ja";
import { DRILL_PHRASES, phrase } from "../src/i18n/phrases.ja";

/** Every leaf of a dictionary as `path: kind`. */
function leaves(value: unknown, path = ""): string[] {
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).flatMap(([key, part]) => leaves(part, `${path}.${key}`));
  }
  return [`${path}: ${typeof value}`];
}

function texts(value: unknown): string[] {
  if (typeof value === "object" && value !== null) return Object.values(value).flatMap(texts);
  if (typeof value === "function") return [String((value as (...a: string[]) => string)("⟨1⟩", "⟨2⟩", "⟨3⟩", "⟨4⟩"))];
  return [String(value)];
}

function functions(value: unknown, path = ""): [string, (...a: string[]) => string][] {
  if (typeof value === "function") return [[path, value as (...a: string[]) => string]];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, part]) => functions(part, `${path}.${key}`));
}

describe("dictionaries", () => {
  it("have the same keys", () => {
    expect(leaves(ja).sort()).toEqual(leaves(en).sort());
  });

  it("use the same parameters", () => {
    const used = (dictionary: unknown): Record<string, string[]> =>
      Object.fromEntries(
        functions(dictionary).map(([path, make]) => {
          const text = make("⟨1⟩", "⟨2⟩", "⟨3⟩", "⟨4⟩");
          return [path, ["⟨1⟩", "⟨2⟩", "⟨3⟩", "⟨4⟩"].filter((mark) => text.includes(mark))];
        }),
      );
    expect(used(ja)).toEqual(used(en));
  });

  it("say something everywhere but where nothing needs saying", () => {
    for (const dictionary of [en, ja]) {
      expect(texts(dictionary).filter((text) => text === "")).toEqual([dictionary.iface.hints.running]);
    }
  });

  it("are both translated, but for words that are the same in both", () => {
    const [english, japanese] = [texts(en), texts(ja)];
    const same = japanese.filter((text, i) => text === english[i] && /[a-z]/i.test(text));
    expect([...new Set(same)].sort()).toEqual(["Mattermost", "RST", "Slack", "Syslog", "Teams", "Webhook", "pcap", "pcapng", "wirewitness", "wirewitness ⟨1⟩"]);
  });
});

describe("what a drill says", () => {
  it("is put into Japanese with its names and numbers, and otherwise left alone", () => {
    expect(phrase("12 packets", DRILL_PHRASES)).toBe("12 パケット");
    expect(phrase("48 bytes to 192.0.2.1:514", DRILL_PHRASES)).toBe("192.0.2.1:514 へ 48 バイト");
    expect(phrase("the incident was not sealed within 30s: disk full", DRILL_PHRASES)).toBe("インシデントは 30s 以内に封印されませんでした: disk full");
    expect(phrase("send to 192.0.2.1: 12 packets", DRILL_PHRASES)).toBe("send to 192.0.2.1: 12 packets");
  });

  it("is said by the server in the words that are looked for", () => {
    const server = ["run", "send", "http"].map((file) => readFileSync(`../src/drill/${file}.rs`, "utf8")).join("");
    for (const [said] of DRILL_PHRASES) {
      const words = (said.source.match(/[a-z][a-z ,]+/) ?? [""])[0].replace(/ within $/, "").trim();
      expect(server).toContain(words);
    }
  });
});
