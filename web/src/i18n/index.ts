import { ApiError } from "../api/client";
import { language, type Language } from "../settings";
import { useStore } from "../store";
import { en, type Words } from "./en";
import { ja } from "./ja";

export const dictionaries: Record<Language, Words> = { en, ja };

export function useWords(): { t: Words; lang: Language } {
  const lang = useStore(language);
  return { t: dictionaries[lang], lang };
}

/** The entry of a table for a key that came from the server, which may be newer than we are. */
export function lookup(table: Record<string, string>, key: string): string | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

/** What went wrong, in the user's language, and the server's own words where it gave any. */
export function explain(error: unknown, t: Words): { title: string; detail: string } {
  if (!(error instanceof ApiError)) return { title: t.errors.title, detail: String(error) };
  const { status, title, detail = "" } = error.problem;
  if (status === 0) return { title: t.errors.unreachable, detail: "" };
  const known =
    lookup(t.errors.codes, error.code) ?? (error.code === "too_small_a_role" ? t.errors.codes.forbidden : undefined);
  return { title: known ?? t.errors.unknown, detail: detail || title || `HTTP ${status}` };
}
