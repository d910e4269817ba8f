import type { JSX } from "preact";

import type { Lookback, SourceStatus } from "../../api/types";
import type { Tone } from "../../components/Badge";
import { Foreign } from "../../components/Foreign";
import { Icon, type IconName } from "../../components/Icon";
import { Meter } from "../../components/Meter";
import { count, span } from "../../format/quantity";
import { useWords } from "../../i18n";

type Standing = Lookback["verdict"] | "notYet";

// The word and the shape say it too, so that colour is never the only sign.
const LOOK: Record<Standing, [Tone, IconName]> = {
  yes: ["good", "good"],
  barely: ["attention", "attention"],
  notYet: ["attention", "wait"],
  no: ["fault", "fault"],
};

/** The verdict as it is shown: too short is a fault of a full ring only, others still grow. */
export function standing(look: Pick<Lookback, "verdict" | "filling">): Standing {
  return look.verdict === "no" && look.filling ? "notYet" : look.verdict;
}

/** Whether an alert of this source would still find its packets: what is needed of what is there. */
export function LookbackCell({ one }: { one: SourceStatus }): JSX.Element {
  const { t, lang } = useWords();
  const words = t.source.lookback;
  const look = one.lookback;
  if (!look) return <span class="muted">{words.unknown}</span>;
  const time = (ns: number): string => span(ns / 1e6, lang);
  const late = one.lateness ?? { events: 0 };
  const seen = [
    late.declared_ns !== undefined && words.declared(time(late.declared_ns)),
    late.median_ns !== undefined && words.median(time(late.median_ns)),
    late.p95_ns !== undefined && words.p95(time(late.p95_ns)),
    late.worst_ns !== undefined && words.worst(time(late.worst_ns)),
  ].filter((word) => word !== false);
  const found = standing(look);
  const notYet = found === "notYet";
  const [tone, icon] = LOOK[found] ?? LOOK.no;
  // While the ring fills, the bar is how far it has come; later, how much of it is needed.
  const [part, whole] = notYet ? [look.span_ns, look.need_ns] : [look.need_ns, look.span_ns];
  const said = (notYet ? words.soFar : words.needs)(time(part), time(whole));
  return (
    <span class="lookback" data-testid="lookback" data-state={found} title={notYet ? words.notYetHint : undefined}>
      <strong class={`lookback-verdict ${tone}`}>
        <Icon name={icon} />
        {words.verdicts[found] ?? found}
      </strong>
      <Meter share={part / Math.max(1, whole)} label={said} tone={tone} />
      <span class="sub muted">
        {said} (<Foreign text={look.interface} />
        {look.filling && !notYet && ` · ${words.filling}`})
      </span>
      {seen.length > 0 && <span class="sub muted">{words.late(seen.join(" · "))}</span>}
      {(one.too_late ?? 0) > 0 && <span class="sub">{words.tooLate(count(one.too_late ?? 0, lang))}</span>}
    </span>
  );
}
