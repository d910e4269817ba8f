import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api, ApiError } from "../../api/client";
import type { PointHealth, Probe, ProbeBoard, ProbePath } from "../../api/types";
import { Badge, type Tone } from "../../components/Badge";
import { Failure, Loading } from "../../components/Failure";
import { Foreign } from "../../components/Foreign";
import { Icon, type IconName } from "../../components/Icon";
import { useTitle } from "../../components/title";
import { count, percent, roundTrip } from "../../format/quantity";
import { lookup, useWords } from "../../i18n";
import { probeHref } from "../../router";
import { ProbeChart } from "./ProbeChart";

/** Figures are read again this often. */
const REFRESH_MS = 3000;
/** Adding up thousands of targets takes a while: the pause between two is this many times that. */
const REFRESH_PAUSE = 5;

const EXAMPLE = '[[probe]]\nname = "provider-edge"\ntarget = "192.0.2.1"';

const LOOK: Record<Probe["state"], [Tone, IconName]> = {
  ok: ["good", "good"],
  failing: ["fault", "attention"],
  stopped: ["quiet", "off"],
};

const HEALTH: Record<PointHealth, Tone> = { answers: "good", loses: "fault", limited: "attention", unknown: "quiet" };

/** What `ask` answers, asked again and again. */
function useAgain<T>(ask: () => Promise<T>, key: string): { value: T | null; error: unknown; again: () => void } {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  useEffect(() => setValue(null), [key]);
  useEffect(() => {
    let gone = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const asked = performance.now();
    const later = (): void => {
      timer = setTimeout(() => setRound((n) => n + 1), Math.max(REFRESH_MS, REFRESH_PAUSE * (performance.now() - asked)));
    };
    ask().then(
      (next) => {
        if (gone) return;
        setValue(next);
        setError(null);
        later();
      },
      (failure: unknown) => {
        if (gone) return;
        setError(failure);
        later();
      },
    );
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [key, round]);
  return { value, error, again: () => setRound((n) => n + 1) };
}

export function ProbesPage({ name }: { name: string }): JSX.Element {
  return name === "" ? <AllProbes /> : <OneProbe name={name} />;
}

function AllProbes(): JSX.Element {
  const { t } = useWords();
  useTitle(t.probes.title);
  const { value, error, again } = useAgain<ProbeBoard>(api.probes, "");
  if (value === null) return error === null ? <Loading /> : <Failure error={error} retry={again} />;
  return (
    <article class="probes" data-testid="probes">
      <h1>{t.probes.title}</h1>
      {value.probes.length === 0 ? (
        <section class="card empty">
          <p>{t.probes.none}</p>
          <p class="muted">{t.probes.noneHint}</p>
          <pre class="mono">{EXAMPLE}</pre>
        </section>
      ) : (
        <>
          {value.paths.length > 0 && <Paths paths={value.paths} />}
          <ProbeTable probes={value.probes} />
        </>
      )}
    </article>
  );
}

function Paths({ paths }: { paths: ProbePath[] }): JSX.Element {
  const { t } = useWords();
  const limited = paths.some((path) => path.points.some((point) => point.health === "limited"));
  return (
    <section class="card" aria-labelledby="paths">
      <h2 id="paths">{t.probes.paths}</h2>
      {paths.map((path) => (
        <div key={path.name} class="path" data-testid="path">
          <h3>
            <Foreign text={path.name} />
          </h3>
          <ol class="path-points">
            {path.points.map((point, at) => (
              <li key={point.probe} class={path.loss_begins === at ? "begins" : undefined}>
                <a href={probeHref(point.probe)}>
                  <Foreign text={point.probe} />
                </a>{" "}
                <Badge tone={HEALTH[point.health] ?? "quiet"} text={lookup(t.probes.health, point.health) ?? point.health} />
              </li>
            ))}
          </ol>
          <p class={path.loss_begins === null ? "muted" : "path-loss"}>{pathText(path, t.probes)}</p>
        </div>
      ))}
      {limited && <p class="muted">{t.probes.limitedHint}</p>}
    </section>
  );
}

type Words = ReturnType<typeof useWords>["t"]["probes"];

/** Where loss begins, in a sentence. */
export function pathText(path: ProbePath, words: Pick<Words, "pathClear" | "pathBegins" | "pathBeginsFirst">): string {
  const at = path.loss_begins;
  const point = at === null ? undefined : path.points[at];
  if (at === null || point === undefined) return words.pathClear;
  const before = path.points[at - 1];
  return before === undefined ? words.pathBeginsFirst(point.probe) : words.pathBegins(before.probe, point.probe);
}

function ProbeTable({ probes }: { probes: Probe[] }): JSX.Element {
  const { t, lang } = useWords();
  const words = t.probes;
  const time = (seconds: number | null | undefined): string => (seconds === null || seconds === undefined ? "–" : roundTrip(seconds, lang));
  const share = (loss: number | null | undefined): string => (loss === null || loss === undefined ? "–" : percent(loss, lang));
  return (
    <section class="card table-card" aria-label={words.title}>
      <p class="muted">{words.hint}</p>
      <table class="stack" data-testid="probe-table">
        <thead>
          <tr>
            <th scope="col">{words.state}</th>
            <th scope="col">{words.name}</th>
            <th scope="col">{words.target}</th>
            <th scope="col" class="number">{words.rtt}</th>
            <th scope="col" class="number">{words.worst}</th>
            <th scope="col" class="number">{words.jitter}</th>
            <th scope="col" class="number">{words.loss}</th>
            <th scope="col" class="number">{words.lossLong}</th>
          </tr>
        </thead>
        <tbody>
          {probes.map((probe) => {
            const [tone, icon] = LOOK[probe.state] ?? LOOK.stopped;
            const [minute, , hour] = probe.windows;
            return (
              <tr key={probe.name}>
                <td data-label={words.state}>
                  <Badge tone={tone} icon={icon} text={t.source.states[probe.state] ?? probe.state} />
                </td>
                <td data-label={words.name}>
                  <a href={probeHref(probe.name)}>
                    <Foreign text={probe.name} />
                  </a>
                </td>
                <td data-label={words.target}>
                  <span>
                    <Foreign text={probe.target} />
                    <span class="sub muted">{lookup(words.kinds, probe.kind) ?? probe.kind}</span>
                  </span>
                </td>
                <td data-label={words.rtt} class="number">{time(minute?.rtt?.p50)}</td>
                <td data-label={words.worst} class="number">{time(minute?.rtt?.p99)}</td>
                <td data-label={words.jitter} class="number">{time(probe.jitter)}</td>
                <td data-label={words.loss} class="number">{share(minute?.loss)}</td>
                <td data-label={words.lossLong} class="number">{share(hour?.loss)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function OneProbe({ name }: { name: string }): JSX.Element {
  const { t, lang } = useWords();
  useTitle(name);
  const { value, error, again } = useAgain<Probe>(() => api.probe(name), name);
  const words = t.probes;
  const back = (
    <a class="back" href="#/probes">
      <Icon name="back" /> {words.back}
    </a>
  );
  if (error instanceof ApiError && error.problem.status === 404) {
    return (
      <section class="card empty">
        {back}
        <h1>{words.missing}</h1>
      </section>
    );
  }
  if (value === null) return error === null ? <Loading /> : <Failure error={error} retry={again} />;
  const [tone, icon] = LOOK[value.state] ?? LOOK.stopped;
  const odd = Object.entries(words.counts).filter(([key]) => (value.counts[key] ?? 0) > 0);
  return (
    <article class="probes" data-testid="probe">
      {back}
      <div class="incident-head">
        <h1>
          <Foreign text={value.name} />
        </h1>
        <div class="badges">
          <Badge tone={tone} icon={icon} text={t.source.states[value.state] ?? value.state} />
        </div>
      </div>
      <p class="muted">
        {lookup(words.kinds, value.kind) ?? value.kind} · <Foreign text={value.target} /> · <Foreign text={value.detail} />
      </p>
      <ProbeChart probe={value} />
      <section class="card table-card" aria-labelledby="figures">
        <h2 id="figures">{words.figures}</h2>
        <table class="stack">
          <thead>
            <tr>
              <th scope="col">{words.window}</th>
              <th scope="col" class="number">{words.sent}</th>
              <th scope="col" class="number">{words.lost}</th>
              <th scope="col" class="number">{words.longest}</th>
              <th scope="col" class="number">{words.rtt}</th>
              <th scope="col" class="number">{words.worst}</th>
              <th scope="col" class="number">{words.ipdv}</th>
            </tr>
          </thead>
          <tbody>
            {value.windows.map((one) => (
              <tr key={one.window}>
                <td data-label={words.window}>{lookup(words.windows, one.window) ?? one.window}</td>
                <td data-label={words.sent} class="number">{count(one.sent, lang)}</td>
                <td data-label={words.lost} class="number">
                  {count(one.lost, lang)} {one.loss !== null && `(${percent(one.loss, lang)})`}
                </td>
                <td data-label={words.longest} class="number">{count(one.longest_burst, lang)}</td>
                <td data-label={words.rtt} class="number">{one.rtt ? roundTrip(one.rtt.p50, lang) : "–"}</td>
                <td data-label={words.worst} class="number">{one.rtt ? roundTrip(one.rtt.p99, lang) : "–"}</td>
                <td data-label={words.ipdv} class="number">{one.ipdv_p95 === null ? "–" : roundTrip(one.ipdv_p95, lang)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <dl class="facts">
          <dt>{words.jitter}</dt>
          <dd>{value.jitter === null ? words.noValue : roundTrip(value.jitter, lang)}</dd>
          <dt>{words.hop}</dt>
          <dd>{value.ttl ?? words.noValue}</dd>
          {odd.length > 0 && (
            <>
              <dt>{words.oddities}</dt>
              <dd>
                <ul class="plain-list">
                  {odd.map(([key, text]) => (
                    <li key={key}>
                      {count(value.counts[key] ?? 0, lang)} {text}
                    </li>
                  ))}
                </ul>
              </dd>
            </>
          )}
          {value.errors.length > 0 && (
            <>
              <dt>{words.said}</dt>
              <dd>
                <ul class="plain-list">
                  {value.errors.map((one) => (
                    <li key={`${one.by}/${one.error}`}>{words.saidBy(one.by ?? "?", one.error, count(one.count, lang))}</li>
                  ))}
                </ul>
              </dd>
            </>
          )}
        </dl>
      </section>
    </article>
  );
}
