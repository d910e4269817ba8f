import type { JSX } from "preact";

import type { Drill } from "../../api/types";
import { Foreign } from "../../components/Foreign";
import { roundTrip } from "../../format/quantity";
import { lookup, useWords } from "../../i18n";
import { spans } from "./marks";

/** So narrow a step is still seen. */
const LEAST = 0.6;

/** The steps of a drill one below the other, each as long as it took. */
export function Steps({ drill }: { drill: Drill }): JSX.Element {
  const { t, lang } = useWords();
  const steps = spans(drill);
  if (steps.length === 0) return <></>;
  return (
    <ol class="drill-steps">
      {steps.map((one) => (
        <li key={one.step}>
          <span>{lookup(t.drills.steps, one.step) ?? one.step}</span>
          <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
            <rect x={Math.min(one.from * 100, 100 - LEAST)} y="2" width={Math.max(LEAST, (one.to - one.from) * 100)} height="6" rx="1" />
          </svg>
          <span class="number">{roundTrip(one.ns / 1e9, lang)}</span>
          <span class="muted drill-detail">
            <Foreign text={t.drills.said(one.detail)} />
          </span>
        </li>
      ))}
    </ol>
  );
}
