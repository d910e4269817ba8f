import type { JSX } from "preact";

import type { TargetStatus } from "../../api/types";
import { Badge, type Tone } from "../../components/Badge";
import { Foreign } from "../../components/Foreign";
import type { IconName } from "../../components/Icon";
import { Moment } from "../../components/Moment";
import { count } from "../../format/quantity";
import { lookup, useWords } from "../../i18n";

const LOOK: Record<TargetStatus["state"], [Tone, IconName]> = {
  ok: ["good", "good"],
  failing: ["fault", "attention"],
};

/** Who is told of incidents and of our own trouble, and whether that works. */
export function Targets({ targets }: { targets: TargetStatus[] }): JSX.Element {
  const { t, lang } = useWords();
  return (
    <section aria-labelledby="targets">
      <h2 id="targets">{t.target.title}</h2>
      {targets.length === 0 ? (
        <p class="card muted">{t.target.none}</p>
      ) : (
        <div class="card table-card">
          <p class="muted">{t.target.hint}</p>
          <table class="stack" data-testid="targets">
            <thead>
              <tr>
                <th scope="col">{t.target.state}</th>
                <th scope="col">{t.target.kind}</th>
                <th scope="col">{t.target.name}</th>
                <th scope="col">{t.target.detail}</th>
                <th scope="col" class="number">{t.target.waiting}</th>
                <th scope="col" class="number">{t.target.sent}</th>
              </tr>
            </thead>
            <tbody>
              {targets.map((one) => {
                const [tone, icon] = LOOK[one.state] ?? LOOK.failing;
                return (
                  <tr key={one.name}>
                    <td data-label={t.target.state}>
                      <Badge tone={tone} icon={icon} text={t.target.states[one.state] ?? one.state} />
                    </td>
                    <td data-label={t.target.kind}>{lookup(t.target.kinds, one.kind) ?? one.kind}</td>
                    <td data-label={t.target.name}>
                      <Foreign text={one.name} />
                    </td>
                    <td data-label={t.target.detail}>
                      <Detail one={one} />
                    </td>
                    <td data-label={t.target.waiting} class="number">
                      {count(one.waiting, lang)}
                    </td>
                    <td data-label={t.target.sent} class="number">
                      {count(one.sent, lang)}
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Detail({ one }: { one: TargetStatus }): JSX.Element {
  const { t, lang } = useWords();
  const lost = [
    one.failed > 0 ? t.target.refused(count(one.failed, lang)) : "",
    one.dropped > 0 ? t.target.dropped(count(one.dropped, lang)) : "",
  ];
  return (
    <span>
      {one.state === "failing" && one.last_error && <Foreign text={one.last_error} />}
      {one.state === "ok" && one.last_sent && (
        <>
          {t.target.lastSent} <Moment at={one.last_sent} />
        </>
      )}
      {one.state === "ok" && !one.last_sent && <span class="muted">{t.target.nothingYet}</span>}
      <span class="sub muted">{lost.filter((text) => text !== "").join(" · ")}</span>
    </span>
  );
}
