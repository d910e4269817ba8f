import type { JSX } from "preact";

import { Icon } from "../../components/Icon";
import { useWords } from "../../i18n";
import { latest } from "../drills/marks";
import { useDrills } from "../drills/useDrills";

/** Says when the last drill of a source failed, or when there never was one. */
export function DrillHint(): JSX.Element {
  const { t } = useWords();
  const { board } = useDrills();
  if (board === null || board.drills.some((drill) => drill.outcome === "running")) return <></>;
  const last = latest(board.drills);
  const failed = last.filter((drill) => drill.outcome !== "passed");
  if (last.length > 0 && failed.length === 0) return <></>;
  const bad = failed.length > 0;
  return (
    <p class={bad ? "notice fault" : "notice"} data-testid="drill-hint" data-failed={failed.length}>
      <Icon name={bad ? "fault" : "attention"} />
      <span>
        {bad ? t.drills.hintFailed(failed.map((drill) => drill.source).join(", ")) : t.drills.hintNever} <a href="#/drills">{t.drills.title}</a>
      </span>
    </p>
  );
}
