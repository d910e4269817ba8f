import { useEffect, useState } from "preact/hooks";

import { api } from "../../api/client";
import { onChange, onDrill } from "../../api/live";
import type { Drill, DrillBoard } from "../../api/types";

/** The board with a drill in it as it stands now. What is told late, as the answer that it was begun, changes nothing. */
export function withDrill(board: DrillBoard, drill: Drill): DrillBoard {
  const known = board.drills.find((one) => one.id === drill.id);
  if (known && known.outcome !== "running" && drill.outcome === "running") return board;
  const drills = known ? board.drills.map((one) => (one.id === drill.id ? drill : one)) : [drill, ...board.drills];
  return { ...board, drills };
}

/** Drills and their history, as they get on. */
export function useDrills(): { board: DrillBoard | null; error: unknown; load: () => void; take: (drill: Drill) => void } {
  const [board, setBoard] = useState<DrillBoard | null>(null);
  const [error, setError] = useState<unknown>(null);
  const load = (): void => {
    void api.drills().then((next) => {
      setBoard(next);
      setError(null);
    }, setError);
  };
  const take = (drill: Drill): void => setBoard((old) => old && withDrill(old, drill));
  useEffect(() => {
    load();
    const stops = [onDrill(take), onChange((change) => "reconnected" in change && load())];
    return () => stops.forEach((stop) => stop());
  }, []);
  return { board, error, load, take };
}
