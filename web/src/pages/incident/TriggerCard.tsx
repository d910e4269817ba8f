import type { JSX } from "preact";

import type { Incident } from "../../api/types";
import { CopyButton } from "../../components/Copy";
import { Foreign } from "../../components/Foreign";
import { ExactMoment } from "../../components/Moment";
import { useWords } from "../../i18n";

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
