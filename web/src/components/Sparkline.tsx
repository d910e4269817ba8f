import type { JSX } from "preact";

const WIDTH = 240;
const HEIGHT = 48;

/** A small line without axes; the numbers stand beside it. The newest value is at the right. */
export function Sparkline({ values, capacity, label }: { values: number[]; capacity: number; label: string }): JSX.Element {
  const top = Math.max(1, ...values);
  const step = WIDTH / (capacity - 1);
  const left = WIDTH - (values.length - 1) * step;
  const points = values
    .map((value, i) => `${(left + i * step).toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1)}`)
    .join(" ");
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <line class="base" x1="0" y1={HEIGHT - 1} x2={WIDTH} y2={HEIGHT - 1} />
      {values.length > 1 && (
        <>
          <polygon class="area" points={`${left.toFixed(1)},${HEIGHT} ${points} ${WIDTH},${HEIGHT}`} />
          <polyline class="line" points={points} />
        </>
      )}
    </svg>
  );
}
