import type { JSX } from "preact";

/** A bar of how full something is; the label says it in words. */
export function Meter({ share, label, tone = "" }: { share: number; label: string; tone?: string }): JSX.Element {
  const bounded = Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0));
  return (
    <div class={`meter ${tone}`} role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(bounded * 100)}>
      <div class="fill" style={{ width: `${bounded * 100}%` }} />
    </div>
  );
}
