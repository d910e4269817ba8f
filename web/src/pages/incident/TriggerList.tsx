import type { JSX } from "preact";

import type { Incident } from "../../api/types";
import { Foreign } from "../../components/Foreign";
import { ExactMoment } from "../../components/Moment";
import { parseInstant, toMs } from "../../format/instant";
import { count, span } from "../../format/quantity";
import { useWords } from "../../i18n";

/** Above this an event's own time and its arrival differ enough to be worth a word. */
const LATE_MS = 2000;

export function TriggerList({ incident }: { incident: Incident }): JSX.Element | null {
  const { t, lang } = useWords();
  if (incident.timeline.length === 0) return null;
  return (
    <section class="card" aria-labelledby="triggers">
      <div class="section-head">
        <h2 id="triggers">{t.incident.timeline.title}</h2>
        <span class="muted">
          {incident.triggers > incident.timeline.length
            ? t.incident.timeline.first(count(incident.timeline.length, lang), count(incident.triggers, lang))
            : count(incident.triggers, lang)}
        </span>
      </div>
      <ol class="trigger-list" tabIndex={0} aria-labelledby="triggers">
        {incident.timeline.map((entry, i) => {
          const at = parseInstant(entry.at);
          const received = parseInstant(entry.received);
          const late = at === null || received === null ? 0 : toMs(received) - toMs(at);
          return (
            <li key={i}>
              <ExactMoment at={entry.at} />
              <span class="muted">
                {t.kinds[entry.kind] ?? entry.kind} <Foreign text={entry.source} />
                {late > LATE_MS && ` · ${t.incident.timeline.late(span(late, lang))}`}
              </span>
              {entry.doubt && (
                <span class="muted">
                  {t.incident.timeline.doubt[entry.doubt.clock]} <ExactMoment at={entry.doubt.claimed} />
                </span>
              )}
              {entry.note && <strong>{t.incident.notes[entry.note] ?? entry.note}</strong>}
              {entry.note === "promoted" ? <a href={`#/incidents/${encodeURIComponent(entry.text)}`}>{entry.text}</a> : <Foreign text={entry.text} />}
            </li>
          );
        })}
      </ol>
    </section>
  );
}
