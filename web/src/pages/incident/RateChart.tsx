import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { api } from "../../api/client";
import type { Incident, Rates } from "../../api/types";
import { Failure, Loading } from "../../components/Failure";
import { Foreign } from "../../components/Foreign";
import { fromMs, type Ns, parseInstant, toMs, writeInstant, zoneLabel } from "../../format/instant";
import { count, span } from "../../format/quantity";
import { useWords } from "../../i18n";
import { zone as zoneStore } from "../../settings";
import { useStore } from "../../store";
import type { Selection } from "./IncidentPage";

const BUCKETS = 300;
const HEIGHT = 220;
/** While an incident collects, its rates are read again this often at most. */
const REFRESH_MS = 3000;
/** Counting reads every packet: the pause between two is this many times what one took. */
const REFRESH_PAUSE = 5;
/** Steps of the time axis in seconds. */
const TICKS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800,
  3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400,
];
/** Lines differ in dash as well as in colour. */
const DASHES: number[][] = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

function useRates(incident: Incident): { rates: Rates | null; error: unknown; reload: () => void } {
  const [rates, setRates] = useState<Rates | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  useEffect(() => {
    let gone = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const asked = performance.now();
    api.rates(incident.id, BUCKETS).then(
      (next) => {
        if (gone) return;
        setRates(next);
        setError(null);
        if (incident.state !== "sealed") timer = setTimeout(() => setRound((n) => n + 1), Math.max(REFRESH_MS, REFRESH_PAUSE * (performance.now() - asked)));
      },
      (failure: unknown) => {
        if (!gone) setError(failure);
      },
    );
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [incident.id, incident.state, incident.window.to, round]);
  return { rates, error, reload: () => setRound((n) => n + 1) };
}

export interface Shade {
  from: number;
  to: number;
}

/** Spans (in seconds) of the window that are not recorded: outside `covered`, and the gaps. */
export function unrecorded(incident: Incident): Shade[] {
  const seconds = (text: string): number => {
    const ns = parseInstant(text);
    return ns === null ? Number.NaN : Number(ns / 1000n) / 1e6;
  };
  const window = { from: seconds(incident.window.from), to: seconds(incident.window.to) };
  const shades: Shade[] = [];
  if (incident.state === "sealed") {
    const { covered } = incident;
    if (!covered) shades.push(window);
    else {
      shades.push({ from: window.from, to: seconds(covered.from) }, { from: seconds(covered.to), to: window.to });
    }
  }
  for (const gap of incident.completeness.gaps) {
    shades.push({ from: Math.max(window.from, seconds(gap.from)), to: Math.min(window.to, seconds(gap.to)) });
  }
  return shades.filter((shade) => shade.from < shade.to);
}

/** uPlot's columns: bucket midpoints in seconds, then packets per second of each interface. */
export function columns(rates: Rates): uPlot.AlignedData {
  const from = parseInstant(rates.from) ?? 0n;
  const bucket = rates.bucket_ns / 1e9;
  const start = Number(from / 1000n) / 1e6;
  const length = Math.max(0, ...rates.interfaces.map((one) => one.packets.length));
  const x = Array.from({ length }, (_, i) => start + (i + 0.5) * bucket);
  return [x, ...rates.interfaces.map((one) => one.packets.map((n) => n / bucket))];
}

interface ChartProps {
  incident: Incident;
  selection: Selection | null;
  onSelect: (selection: Selection | null) => void;
}

export function RateChart({ incident, selection, onSelect }: ChartProps): JSX.Element {
  const { t, lang } = useWords();
  const zone = useStore(zoneStore);
  const { rates, error, reload } = useRates(incident);
  const words = t.incident.chart;
  const shades = useMemo(() => unrecorded(incident), [incident]);
  const total = rates ? rates.interfaces.reduce((sum, one) => sum + one.packets.reduce((a, b) => a + b, 0), 0) : 0;
  const at = parseInstant(incident.trigger.at);
  const length = windowLength(incident);
  const bucket = rates ? words.each(span(rates.bucket_ns / 1e6, lang)) : "";
  return (
    <section class="card chart-card" aria-labelledby="chart">
      <div class="section-head">
        <h2 id="chart">{words.title}</h2>
        <span class="muted">
          {rates?.provisional && `${t.incident.provisional} `}
          {bucket}
        </span>
      </div>
      {error !== null ? (
        <Failure error={error} retry={reload} />
      ) : rates === null ? (
        <Loading />
      ) : (
        <>
          <ul class="legend" aria-hidden="true">
            {rates.interfaces.map((one, i) => (
              <li key={one.name}>
                <Swatch index={i} />
                <Foreign text={one.name} mono /> <span class="muted">{words.unit}</span>
              </li>
            ))}
            <li>
              <span class="swatch-trigger" /> {words.trigger}
            </li>
            {shades.length > 0 && (
              <li>
                <span class="swatch-gap" /> {words.gap}
              </li>
            )}
          </ul>
          <div role="img" aria-label={words.describe(count(total, lang), span(length, lang))} data-testid="rate-chart">
            <Plot rates={rates} shades={shades} trigger={at} selection={selection} onSelect={onSelect} />
          </div>
          <div class="chart-foot">
            <span class="muted">{words.axis(zoneLabel(zone, at ?? fromMs(Date.now())))}</span>
            {selection ? (
              <span class="chosen">
                <ChosenText selection={selection} />{" "}
                <button type="button" class="small" onClick={() => onSelect(null)}>
                  {words.clear}
                </button>
              </span>
            ) : (
              <span class="muted drag-hint">{total === 0 ? words.empty : words.hint}</span>
            )}
          </div>
        </>
      )}
    </section>
  );
}

function windowLength(incident: Incident): number {
  const from = parseInstant(incident.window.from);
  const to = parseInstant(incident.window.to);
  return from === null || to === null ? 0 : toMs(to) - toMs(from);
}

function ChosenText({ selection }: { selection: Selection }): JSX.Element {
  const { t, lang } = useWords();
  const zone = useStore(zoneStore);
  const end = writeInstant(selection.to, zone, 3);
  const length = span(Number((selection.to - selection.from) / 1_000_000n), lang);
  return <>{t.incident.chart.selected(writeInstant(selection.from, zone, 3).time, `${end.time} ${end.zone}`, length)}</>;
}

function Swatch({ index }: { index: number }): JSX.Element {
  return (
    <svg class={`swatch series-${index % DASHES.length}`} viewBox="0 0 28 8" width="28" height="8">
      <line x1="0" y1="4" x2="28" y2="4" stroke-dasharray={(DASHES[index % DASHES.length] ?? []).join(" ")} />
    </svg>
  );
}

/** A colour of the style sheet, for the canvas. */
function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function useScheme(): boolean {
  const [dark, setDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const take = (): void => setDark(media.matches);
    media.addEventListener("change", take);
    return () => media.removeEventListener("change", take);
  }, []);
  return dark;
}

interface PlotProps {
  rates: Rates;
  shades: Shade[];
  trigger: Ns | null;
  selection: Selection | null;
  onSelect: (selection: Selection | null) => void;
}

function Plot({ rates, shades, trigger, selection, onSelect }: PlotProps): JSX.Element {
  const { lang } = useWords();
  const zone = useStore(zoneStore);
  const dark = useScheme();
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const names = rates.interfaces.map((one) => one.name).join("\n");

  // The chart's drawing hooks read what is current from here; the chart is not made anew for it.
  const drawn = useRef({ shades, trigger, onSelect });
  drawn.current = { shades, trigger, onSelect };

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const from = seconds(parseInstant(rates.from));
    const to = seconds(parseInstant(rates.to));
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        tzDate: (ts) => (zone === "utc" ? uPlot.tzDate(new Date(ts * 1000), "UTC") : new Date(ts * 1000)),
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
        scales: { x: { time: true, range: [from, to] }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.08)] } },
        axes: [
          { stroke: colour("--ink-2"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, space: 62, size: 32, incrs: TICKS, values: (_, ticks) => ticks.map((tick) => clock(tick, zone, ticks)) },
          { stroke: colour("--ink-2"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, size: 56, values: (_, ticks) => ticks.map((tick) => count(tick, lang)) },
        ],
        series: [
          {},
          ...rates.interfaces.map((one, i) => ({
            label: one.name,
            stroke: colour(`--series-${i % DASHES.length}`),
            width: 1.6,
            dash: DASHES[i % DASHES.length] ?? [],
            fill: rates.interfaces.length === 1 ? colour("--series-soft") : undefined,
            points: { show: false },
          })),
        ],
        hooks: {
          drawClear: [(u) => drawShades(u, drawn.current.shades)],
          draw: [(u) => drawTrigger(u, drawn.current.trigger)],
          setSelect: [(u) => take(u)],
        },
      },
      columns(rates),
      element,
    );
    // A click makes an empty selection too; only a drag of some width means something.
    const take = (u: uPlot): void => {
      if (u.select.width < 3) return;
      const at = (px: number): Ns => BigInt(Math.round(u.posToVal(px, "x") * 1000)) * 1_000_000n;
      drawn.current.onSelect({ from: at(u.select.left), to: at(u.select.left + u.select.width) });
    };
    made.over.addEventListener("dblclick", () => drawn.current.onSelect(null));
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [names, rates.from, rates.to, zone, lang, dark]);

  useEffect(() => plot.current?.setData(columns(rates)), [rates]);
  useEffect(() => plot.current?.redraw(false), [shades, trigger]);
  useEffect(() => {
    const u = plot.current;
    if (!u) return;
    const left = selection ? u.valToPos(seconds(selection.from), "x") : 0;
    const right = selection ? u.valToPos(seconds(selection.to), "x") : 0;
    u.setSelect({ left, top: 0, width: right - left, height: u.over.clientHeight }, false);
  }, [selection, rates, zone, lang, dark]);
  return <div class="plot" ref={place} />;
}

function seconds(at: Ns | null): number {
  return at === null ? 0 : Number(at / 1000n) / 1e6;
}

function clock(tick: number, zone: "local" | "utc", ticks: number[]): string {
  const step = (ticks[1] ?? tick + 60) - (ticks[0] ?? tick);
  const time = writeInstant(BigInt(Math.round(tick * 1000)) * 1_000_000n, zone, step < 1 ? 3 : 0).time;
  return step >= 60 ? time.slice(0, 5) : time;
}

function drawShades(u: uPlot, shades: Shade[]): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.fillStyle = colour("--gap");
  ctx.setLineDash([]);
  ctx.strokeStyle = colour("--gap-line");
  ctx.lineWidth = 1;
  for (const shade of shades) {
    const x0 = u.valToPos(shade.from, "x", true);
    const x1 = u.valToPos(shade.to, "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(x0, top, Math.max(2, x1 - x0), height);
    ctx.fill();
    ctx.clip();
    ctx.beginPath();
    for (let x = x0 - height; x < x1; x += 9) {
      ctx.moveTo(x, top + height);
      ctx.lineTo(x + height, top);
    }
    ctx.stroke();
    ctx.restore();
  }
  ctx.restore();
}

function drawTrigger(u: uPlot, trigger: Ns | null): void {
  if (trigger === null) return;
  const x = u.valToPos(seconds(trigger), "x", true);
  const { left, top, width, height } = u.bbox;
  if (x < left || x > left + width) return;
  const size = 5 * devicePixelRatio;
  const { ctx } = u;
  ctx.save();
  ctx.setLineDash([]);
  ctx.strokeStyle = colour("--bad");
  ctx.fillStyle = colour("--bad");
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, top + height);
  ctx.stroke();
  ctx.beginPath();
  ctx.moveTo(x - size, top - size);
  ctx.lineTo(x + size, top - size);
  ctx.lineTo(x, top + size);
  ctx.fill();
  ctx.restore();
}
