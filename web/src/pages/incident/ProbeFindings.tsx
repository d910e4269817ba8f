import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api } from "../../api/client";
import type { Incident, ProbeFindings } from "../../api/types";
import { Foreign } from "../../components/Foreign";
import { parseInstant, writeInstant } from "../../format/instant";
import { lookup, useWords } from "../../i18n";
import { zone as zoneStore } from "../../settings";
import { useStore } from "../../store";

/** What the incident's own packets say about the probes that failed. */
export function ProbeFindingsCard({ incident }: { incident: Incident }): JSX.Element | null {
  const { t } = useWords();
  const zone = useStore(zoneStore);
  const [found, setFound] = useState<ProbeFindings | null>(null);
  useEffect(() => {
    let gone = false;
    // Without an answer the card is left out: the incident says everything else.
    api.probesOf(incident.id).then(
      (next) => !gone && setFound(next),
      () => {},
    );
    return () => {
      gone = true;
    };
  }, [incident.id, incident.state]);
  if (!found || found.findings.length === 0) return null;
  const words = t.probes.found;
  const time = (at: string | null): string => {
    const instant = at === null ? null : parseInstant(at);
    return instant === null ? "–" : writeInstant(instant, zone, 3).time;
  };
  return (
    <section class="card table-card" aria-labelledby="probe-findings" data-testid="probe-findings">
      <div class="section-head">
        <h2 id="probe-findings">{words.title}</h2>
        {found.provisional && <span class="muted">{t.incident.provisional}</span>}
      </div>
      <p class="muted">{words.hint}</p>
      <table class="stack">
        <thead>
          <tr>
            <th scope="col">{words.sent}</th>
            <th scope="col">{words.left}</th>
            <th scope="col">{words.reply}</th>
            <th scope="col">{words.verdict}</th>
          </tr>
        </thead>
        <tbody>
          {found.findings.map((one) => (
            <tr key={one.seq}>
              <td data-label={words.sent} class="mono">
                {time(one.sent)}
              </td>
              <td data-label={words.left} class="mono">
                {time(one.left)} {one.left !== null && one.interface !== null && <Foreign text={one.interface} />}
              </td>
              <td data-label={words.reply} class="mono">
                {time(one.reply)}
              </td>
              <td data-label={words.verdict} title={one.text}>
                <span>
                  {lookup(words.verdicts, one.verdict) ?? one.text} {one.refused && <Foreign text={one.refused[1]} />}
                </span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
