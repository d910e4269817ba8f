// Addresses live in the fragment: the server hands out one page.

import { Store } from "./store";

export type Route =
  | { page: "overview" }
  | { page: "incidents"; filter: { state: string; grade: string; q: string } }
  | { page: "incident"; id: string }
  | { page: "probes"; name: string }
  | { page: "drills"; id: string }
  | { page: "login"; link: string }
  | { page: "unknown" };

export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#/, "");
  if (text.startsWith("login=")) return { page: "login", link: decode(text.slice(6)) };
  const [path = "", search = ""] = text.split("?", 2);
  const parts = path.split("/").filter((part) => part !== "");
  if (parts.length === 0) return { page: "overview" };
  if (parts[0] === "incidents" && parts.length === 1) {
    const parameters = new URLSearchParams(search);
    const get = (name: string): string => parameters.get(name) ?? "";
    return { page: "incidents", filter: { state: get("state"), grade: get("grade"), q: get("q") } };
  }
  if (parts[0] === "incidents" && parts.length === 2) {
    return { page: "incident", id: decode(parts[1] ?? "") };
  }
  if (parts[0] === "probes" && parts.length <= 2) {
    return { page: "probes", name: decode(parts[1] ?? "") };
  }
  if (parts[0] === "drills" && parts.length <= 2) {
    return { page: "drills", id: decode(parts[1] ?? "") };
  }
  return { page: "unknown" };
}

export function probeHref(name: string): string {
  return `#/probes/${encodeURIComponent(name)}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function incidentHref(id: string): string {
  return `#/incidents/${encodeURIComponent(id)}`;
}

export const route = new Store<Route>(
  typeof location === "undefined" ? { page: "overview" } : parseRoute(location.hash),
);

export function watchRoute(): void {
  window.addEventListener("hashchange", () => route.set(parseRoute(location.hash)));
}

/** Changes the address without a new entry in the browser's history. */
export function replaceHash(hash: string): void {
  history.replaceState(null, "", hash);
  route.set(parseRoute(hash));
}
