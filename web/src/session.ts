import { api, ApiError } from "./api/client";
import type { Role, Session } from "./api/types";
import { Store } from "./store";

export type SessionState =
  | { phase: "asking" }
  | { phase: "out"; expired: boolean }
  | { phase: "in"; session: Session };

export const session = new Store<SessionState>({ phase: "asking" });

export function enter(entered: Session): void {
  session.set({ phase: "in", session: entered });
}

/** Shows the login page; `expired` when there was a session before. */
export function leave(expired: boolean): void {
  if (session.get().phase === "out") return;
  session.set({ phase: "out", expired });
}

/** Whether the server still knows us; null when it did not answer. */
export async function askSession(): Promise<boolean | null> {
  try {
    enter(await api.session());
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.problem.status === 401) {
      leave(session.get().phase === "in");
      return false;
    }
    return null;
  }
}

/** Analysts and admins may freeze and download packets. */
export function mayHandlePackets(role: Role): boolean {
  return role !== "viewer";
}
