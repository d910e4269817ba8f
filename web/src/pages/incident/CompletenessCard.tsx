import type { JSX } from "preact";

import type { Incident, Reason, TimeWindow } from "../../api/types";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { Moment } from "../../components/Moment";
import { parseInstant, toMs, writeInstant } from "../../format/instant";
import { bytes, count, span } from "../../format/quantity";
import { lookup, useWords } from "../../i18n";
import { zone as zoneStore } from "../../settings";
import { useStore } from "../../store";

export function CompletenessCard({ incident }: { incident: Incident }): JSX.Element {
  const { t } = useWords();
  const { verdict, reasons, gaps } = incident.completeness;
  const statement = {
    complete: { icon: "good", text: t.incident.completeness.complete },
    incomplete: { icon: "attention", text: t.incident.completeness.incomplete },
    pending: { icon: "wait", text: t.incident.completeness.pending },
  } as const;
  const said = statement[verdict] ?? statement.pending;
  return (
    <section class="card" aria-labelledby="completeness">
      <h2 id="completeness">{t.incident.completeness.title}</h2>
      <p class={`verdict ${verdict}`} data-testid="completeness">
        <Icon name={said.icon} />
        <span>{said.text}</span>
      </p>
      {verdict !== "incomplete" && reasons.length > 0 && <p class="muted">{t.incident.completeness.notes}</p>}
      {reasons.length > 0 && (
        <ul class="reasons">
          {reasons.map((reason, i) => (
            <ReasonLine key={i} reason={reason} incident={incident} />
          ))}
        </ul>
      )}
      {gaps.length > 0 && (
        <>
          <h3>{t.incident.completeness.gaps}</h3>
          <ul class="plain-list">
            {gaps.map((gap, i) => (
              <li key={i}>
                <GapLine name={gap.interface} window={gap} /> – {lookup(t.incident.completeness.causes, gap.cause) ?? gap.cause}
              </li>
            ))}
          </ul>
        </>
      )}
      <dl class="facts">
        <dt>{t.incident.completeness.asked}</dt>
        <dd>
          <WindowLine window={incident.window} />
        </dd>
        <dt>{t.incident.completeness.covered}</dt>
        <dd>{incident.covered ? <WindowLine window={incident.covered} /> : incident.state === "sealed" ? t.incident.completeness.coveredNone : "–"}</dd>
      </dl>
      <Interfaces incident={incident} />
    </section>
  );
}

/** The text without the interface's name before it, which the line shows itself. */
export function withoutName(text: string, name: string | null | undefined): string {
  return name && text.startsWith(`${name}: `) ? text.slice(name.length + 2) : text;
}

/** How many packets a cause of loss took, where the counters of the incident know it. */
function lostBy(reason: Reason, incident: Incident): number {
  const counters = incident.interfaces.find((share) => share.name === reason.interface)?.counters;
  if (!counters) return 0;
  switch (reason.code) {
    case "dropped_kernel":
    case "dropped_ring":
    case "dropped_iface":
      return counters[reason.code];
    default:
      return 0;
  }
}

function ReasonLine({ reason, incident }: { reason: Reason; incident: Incident }): JSX.Element {
  const { t, lang } = useWords();
  const lost = lostBy(reason, incident);
  const known = lookup(t.incident.completeness.codes, reason.code);
  return (
    <li>
      {reason.interface && (
        <>
          <Foreign text={reason.interface} mono />:{" "}
        </>
      )}
      {lang === "en" || !known ? <Foreign text={withoutName(reason.text, reason.interface)} /> : known}
      {lang !== "en" && known && lost > 0 && <> ({t.incident.packets(count(lost, lang))})</>}
      {lang !== "en" && known && (
        <details>
          <summary>{t.incident.completeness.original}</summary>
          <Foreign text={reason.text} />
        </details>
      )}
    </li>
  );
}

function WindowLine({ window }: { window: TimeWindow }): JSX.Element {
  const { lang } = useWords();
  const from = parseInstant(window.from);
  const to = parseInstant(window.to);
  return (
    <>
      <Moment at={window.from} zone={false} /> – <Moment at={window.to} show="time" />
      {from !== null && to !== null && <span class="muted"> ({span(toMs(to) - toMs(from), lang)})</span>}
    </>
  );
}

function GapLine({ name, window }: { name: string; window: TimeWindow }): JSX.Element {
  const { t, lang } = useWords();
  const zone = useStore(zoneStore);
  const from = parseInstant(window.from);
  const to = parseInstant(window.to);
  if (from === null || to === null) return <Foreign text={name} />;
  const end = writeInstant(to, zone, 3);
  const length = span(toMs(to) - toMs(from), lang);
  return <>{t.incident.completeness.gapLine(name, writeInstant(from, zone, 3).time, `${end.time} ${end.zone}`, length)}</>;
}

function Interfaces({ incident }: { incident: Incident }): JSX.Element | null {
  const { t, lang } = useWords();
  if (incident.interfaces.length === 0) return null;
  return (
    <>
      <h3>{t.incident.completeness.byInterface}</h3>
      <ul class="plain-list shares">
        {incident.interfaces.map((share) => {
          const { dropped_kernel, dropped_ring, dropped_iface } = share.counters;
          const lost = dropped_kernel + dropped_ring + dropped_iface;
          return (
            <li key={share.name}>
              <Foreign text={share.name} mono />
              <span>
                {t.incident.packets(count(share.packets, lang))}, {bytes(share.bytes, lang)}, {t.incident.segments(count(share.segments, lang))}
              </span>
              <span>
                <Icon name={lost === 0 ? "good" : "attention"} /> {t.incident.completeness.lost}: {t.incident.packets(count(lost, lang))}
              </span>
            </li>
          );
        })}
      </ul>
    </>
  );
}
