import type { JSX } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";

import { api, ApiError } from "../../api/client";
import { onChange } from "../../api/live";
import type { Flow, Incident, Role } from "../../api/types";
import { DrillBadge, GradeBadge, StateBadge, VerdictBadge } from "../../components/Badge";
import { Failure, Loading } from "../../components/Failure";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { useTitle } from "../../components/title";
import { visible } from "../../format/foreign";
import type { Ns } from "../../format/instant";
import { flowFilter } from "../../filter";
import { useWords } from "../../i18n";
import { CompletenessCard } from "./CompletenessCard";
import { DownloadPanel } from "./DownloadPanel";
import { Evidence } from "./Evidence";
import { FlowTable } from "./FlowTable";
import { ProbeFindingsCard } from "./ProbeFindings";
import { Progress } from "./Progress";
import { RateChart } from "./RateChart";
import { TriggerCard } from "./TriggerCard";
import { TriggerList } from "./TriggerList";

/** From this many characters on a subject is set smaller. */
const SUBJECT_LONG = 80;

/** The part of the window that is chosen for the download. */
export interface Selection {
  from: Ns;
  to: Ns;
}

type Loaded = { incident: Incident } | { error: unknown } | { released: true } | null;

function useIncident(id: string): { loaded: Loaded; reload: () => void } {
  const [loaded, setLoaded] = useState<Loaded>(null);
  const reload = useCallback(() => {
    api.incident(id).then(
      (incident) => setLoaded({ incident }),
      (error: unknown) => setLoaded((old) => (old && "incident" in old && !isMissing(error) ? old : { error })),
    );
  }, [id]);
  useEffect(() => {
    reload();
    return onChange((change) => {
      if ("reconnected" in change) reload();
      else if ("released" in change) {
        if (change.released === id) setLoaded({ released: true });
      } else if (change.incident.id === id) setLoaded({ incident: change.incident });
    });
  }, [id]);
  return { loaded, reload };
}

function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.problem.status === 404;
}

export function IncidentPage({ id, role }: { id: string; role: Role }): JSX.Element {
  const { t } = useWords();
  const { loaded, reload } = useIncident(id);
  if (loaded === null) return <Loading />;
  if ("incident" in loaded) return <Found incident={loaded.incident} role={role} />;
  return (
    <section class="card empty">
      <BackLink />
      {"released" in loaded ? (
        <h1>{t.incident.released}</h1>
      ) : isMissing(loaded.error) ? (
        <>
          <h1>{t.incident.notFound}</h1>
          <p>{t.incident.notFoundHint}</p>
        </>
      ) : (
        <Failure error={loaded.error} retry={reload} />
      )}
    </section>
  );
}

function BackLink(): JSX.Element {
  const { t } = useWords();
  return (
    <a class="back" href="#/incidents">
      <Icon name="back" /> {t.incident.back}
    </a>
  );
}

function Found({ incident, role }: { incident: Incident; role: Role }): JSX.Element {
  const { t } = useWords();
  const [filter, setFilter] = useState("");
  const [selection, setSelection] = useState<Selection | null>(null);
  const [fromFlow, setFromFlow] = useState(false);
  const subject = incident.subject.trim();
  useTitle(subject === "" ? t.incidents.noSubject : visible(subject));
  const pick = (flow: Flow): void => {
    setFilter(flowFilter(flow));
    setFromFlow(true);
  };
  const write = (text: string): void => {
    setFilter(text);
    setFromFlow(false);
  };
  return (
    <article class="incident" data-testid="incident" data-id={incident.id}>
      <BackLink />
      <div class="incident-head">
        <h1 class={subject.length > SUBJECT_LONG ? "long" : undefined}>{subject === "" ? t.incidents.noSubject : <Foreign text={subject} />}</h1>
        <div class="badges">
          <StateBadge state={incident.state} testid="incident-state" />
          <VerdictBadge verdict={incident.completeness.verdict} />
          {incident.trigger.kind === "drill" ? <DrillBadge /> : incident.grade === "precursor" && <GradeBadge grade={incident.grade} />}
        </div>
      </div>
      <Progress incident={incident} />
      <div class="incident-columns">
        <TriggerCard incident={incident} />
        <CompletenessCard incident={incident} />
      </div>
      {incident.trigger.kind === "probe" && <ProbeFindingsCard incident={incident} />}
      <RateChart incident={incident} selection={selection} onSelect={setSelection} />
      <div class="incident-work">
        <div class="incident-main">
          <FlowTable incident={incident} onPick={pick} />
          <TriggerList incident={incident} />
        </div>
        <div class="incident-side">
          <DownloadPanel incident={incident} role={role} filter={filter} onFilter={write} fromFlow={fromFlow} selection={selection} onSelection={setSelection} />
          <Evidence incident={incident} role={role} />
        </div>
      </div>
      {fromFlow && <FlowNote />}
    </article>
  );
}

/** On narrow screens the download panel lies elsewhere: this says what happened and leads there. */
function FlowNote(): JSX.Element {
  const { t } = useWords();
  return (
    <div class="flow-note" role="status">
      <span>{t.incident.download.fromFlow}</span>
      <button type="button" class="small primary" onClick={() => document.getElementById("download")?.scrollIntoView({ block: "center" })}>
        {t.incident.download.goTo}
      </button>
    </div>
  );
}
