import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { useNow } from "../clock";
import { parseInstant, toMs, toRfc3339, writeInstant } from "../format/instant";
import { relative } from "../format/quantity";
import { useWords } from "../i18n";
import { zone as zoneStore } from "../settings";
import { useStore } from "../store";

interface MomentProps {
  at: string | null | undefined;
  digits?: 0 | 3 | 6 | 9;
  /** Whether `3 minutes ago` stands beside it. */
  ago?: boolean;
  /** `time` leaves the date out, where it stands nearby. */
  show?: "both" | "time";
  /** Whether the zone stands beside it; left out only where a heading names it. */
  zone?: boolean;
}

/** A point in time: in the chosen zone, exact (UTC, nanoseconds) on hovering. */
export function Moment({ at, digits = 0, ago = false, show = "both", zone: withZone = true }: MomentProps): JSX.Element {
  const zone = useStore(zoneStore);
  const ns = parseInstant(at);
  if (ns === null) return <span class="moment">–</span>;
  const written = writeInstant(ns, zone, digits);
  const exact = toRfc3339(ns);
  return (
    <span class="moment">
      <time dateTime={exact} title={exact}>
        {show === "both" && <span class="nowrap">{written.date}</span>} <span class="nowrap">{written.time}</span>
        {withZone && <> <span class="zone">{written.zone}</span></>}
      </time>
      {ago && <> <Ago ms={toMs(ns)} /></>}
    </span>
  );
}

function Ago({ ms }: { ms: number }): JSX.Element {
  const { lang } = useWords();
  const now = useNow();
  return <span class="ago">{relative(ms, now, lang)}</span>;
}

/** A time that shows its nanoseconds when pressed. */
export function ExactMoment({ at, ago = false, show = "both", zone = true }: MomentProps & { at: string }): JSX.Element {
  const { t } = useWords();
  const [exact, setExact] = useState(false);
  return (
    <button type="button" class="plain" title={t.time.ns} aria-pressed={exact} onClick={() => setExact(!exact)}>
      <Moment at={at} digits={exact ? 9 : 3} ago={ago && !exact} show={show} zone={zone} />
    </button>
  );
}
