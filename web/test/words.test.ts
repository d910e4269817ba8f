import { describe, expect, it } from "vitest";

import { en } from "../src/i18n/en";
import { ja } from "../src/i18n/ja";

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
