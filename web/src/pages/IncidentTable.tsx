import type { JSX } from "preact";

import type { Incident } from "../api/types";
import { DrillBadge, GradeBadge, StateBadge, VerdictBadge } from "../components/Badge";
import { Foreign } from "../components/Foreign";
import { Moment } from "../components/Moment";
import { bytes, count } from "../format/quantity";
import { useWords } from "../i18n";
import { incidentHref } from "../router";

export function IncidentTable({ incidents }: { incidents: Incident[] }): JSX.Element {
  const { t } = useWords();
  return (
    <div class="card table-card">
      <table class="stack incidents" data-testid="incident-table">
        <thead>
          <tr>
            <th scope="col">{t.incidents.subject}</th>
            <th scope="col">{t.incidents.state}</th>
            <th scope="col">{t.incidents.time}</th>
            <th scope="col">{t.incidents.source}</th>
            <th scope="col" class="number">{t.incidents.triggers}</th>
            <th scope="col" class="number">{t.incidents.packets}</th>
            <th scope="col">{t.incidents.completeness}</th>
          </tr>
        </thead>
        <tbody>
          {incidents.map((incident) => (
            <Row key={incident.id} incident={incident} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ incident }: { incident: Incident }): JSX.Element {
  const { t, lang } = useWords();
  const subject = incident.subject.trim();
  return (
    <tr data-testid="incident-row" data-id={incident.id} data-state={incident.state}>
      <td class="subject">
        <a href={incidentHref(incident.id)}>{subject === "" ? t.incidents.noSubject : <Foreign text={subject} />}</a>
        {incident.trigger.kind === "drill" ? <DrillBadge /> : incident.grade === "precursor" && <GradeBadge grade={incident.grade} />}
      </td>
      <td data-label={t.incidents.state}>
        <StateBadge state={incident.state} />
      </td>
      <td data-label={t.incidents.time}>
        <Moment at={incident.trigger.at} ago />
      </td>
      <td data-label={t.incidents.source}>
        <span>
          {t.kinds[incident.trigger.kind] ?? incident.trigger.kind} <Foreign text={incident.trigger.source} />
        </span>
      </td>
      <td data-label={t.incidents.triggers} class="number">
        {count(incident.triggers, lang)}
      </td>
      <td data-label={t.incidents.packets} class="number">
        {incident.state === "sealed" ? (
          <span>
            {count(incident.packets, lang)} <span class="sub muted">{bytes(incident.bytes, lang)}</span>
          </span>
        ) : (
          "–"
        )}
      </td>
      <td data-label={t.incidents.completeness}>
        <VerdictBadge verdict={incident.completeness.verdict} />
      </td>
    </tr>
  );
}
