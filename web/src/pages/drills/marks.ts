import type { Drill, Drillable } from "../../api/types";
import type { Tone } from "../../components/Badge";
import type { IconName } from "../../components/Icon";

export const LOOK: Record<Drill["outcome"], [Tone, IconName]> = {
  running: ["busy", "wait"],
  passed: ["good", "good"],
  failed: ["fault", "fault"],
  interrupted: ["attention", "attention"],
};

/** Marks of one source that are shown. */
const MARKS = 12;

/** The latest drills of a source, oldest first. `drills` are newest first. */
export function marksOf(source: Pick<Drillable, "kind" | "name">, drills: Drill[]): Drill[] {
  return drills
    .filter((drill) => drill.kind === source.kind && drill.source === source.name)
    .slice(0, MARKS)
    .reverse();
}

/** How long a drill took, so far as its steps tell; null while nothing is known. */
export function tookNs(drill: Drill): number | null {
  return drill.steps.at(-1)?.after_ns ?? null;
}

/** Each step with where it begins and how long it took, as shares of the whole. */
export function spans(drill: Drill): { step: string; from: number; to: number; ns: number; detail: string }[] {
  const whole = Math.max(1, tookNs(drill) ?? 1);
  let before = 0;
  return drill.steps.map((done) => {
    const from = before;
    before = Math.max(before, done.after_ns);
    return { step: done.step, from: from / whole, to: before / whole, ns: before - from, detail: done.detail ?? "" };
  });
}

/** The drills whose result matters now: the latest of each source. */
export function latest(drills: Drill[]): Drill[] {
  const seen = new Set<string>();
  return drills.filter((drill) => {
    const key = `${drill.kind}/${drill.source}`;
    if (drill.outcome === "running" || seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
