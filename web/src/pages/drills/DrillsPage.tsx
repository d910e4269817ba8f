import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api } from "../../api/client";
import type { Drill, DrillBoard, Drillable, Role } from "../../api/types";
import { Badge } from "../../components/Badge";
import { CopyLine } from "../../components/Copy";
import { Failure, Loading } from "../../components/Failure";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { Moment } from "../../components/Moment";
import { useTitle } from "../../components/title";
import { roundTrip } from "../../format/quantity";
import { lookup, useWords } from "../../i18n";
import { incidentHref } from "../../router";
import { mayHandlePackets } from "../../session";
import { LOOK, marksOf, tookNs } from "./marks";
import { Steps } from "./Steps";
import { useDrills } from "./useDrills";

/** How the server's note begins that stands here in the reader's language. */
const NOT_LOOKED = "no marked packet was looked for";
/** The history shows so many drills to begin with. */
const SHOWN = 20;

const EXAMPLE = '[drill]\nevery = "1day"\nat = "03:30"\ncanary = "192.0.2.1:9"';

export function DrillsPage({ role, id }: { role: Role; id: string }): JSX.Element {
  const { t } = useWords();
  useTitle(t.drills.title);
  const { board, error, load, take } = useDrills();
  const [refused, setRefused] = useState<unknown>(null);
  if (board === null) return error === null ? <Loading /> : <Failure error={error} retry={load} />;
  const begin = (source: string): void => {
    setRefused(null);
    void api.drill(source).then((begun) => begun.drills.forEach(take), setRefused);
  };
  const allowed = mayHandlePackets(role);
  return (
    <article class="drills" data-testid="drills">
      <div class="page-head">
        <h1>{t.drills.title}</h1>
        <button type="button" class="primary" disabled={!allowed} title={allowed ? undefined : t.drills.viewer} onClick={() => begin("all")} data-testid="drill-all">
          {t.drills.runAll}
        </button>
      </div>
      <p class="muted">{t.drills.hint}</p>
      {refused !== null && <Failure error={refused} />}
      <SourceTable board={board} allowed={allowed} begin={begin} />
      <Schedule board={board} />
      <History drills={board.drills} id={id} />
    </article>
  );
}

function Schedule({ board }: { board: DrillBoard }): JSX.Element {
  const { t } = useWords();
  if (board.next !== null) {
    return (
      <p class="drill-next">
        {t.drills.next} <Moment at={board.next} ago />
      </p>
    );
  }
  return (
    <section class="card">
      <p>{t.drills.noSchedule}</p>
      <CopyLine text={EXAMPLE} />
    </section>
  );
}

function SourceTable({ board, allowed, begin }: { board: DrillBoard; allowed: boolean; begin: (source: string) => void }): JSX.Element {
  const { t } = useWords();
  const words = t.drills;
  return (
    <section class="card table-card" aria-label={words.sources}>
      <table class="stack" data-testid="drill-sources">
        <thead>
          <tr>
            <th scope="col">{words.source}</th>
            <th scope="col">{words.lastResult}</th>
            <th scope="col">{words.lastTime}</th>
            <th scope="col">{words.history}</th>
            <th scope="col">
              <span class="offscreen">{words.run}</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {board.sources.map((source) => (
            <SourceRow key={`${source.kind}/${source.name}`} source={source} drills={board.drills} allowed={allowed} begin={begin} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function SourceRow({ source, drills, allowed, begin }: { source: Drillable; drills: Drill[]; allowed: boolean; begin: (source: string) => void }): JSX.Element {
  const { t } = useWords();
  const words = t.drills;
  const marks = marksOf(source, drills);
  const last = marks.at(-1);
  return (
    <tr data-source={source.name} data-outcome={last?.outcome ?? "none"}>
      <td data-label={words.source}>
        <span>
          {source.name !== source.kind && <Foreign text={source.name} />}
          <span class={source.name === source.kind ? undefined : "sub muted"}>{t.kinds[source.kind] ?? source.kind}</span>
        </span>
      </td>
      <td data-label={words.lastResult}>{source.cannot !== null ? <span class="muted">{words.cannot}</span> : last ? <OutcomeBadge drill={last} /> : <span class="muted">{words.never}</span>}</td>
      <td data-label={words.lastTime}>{source.cannot !== null ? <Foreign text={source.cannot} /> : last ? <Moment at={last.started} ago /> : "–"}</td>
      <td data-label={words.history}>
        <span class="drill-marks">
          {marks.map((drill) => (
            <a key={drill.id} class={`drill-mark ${LOOK[drill.outcome][0]}`} href={`#/drills/${drill.id}`} title={lookup(words.outcomes, drill.outcome) ?? drill.outcome}>
              <Icon name={LOOK[drill.outcome][1]} />
              <span class="offscreen">{lookup(words.outcomes, drill.outcome) ?? drill.outcome}</span>
            </a>
          ))}
        </span>
      </td>
      <td class="drill-run">
        {source.cannot === null && (
          <button type="button" class="small" disabled={!allowed || last?.outcome === "running"} title={allowed ? undefined : words.viewer} onClick={() => begin(source.name)}>
            {words.run}
          </button>
        )}
      </td>
    </tr>
  );
}

function OutcomeBadge({ drill }: { drill: Drill }): JSX.Element {
  const { t } = useWords();
  const [tone, icon] = LOOK[drill.outcome];
  return <Badge tone={tone} icon={icon} text={lookup(t.drills.outcomes, drill.outcome) ?? drill.outcome} state={drill.outcome} />;
}

function History({ drills, id }: { drills: Drill[]; id: string }): JSX.Element {
  const { t } = useWords();
  const [shown, setShown] = useState(SHOWN);
  const place = drills.findIndex((drill) => drill.id === id);
  useEffect(() => {
    if (place >= shown) setShown(place + 1);
    else document.getElementById(`drill-${id}`)?.scrollIntoView({ block: "center" });
  }, [id, place, shown]);
  if (drills.length === 0) return <p class="card muted">{t.drills.none}</p>;
  return (
    <section aria-labelledby="drill-history">
      <h2 id="drill-history">{t.drills.history}</h2>
      <ul class="drill-list plain-list" data-testid="drill-history">
        {drills.slice(0, shown).map((drill) => (
          <DrillCard key={drill.id} drill={drill} />
        ))}
      </ul>
      {drills.length > shown && (
        <button type="button" class="small" onClick={() => setShown(shown + SHOWN)}>
          {t.drills.more}
        </button>
      )}
    </section>
  );
}

function DrillCard({ drill }: { drill: Drill }): JSX.Element {
  const { t, lang } = useWords();
  const words = t.drills;
  const took = tookNs(drill);
  return (
    <li class="card drill-card" id={`drill-${drill.id}`} data-testid="drill" data-outcome={drill.outcome}>
      <div class="drill-head">
        <OutcomeBadge drill={drill} />
        <strong>
          <Foreign text={drill.source} />
        </strong>
        <span class="muted">{t.kinds[drill.kind] ?? drill.kind}</span>
        <span class="muted">
          <Moment at={drill.started} ago />
        </span>
        <span class="muted">
          {drill.asked_by === "schedule" ? words.bySchedule : words.by(drill.asked_by)}
          {took !== null && ` · ${roundTrip(took / 1e9, lang)}`}
        </span>
        {drill.incident && <a href={incidentHref(drill.incident)}>{words.incident}</a>}
      </div>
      {drill.why && (
        <p class="drill-why">
          {drill.failed_at && <>{words.failedAt(lookup(words.steps, drill.failed_at) ?? drill.failed_at)} </>}
          <Foreign text={words.said(drill.why)} />
        </p>
      )}
      <Steps drill={drill} />
      {drill.sighting && <p class="muted">{words.sighted(drill.sighting.interface, roundTrip(drill.sighting.after_ns / 1e9, lang))}</p>}
      {drill.outcome === "passed" && !drill.sighting && <p class="muted">{words.notLooked}</p>}
      {drill.notes?.filter((note) => !note.startsWith(NOT_LOOKED)).map((note) => (
        <p key={note} class="muted">
          <Foreign text={words.said(note)} />
        </p>
      ))}
    </li>
  );
}
