import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api } from "../../api/client";
import { onChange, status as statusStore } from "../../api/live";
import type { Incident, Role } from "../../api/types";
import { CopyLine } from "../../components/Copy";
import { Loading } from "../../components/Failure";
import { Icon } from "../../components/Icon";
import { useTitle } from "../../components/title";
import { useWords } from "../../i18n";
import { mayHandlePackets } from "../../session";
import { useStore } from "../../store";
import { IncidentTable } from "../IncidentTable";
import { DrillHint } from "./DrillHint";
import { FreezeDialog } from "./FreezeDialog";
import { Health } from "./Health";
import { InterfaceCard } from "./InterfaceCard";
import { Sources } from "./Sources";
import { Targets } from "./Targets";

const RECENT = 5;

export function OverviewPage({ role }: { role: Role }): JSX.Element {
  const { t } = useWords();
  const status = useStore(statusStore);
  const [freezing, setFreezing] = useState(false);
  const recent = useRecent();
  useTitle(t.overview.title);
  const allowed = mayHandlePackets(role);
  return (
    <>
      <div class="page-head">
        <h1>{t.overview.title}</h1>
        <button type="button" class="primary freeze" disabled={!allowed} title={allowed ? undefined : t.freeze.viewer} onClick={() => setFreezing(true)} data-testid="freeze-open">
          <Icon name="freeze" />
          {t.freeze.button}
        </button>
      </div>
      {freezing && <FreezeDialog status={status} onClose={() => setFreezing(false)} />}
      {!status ? (
        <Loading />
      ) : (
        <>
          <Health status={status} />
          <DrillHint />
          <section aria-labelledby="interfaces">
            <h2 id="interfaces">{t.overview.interfaces}</h2>
            {status.interfaces.length === 0 && !status.recorder.reachable ? (
              <p class="notice attention" data-testid="recorder-away">
                <Icon name="attention" />
                <span>{t.health.recorderGoneHint}</span>
              </p>
            ) : status.interfaces.length === 0 ? (
              <div class="card empty" data-testid="no-interfaces">
                <h3>{t.overview.noInterfaces}</h3>
                <p>{t.overview.noInterfacesHint}</p>
                <CopyLine text={'[capture]\ninterfaces = ["eth1"]'} />
              </div>
            ) : (
              <div class="cards">
                {status.interfaces.map((one) => (
                  <InterfaceCard key={one.name} one={one} />
                ))}
              </div>
            )}
          </section>
          <section aria-labelledby="recent">
            <div class="section-head">
              <h2 id="recent">{t.overview.recent}</h2>
              <a href="#/incidents">{t.overview.all}</a>
            </div>
            {recent && recent.length > 0 ? <IncidentTable incidents={recent} /> : recent && <p class="card muted">{t.overview.noRecent}</p>}
          </section>
          <Sources sources={status.server.sources} maintenance={status.server.maintenance ?? []} />
          {status.server.notify && <Targets targets={status.server.notify} />}
        </>
      )}
    </>
  );
}

function useRecent(): Incident[] | null {
  const [recent, setRecent] = useState<Incident[] | null>(null);
  useEffect(() => {
    const load = (): void => {
      // The connection banner tells of failures; the list stays as it was.
      void api.incidents({ limit: RECENT }).then(setRecent, () => {});
    };
    load();
    return onChange((change) => {
      if (!("incident" in change)) return load();
      const { incident } = change;
      setRecent((old) => {
        const others = (old ?? []).filter((one) => one.id !== incident.id);
        return [...others, incident].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, RECENT);
      });
    });
  }, []);
  return recent;
}
