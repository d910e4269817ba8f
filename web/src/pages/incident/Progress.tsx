import type { JSX } from "preact";

import type { Incident, IncidentState } from "../../api/types";
import { useNow } from "../../clock";
import { Icon } from "../../components/Icon";
import { Meter } from "../../components/Meter";
import { parseInstant, toMs } from "../../format/instant";
import { relative, span } from "../../format/quantity";
import { useWords } from "../../i18n";

const STEPS: IncidentState[] = ["collecting", "sealing", "sealed"];

export function Progress({ incident }: { incident: Incident }): JSX.Element {
  const { t, lang } = useWords();
  const now = useNow();
  const reached = STEPS.indexOf(incident.state);
  const sealed = parseInstant(incident.sealed);
  const from = parseInstant(incident.trigger.at);
  const end = parseInstant(incident.window.to);
  const left = end === null ? 0 : toMs(end) - now;
  const after = from === null || end === null ? 1 : Math.max(1, toMs(end) - toMs(from));
  const text =
    incident.state === "sealed"
      ? t.incident.phase.sealed(sealed === null ? "" : relative(toMs(sealed), now, lang))
      : incident.state === "sealing"
        ? t.incident.phase.sealing
        : left > 0
          ? t.incident.phase.collecting(span(Math.ceil(left / 1000) * 1000, lang))
          : t.incident.phase.collectingEnd;
  return (
    <section class={`progress ${incident.state}`} data-testid="progress">
      <ol class="steps">
        {STEPS.map((step, i) => (
          <li key={step} aria-current={i === reached ? "step" : undefined} class={i < reached || incident.state === "sealed" ? "done" : i === reached ? "now" : ""}>
            <Icon name={i < reached || incident.state === "sealed" ? (step === "sealed" ? "lock" : "good") : i === reached ? "wait" : "off"} />
            {t.incident.steps[step]}
          </li>
        ))}
      </ol>
      <p role="status" aria-live={incident.state === "collecting" ? "off" : "polite"}>{text}</p>
      {incident.state === "collecting" && left > 0 && <Meter share={1 - left / after} label={text} />}
    </section>
  );
}
