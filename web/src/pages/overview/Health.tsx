import type { ComponentChildren, JSX } from "preact";

import { history } from "../../api/live";
import type { Status } from "../../api/types";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { Moment } from "../../components/Moment";
import { parseInstant, writeInstant } from "../../format/instant";
import { bytes, count, percent, span } from "../../format/quantity";
import { useWords } from "../../i18n";
import { zone as zoneStore } from "../../settings";
import { useStore } from "../../store";

type Level = "good" | "attention" | "fault" | "unknown";

const DISK_LOW = 0.05;
const LOSS_RECENT_SAMPLES = 10;

/** Packets lost by all interfaces, and whether more were lost within the last seconds. */
export function losses(status: Status): { lost: number; seen: number; growing: boolean } {
  let [lost, seen, growing] = [0, 0, false];
  for (const one of status.interfaces) {
    const dropped = one.dropped_kernel + one.dropped_ring + one.dropped_iface;
    lost += dropped;
    seen += one.received + one.dropped_iface;
    const samples = history.get(one.name) ?? [];
    const earlier = samples[Math.max(0, samples.length - LOSS_RECENT_SAMPLES)];
    if (earlier && dropped > earlier.dropped) growing = true;
  }
  return { lost, seen, growing };
}

export function Health({ status }: { status: Status }): JSX.Element {
  const { t, lang } = useWords();
  const { recorder, interfaces, clock } = status;
  const running = interfaces.filter((one) => one.state === "running" || one.state === "finished").length;
  const { lost, seen, growing } = losses(status);
  // The figures of interfaces come from the recorder: without it they are not known.
  const blind = !recorder.reachable && interfaces.length === 0;
  const lastStep = clock.steps?.at(-1);
  const inTrouble = interfaces.filter((one) => one.state !== "running" && one.state !== "finished");
  return (
    <section class="health" aria-label={t.health.title} data-testid="health">
      <Item level={recorder.reachable ? "good" : "fault"} name={t.health.recorder} value={recorder.reachable ? t.health.recorderOk : t.health.recorderGone} testid="health-recorder">
        {recorder.reachable ? recorder.started && <Since at={recorder.started} /> : <>{recorder.error ? <Foreign text={recorder.error} /> : t.health.recorderGoneHint}</>}
      </Item>
      {blind ? (
        <>
          <Item level="unknown" name={t.health.interfaces} value={t.health.unknown}>
            {t.health.unknownHint}
          </Item>
          <Item level="unknown" name={t.health.losses} value={t.health.unknown}>
            {t.health.unknownHint}
          </Item>
        </>
      ) : (
        <>
      <Item level={interfaces.length === 0 ? "fault" : running === interfaces.length ? "good" : "attention"} name={t.health.interfaces} value={interfaces.length === 0 ? t.health.interfacesNone : t.health.interfacesRunning(count(running, lang), count(interfaces.length, lang))}>
        {interfaces.length === 0 ? t.health.interfacesNoneHint : inTrouble.length === 0 ? t.health.interfacesAllWell : inTrouble.map((one) => `${one.name}: ${t.iface.states[one.state] ?? one.state}`).join(", ")}
      </Item>
      <Item level={growing ? "fault" : lost > 0 ? "attention" : "good"} name={t.health.losses} value={lost === 0 ? t.health.lossesNone : t.health.lossesSome(count(lost, lang))} testid="health-losses">
        {growing ? t.health.lossesNow : lost === 0 ? t.health.lossesNoneHint : t.health.lossesShare(percent(lost / Math.max(1, seen), lang))}
      </Item>
        </>
      )}
      <Disk status={status} />
      <Item level={clock.synchronised ? "good" : "attention"} name={t.health.clock} testid="health-clock" value={clock.synchronised ? t.health.clockOk : t.health.clockBad}>
        {!clock.synchronised ? t.health.clockBadHint : clock.offset_bound_ns === null ? clock.source : t.health.clockBound(bound(clock.offset_bound_ns, lang), clock.source)}
        {lastStep && (
          <>
            <br />
            {(lastStep.step_ns < 0 ? t.health.clockSetBack : t.health.clockSetForward)(bound(Math.abs(lastStep.step_ns), lang))} <Moment at={lastStep.to} ago />
          </>
        )}
      </Item>
    </section>
  );
}

function Disk({ status }: { status: Status }): JSX.Element {
  const { t, lang } = useWords();
  const { path, free_bytes: free, total_bytes: total } = status.disk;
  const { evidence_bytes: used, evidence_quota_bytes: quota } = status.server;
  const known = free !== null && total !== null && total > 0;
  const low = known && free / total < DISK_LOW;
  return (
    <Item level={!known ? "unknown" : low ? "attention" : "good"} name={t.health.disk} value={known ? t.health.diskFree(bytes(free, lang)) : t.health.unknown}>
      {known ? t.health.diskOf(bytes(total, lang), path) : path}
      {low && (
        <>
          <br />
          {t.health.diskLow}
        </>
      )}
      <br />
      {t.health.evidence}: {t.health.evidenceUsed(bytes(used, lang), bytes(quota, lang))}
    </Item>
  );
}

function bound(ns: number, lang: "en" | "ja"): string {
  return ns < 1_000_000 ? `${count(Math.max(1, Math.round(ns / 1000)), lang)} µs` : span(ns / 1e6, lang);
}

function Since({ at }: { at: string }): JSX.Element {
  const { t } = useWords();
  const zone = useStore(zoneStore);
  const ns = parseInstant(at);
  if (ns === null) return <></>;
  const { date, time, zone: label } = writeInstant(ns, zone);
  return <>{t.health.recorderSince(`${date} ${time} ${label}`)}</>;
}

function Item({ level, name, value, children, testid }: { level: Level; name: string; value: string; children: ComponentChildren; testid?: string }): JSX.Element {
  const { t } = useWords();
  return (
    <div class={`health-item ${level}`} data-testid={testid} data-level={level}>
      <span class="health-name">
        <Icon name={level === "unknown" ? "wait" : level} />
        <span class="offscreen">{t.health[level]}</span>
        {name}
      </span>
      <strong class="health-value">{value}</strong>
      <span class="health-note">{children}</span>
    </div>
  );
}
