import type { JSX } from "preact";

import type { Grade, IncidentState, InterfaceState, Verdict } from "../api/types";
import { useWords } from "../i18n";
import { Icon, type IconName } from "./Icon";

export type Tone = "good" | "attention" | "fault" | "quiet" | "busy";

interface BadgeProps {
  tone: Tone;
  icon?: IconName;
  text: string;
  testid?: string;
  state?: string;
}

export function Badge({ tone, icon, text, testid, state }: BadgeProps): JSX.Element {
  return (
    <span class={`badge ${tone}`} data-testid={testid} data-state={state}>
      {icon && <Icon name={icon} />}
      {text}
    </span>
  );
}

export function StateBadge({ state, testid }: { state: IncidentState; testid?: string }): JSX.Element {
  const { t } = useWords();
  const sealed = state === "sealed";
  return (
    <Badge
      tone={sealed ? "good" : "busy"}
      icon={sealed ? "lock" : "wait"}
      text={t.incidents.states[state] ?? state}
      testid={testid}
      state={state}
    />
  );
}

export function VerdictBadge({ verdict }: { verdict: Verdict }): JSX.Element {
  const { t } = useWords();
  const look: Record<Verdict, [Tone, IconName]> = {
    complete: ["good", "good"],
    incomplete: ["attention", "attention"],
    pending: ["quiet", "wait"],
  };
  const [tone, icon] = look[verdict] ?? look.pending;
  return <Badge tone={tone} icon={icon} text={t.verdicts[verdict] ?? verdict} testid="verdict" state={verdict} />;
}

export function GradeBadge({ grade }: { grade: Grade }): JSX.Element {
  const { t } = useWords();
  return <Badge tone="quiet" text={t.incidents.grades[grade] ?? grade} state={grade} />;
}

/** A rehearsal, not a fault. */
export function DrillBadge(): JSX.Element {
  const { t } = useWords();
  return <Badge tone="quiet" text={t.kinds.drill} state="drill" />;
}

export function InterfaceBadge({ state }: { state: InterfaceState }): JSX.Element {
  const { t } = useWords();
  const look: Record<InterfaceState, [Tone, IconName]> = {
    running: ["good", "good"],
    down: ["attention", "unplug"],
    absent: ["fault", "attention"],
    failed: ["fault", "fault"],
    finished: ["quiet", "off"],
  };
  const [tone, icon] = look[state] ?? look.failed;
  return <Badge tone={tone} icon={icon} text={t.iface.states[state] ?? state} state={state} />;
}
