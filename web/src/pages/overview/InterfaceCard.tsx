import type { JSX } from "preact";

import { history, HISTORY_SECONDS } from "../../api/live";
import type { InterfaceStatus } from "../../api/types";
import { useNow } from "../../clock";
import { InterfaceBadge } from "../../components/Badge";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { Meter } from "../../components/Meter";
import { Moment } from "../../components/Moment";
import { Sparkline } from "../../components/Sparkline";
import { parseInstant, toMs } from "../../format/instant";
import { bitRate, byteRate, bytes, count, span } from "../../format/quantity";
import { useWords } from "../../i18n";

/** The shortest span a trend is drawn over, so that a fresh page does not show a speck. */
const TREND_SECONDS_MIN = 30;
/** Below this age the ring's average rate says little about the future. */
const FORECAST_AFTER_MS = 120_000;
/** From this share on the ring counts as full: the last segment is always only partly used. */
const FULL = 0.97;
/** Above this a packet is never cut in practice (the largest IP packet and its frame). */
const SNAPLEN_WHOLE = 65_600;

/** How long a full ring would reach back at the average rate so far, in milliseconds. */
export function forecast(one: InterfaceStatus): number | null {
  const from = parseInstant(one.ring_from);
  const to = parseInstant(one.ring_to);
  if (from === null || to === null || one.ring_bytes <= 0) return null;
  const age = toMs(to) - toMs(from);
  if (age < FORECAST_AFTER_MS || one.ring_bytes >= one.ring_size_bytes * FULL) return null;
  return (age * one.ring_size_bytes) / one.ring_bytes;
}

export function InterfaceCard({ one }: { one: InterfaceStatus }): JSX.Element {
  const { t, lang } = useWords();
  const samples = history.get(one.name) ?? [];
  const rates = samples.map((sample) => sample.packets);
  const rate = (n: number): string => count(n >= 100 ? Math.round(n) : Math.round(n * 10) / 10, lang);
  const shown = Math.min(HISTORY_SECONDS, Math.max(TREND_SECONDS_MIN, samples.length));
  // For these two states the hint says it already, in the user's language.
  const why = one.state === "absent" || one.state === "down" ? "" : (one.why ?? "");
  const hint = t.iface.hints[one.state] ?? "";
  return (
    <article class="card iface" data-testid="interface-card" data-interface={one.name} data-state={one.state}>
      <header>
        <h3>
          <Foreign text={one.name} mono />
        </h3>
        <InterfaceBadge state={one.state} />
      </header>
      {(hint !== "" || why !== "") && (
        <p class="notice attention">
          <Icon name="attention" />
          <span>
            {hint} {why !== "" && <Foreign text={why} />} <span class="muted"><Moment at={one.since} ago /></span>
          </span>
        </p>
      )}
      {one.disk_error && (
        <p class="notice fault">
          <Icon name="fault" />
          <span>
            {t.iface.diskError}: <Foreign text={one.disk_error} />
          </span>
        </p>
      )}
      {one.accounting_error && (
        <p class="notice fault">
          <Icon name="fault" />
          <span>
            {t.iface.accountingError}: <Foreign text={one.accounting_error} />
          </span>
        </p>
      )}
      <div class="iface-rate">
        <div>
          <strong>{t.iface.packetsPerSecond(rate(one.packets_per_second))}</strong>
          <span>
            {byteRate(one.bytes_per_second, lang)} · {bitRate(one.bytes_per_second, lang)}
          </span>
        </div>
        <figure>
          <Sparkline values={rates} capacity={shown} label={t.iface.trend(shown)} />
          <figcaption>{t.iface.peak(count(shown, lang), rate(Math.max(0, ...rates)))}</figcaption>
        </figure>
      </div>
      <GoBack one={one} />
      <Losses one={one} />
      {one.filter !== "" && (
        <p class="notice attention">
          <Icon name="attention" />
          <span>
            {t.iface.filter}: <Foreign text={one.filter} mono />
            <br />
            {t.iface.filterHint}
          </span>
        </p>
      )}
      <details>
        <summary>{t.iface.details}</summary>
        <dl class="facts">
          <dt>{t.iface.received}</dt>
          <dd>
            {t.iface.packets(count(one.received, lang))}, {bytes(one.written_bytes, lang)}
          </dd>
          <dt>{t.iface.from}</dt>
          <dd>
            <Moment at={one.ring_from} digits={3} ago />
          </dd>
          <dt>{t.iface.upTo}</dt>
          <dd>
            <Moment at={one.ring_to} digits={3} ago />
          </dd>
        </dl>
        <ul class="plain-list muted">
          {(one.truncated ?? 0) > 0 && <li>{t.iface.truncated(count(one.truncated ?? 0, lang))}</li>}
          {(one.filtered ?? 0) > 0 && <li>{t.iface.filtered(count(one.filtered ?? 0, lang))}</li>}
          <li>{t.iface.memory(count(one.slots_free, lang), count(one.slots, lang))}</li>
          {one.snaplen > 0 && one.snaplen < SNAPLEN_WHOLE && <li>{t.iface.snaplen(bytes(one.snaplen, lang))}</li>}
          {one.foreign_files > 0 && <li>{t.iface.foreign(count(one.foreign_files, lang))}</li>}
        </ul>
      </details>
    </article>
  );
}

function GoBack({ one }: { one: InterfaceStatus }): JSX.Element {
  const { t, lang } = useWords();
  const now = useNow();
  const from = parseInstant(one.ring_from);
  const share = one.ring_bytes / Math.max(1, one.ring_size_bytes);
  const ahead = forecast(one);
  const used = t.iface.ringFill(bytes(one.ring_bytes, lang), bytes(one.ring_size_bytes, lang));
  return (
    <div class="go-back">
      <p class="sentence" data-testid="go-back">
        {from === null ? t.iface.goBackNone : t.iface.goBack(span(now - toMs(from), lang))}
      </p>
      <Meter share={share} label={used} />
      <p class="muted">
        {used}
        <br />
        {from === null ? t.iface.goBackNoneHint : share >= FULL ? t.iface.ringFull : ahead !== null ? t.iface.ringForecast(span(ahead, lang)) : ""}
      </p>
    </div>
  );
}

function Losses({ one }: { one: InterfaceStatus }): JSX.Element {
  const { t, lang } = useWords();
  const causes: [string, number][] = [
    [t.iface.lostKernel, one.dropped_kernel],
    [t.iface.lostRing, one.dropped_ring],
    [t.iface.lostIface, one.dropped_iface],
  ];
  const some = causes.filter(([, n]) => n > 0);
  return (
    <div class="losses" data-testid="losses">
      <span class="label">{t.iface.lost}</span>
      {some.length === 0 ? (
        <span>
          <Icon name="good" /> {t.iface.lostNone}
        </span>
      ) : (
        <ul class="plain-list">
          {some.map(([cause, n]) => (
            <li key={cause}>
              <Icon name="attention" /> {cause}: <strong>{t.iface.packets(count(n, lang))}</strong>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
