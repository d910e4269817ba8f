import { Store } from "./store";

export type Language = "en" | "ja";
export type Zone = "local" | "utc";

const LANGUAGE_KEY = "wirewitness.language";
const ZONE_KEY = "wirewitness.zone";

/** The first of the browser's languages that we speak. */
export function preferredLanguage(languages: readonly string[]): Language {
  for (const tag of languages) {
    const primary = tag.toLowerCase().split("-")[0];
    if (primary === "ja" || primary === "en") return primary;
  }
  return "en";
}

// Storage may be refused (private windows, policy): then the choice lasts as long as the page.
function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    return;
  }
}

function storedLanguage(): Language {
  const stored = read(LANGUAGE_KEY);
  if (stored === "en" || stored === "ja") return stored;
  return preferredLanguage(typeof navigator === "undefined" ? [] : navigator.languages);
}

export const language = new Store<Language>(storedLanguage());
export const zone = new Store<Zone>(read(ZONE_KEY) === "utc" ? "utc" : "local");

export function chooseLanguage(choice: Language): void {
  write(LANGUAGE_KEY, choice);
  language.set(choice);
}

export function chooseZone(choice: Zone): void {
  write(ZONE_KEY, choice);
  zone.set(choice);
}
