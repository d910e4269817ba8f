import type { JSX } from "preact";

import type { Lookback, SourceStatus } from "../../api/types";
import { Foreign } from "../../components/Foreign";
import { Meter } from "../../components/Meter";
import { count, span } from "../../format/quantity";
import { useWords } from "../../i18n";

const TONE: Record<Lookback["verdict"], string> = { yes: "", barely: "attention", no: "fault" };

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
  const needed = words.needs(time(look.need_ns), time(look.span_ns));
  return (
    <span class="lookback" data-testid="lookback">
      <strong>{words.verdicts[look.verdict] ?? look.verdict}</strong>
      <Meter share={look.need_ns / Math.max(1, look.span_ns)} label={needed} tone={TONE[look.verdict] ?? ""} />
      <span class="sub muted">
        {needed} (<Foreign text={look.interface} />
        {look.filling && ` · ${words.filling}`})
      </span>
      {seen.length > 0 && <span class="sub muted">{words.late(seen.join(" · "))}</span>}
      {(one.too_late ?? 0) > 0 && <span class="sub">{words.tooLate(count(one.too_late ?? 0, lang))}</span>}
    </span>
  );
}
