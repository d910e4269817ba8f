import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { Probe, ProbeBin } from "../../api/types";
import { parseInstant, writeInstant } from "../../format/instant";
import { percent, roundTrip } from "../../format/quantity";
import { useWords } from "../../i18n";
import { zone as zoneStore } from "../../settings";
import { useStore } from "../../store";

const HEIGHT = 260;
/** Height of the strip of marks below the band, in pixels of the page. */
const MARKS = 10;

/** uPlot's columns: time in seconds, then most, 90 %, median, 10 %, least in milliseconds. */
export function bands(history: ProbeBin[]): uPlot.AlignedData {
  const seconds = (bin: ProbeBin): number => Number((parseInstant(bin.from) ?? 0n) / 1_000_000n) / 1000;
  const of = (pick: (rtt: NonNullable<ProbeBin["rtt"]>) => number): (number | null)[] =>
    history.map((bin) => (bin.rtt === null ? null : pick(bin.rtt) * 1000));
  return [history.map(seconds), of((q) => q.max), of((q) => q.p90), of((q) => q.p50), of((q) => q.p10), of((q) => q.min)];
}

/** Of each piece the share that was lost, and the share that this host did not send. */
export function marks(history: ProbeBin[]): { lost: number; unsent: number }[] {
  return history.map((bin) => ({
    lost: bin.sent === 0 ? 0 : bin.lost / bin.sent,
    unsent: bin.unsent === 0 ? 0 : bin.unsent / (bin.sent + bin.unsent),
  }));
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function ProbeChart({ probe }: { probe: Probe }): JSX.Element {
  const { t, lang } = useWords();
  const zone = useStore(zoneStore);
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const history = probe.history ?? [];
  const drawn = useRef(history);
  drawn.current = history;
  const hour = probe.windows[2];

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const line = colour("--series-0");
    const band = (share: string): string => `color-mix(in srgb, ${line} ${share}, transparent)`;
    const none = { stroke: "transparent", width: 0, points: { show: false } };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        tzDate: (ts) => (zone === "utc" ? uPlot.tzDate(new Date(ts * 1000), "UTC") : new Date(ts * 1000)),
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(0.01, (max ?? 1) * 1.1)] } },
        axes: [
          { stroke: colour("--ink-2"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, space: 62, size: 32, values: (_, ticks) => ticks.map((tick) => writeInstant(BigInt(Math.round(tick)) * 1_000_000_000n, zone, 0).time.slice(0, 5)) },
          { stroke: colour("--ink-2"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, size: 70, values: (_, ticks) => ticks.map((tick) => roundTrip(tick / 1000, lang)) },
        ],
        series: [{}, none, none, { stroke: line, width: 1.8, points: { show: false } }, none, none],
        bands: [
          { series: [1, 5], fill: band("14%") },
          { series: [2, 4], fill: band("30%") },
        ],
        hooks: { draw: [(u) => drawMarks(u, drawn.current)] },
      },
      bands(drawn.current),
      element,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [probe.name, zone, lang]);

  useEffect(() => plot.current?.setData(bands(history)), [probe]);
  const median = hour?.rtt ? roundTrip(hour.rtt.p50, lang) : t.probes.noValue;
  const loss = hour?.loss == null ? t.probes.noValue : percent(hour.loss, lang);
  return (
    <section class="card chart-card" aria-labelledby="probe-chart">
      <h2 id="probe-chart">{t.probes.chart}</h2>
      <div role="img" aria-label={t.probes.chartDescribe(median, loss)} data-testid="probe-chart">
        <div class="plot" ref={place} />
      </div>
      <p class="muted">{t.probes.chartHint}</p>
    </section>
  );
}

function drawMarks(u: uPlot, history: ProbeBin[]): void {
  const { ctx } = u;
  const { top, height } = u.bbox;
  const [x] = u.data;
  const step = (x[1] ?? 0) - (x[0] ?? 0);
  const tall = MARKS * devicePixelRatio;
  ctx.save();
  marks(history).forEach((mark, i) => {
    const at = x[i];
    if (at === undefined) return;
    const left = u.valToPos(at, "x", true);
    const width = Math.max(2, u.valToPos(at + step, "x", true) - left - 1);
    const paint = (share: number, fill: string): void => {
      if (share === 0) return;
      // A single loss must be seen too.
      const part = Math.max(0.3, share) * tall;
      ctx.fillStyle = fill;
      ctx.fillRect(left, top + height - part, width, part);
    };
    paint(mark.unsent, colour("--line-strong"));
    paint(mark.lost, colour("--bad"));
  });
  ctx.restore();
}
