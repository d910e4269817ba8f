import type { JSX } from "preact";

import type { Incident } from "../../api/types";
import { CopyButton } from "../../components/Copy";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { ExactMoment } from "../../components/Moment";
import { parseInstant, toMs } from "../../format/instant";
import { span } from "../../format/quantity";
import { useWords } from "../../i18n";

/** How much earlier than the fault its first sign was, and where its packets are. */
function FirstSign({ incident }: { incident: Incident }): JSX.Element | null {
  const { t, lang } = useWords();
  const sign = incident.first_sign;
  if (!sign) return null;
  // An incident that began as the sign itself: the fault is the first trigger that is one.
  const own = sign.incident === incident.id;
  const fault = own ? incident.timeline.find((entry) => entry.grade === "incident" && !entry.note)?.at : incident.trigger.at;
  const earlier = fault ? (parseInstant(fault) ?? 0n) - (parseInstant(sign.at) ?? 0n) : 0n;
  const words = earlier > 0n ? t.incident.firstSign(span(toMs(earlier), lang)) : t.incident.firstSignSame;
  return (
    <p class="first-sign" data-testid="first-sign">
      <Icon name="attention" /> {own ? words : <a href={`#/incidents/${encodeURIComponent(sign.incident)}`}>{words}</a>}
    </p>
  );
}

export function TriggerCard({ incident }: { incident: Incident }): JSX.Element {
  const { t } = useWords();
  const { trigger } = incident;
  const fields = Object.entries(incident.fields);
  return (
    <section class="card" aria-labelledby="trigger">
      <h2 id="trigger">{t.incident.triggeredBy}</h2>
      <p class="trigger-kind">
        <strong>{t.kinds[trigger.kind] ?? trigger.kind}</strong> <Foreign text={trigger.source} />
      </p>
      {trigger.text.trim() !== "" && (
        <blockquote class="message" tabIndex={0}>
          <Foreign text={trigger.text} />
        </blockquote>
      )}
      <FirstSign incident={incident} />
      <dl class="facts">
        <dt>{t.incident.at}</dt>
        <dd>
          <ExactMoment at={trigger.at} ago />
        </dd>
        <dt>{t.incident.opened}</dt>
        <dd>
          <ExactMoment at={incident.opened} />
        </dd>
        {incident.sealed && (
          <>
            <dt>{t.incident.sealedAt}</dt>
            <dd>
              <ExactMoment at={incident.sealed} />
            </dd>
          </>
        )}
        {incident.resolved && (
          <>
            <dt>{t.incident.resolvedAt}</dt>
            <dd data-testid="resolved">
              <ExactMoment at={incident.resolved} />
            </dd>
          </>
        )}
        {incident.rule && (
          <>
            <dt>{t.incident.rule}</dt>
            <dd>
              <Foreign text={incident.rule} />
            </dd>
          </>
        )}
        {fields.length > 0 && (
          <>
            <dt>{t.incident.fields}</dt>
            <dd>
              <ul class="plain-list">
                {fields.map(([name, value]) => (
                  <li key={name}>
                    <span class="muted">
                      <Foreign text={name} />:
                    </span>{" "}
                    <Foreign text={value} />
                  </li>
                ))}
              </ul>
            </dd>
          </>
        )}
        <dt>{t.incident.id}</dt>
        <dd>
          <span class="mono wrap-anywhere">{incident.id}</span> <CopyButton text={incident.id} />
        </dd>
      </dl>
    </section>
  );
}
