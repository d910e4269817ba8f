import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api, query } from "../api/client";
import { onChange } from "../api/live";
import type { Incident } from "../api/types";
import { CopyLine } from "../components/Copy";
import { Failure, Loading } from "../components/Failure";
import { Icon } from "../components/Icon";
import { useTitle } from "../components/title";
import { count } from "../format/quantity";
import { useWords } from "../i18n";
import { replaceHash } from "../router";
import { IncidentTable } from "./IncidentTable";

const PAGE = 100;
/** Many incidents may change at once (an alert storm); the list is read again at most this often. */
const RELOAD_MS = 1000;
const TYPING_MS = 250;

interface Filter {
  state: string;
  grade: string;
  q: string;
}

const EXAMPLE = '[[probe]]\nname = "gateway"\ntarget = "192.0.2.1"\ninterval = "1s"\nlost = 3\nof = 5';

function useIncidents(filter: Filter, limit: number): { list: Incident[] | null; error: unknown; reload: () => void } {
  const [list, setList] = useState<Incident[] | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    api.incidents({ ...filter, limit }, abort.signal).then(
      (incidents) => {
        setList(incidents);
        setError(null);
      },
      (failure: unknown) => {
        if (!abort.signal.aborted) setError(failure);
      },
    );
    return () => abort.abort();
  }, [filter.state, filter.grade, filter.q, limit, round]);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = onChange(() => {
      timer ??= setTimeout(() => {
        timer = undefined;
        setRound((n) => n + 1);
      }, RELOAD_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, []);
  return { list, error, reload: () => setRound((n) => n + 1) };
}

function go(filter: Filter): void {
  replaceHash(`#/incidents${query({ ...filter })}`);
}

export function IncidentsPage({ filter }: { filter: Filter }): JSX.Element {
  const { t, lang } = useWords();
  const [limit, setLimit] = useState(PAGE);
  const [typed, setTyped] = useState(filter.q);
  const { list, error, reload } = useIncidents(filter, limit);
  useTitle(t.incidents.title);
  useEffect(() => setTyped(filter.q), [filter.q]);
  useEffect(() => {
    if (typed === filter.q) return;
    const timer = setTimeout(() => go({ ...filter, q: typed }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);

  const filtered = filter.state !== "" || filter.grade !== "" || filter.q !== "";
  return (
    <>
      <div class="page-head">
        <h1>{t.incidents.title}</h1>
        <span class="muted live-note">
          <Icon name="good" /> {t.incidents.live}
        </span>
      </div>
      {(filtered || list === null || list.length > 0) && <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <label class="field grow">
          <span>{t.incidents.search}</span>
          <input type="search" value={typed} placeholder={t.incidents.searchHint} onInput={(e) => setTyped(e.currentTarget.value)} data-testid="incident-search" />
        </label>
        <Choice label={t.incidents.state} value={filter.state} options={t.incidents.states} onValue={(state) => go({ ...filter, state })} />
        <Choice label={t.incidents.grade} value={filter.grade} options={t.incidents.grades} onValue={(grade) => go({ ...filter, grade })} />
      </form>}
      {error !== null && <Failure error={error} retry={reload} />}
      {list === null ? (
        error === null && <Loading />
      ) : list.length > 0 ? (
        <>
          <p class="muted">{t.incidents.shown(count(list.length, lang))}</p>
          <IncidentTable incidents={list} />
          {list.length >= limit && (
            <button type="button" class="wide" onClick={() => setLimit(limit + PAGE)}>
              {t.incidents.more}
            </button>
          )}
        </>
      ) : filtered ? (
        <div class="card empty">
          <p>{t.incidents.none}</p>
          <button type="button" onClick={() => go({ state: "", grade: "", q: "" })}>
            {t.incidents.clear}
          </button>
        </div>
      ) : (
        <Empty />
      )}
    </>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  options: Record<string, string>;
  onValue: (value: string) => void;
}

function Choice({ label, value, options, onValue }: ChoiceProps): JSX.Element {
  const { t } = useWords();
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(e) => onValue(e.currentTarget.value)}>
        <option value="">{t.incidents.any}</option>
        {Object.entries(options).map(([key, text]) => (
          <option value={key} key={key}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

function Empty(): JSX.Element {
  const { t } = useWords();
  return (
    <div class="card empty" data-testid="no-incidents">
      <h2>{t.incidents.emptyTitle}</h2>
      <p>{t.incidents.empty1}</p>
      <ul>
        <li>{t.incidents.emptyManual}</li>
        <li>{t.incidents.emptyProbe}</li>
        <li>{t.incidents.emptyLog}</li>
        <li>{t.incidents.emptyHook}</li>
      </ul>
      <p>{t.incidents.emptyConfig}</p>
      <CopyLine text={EXAMPLE} />
      <a class="button primary" href="#/">
        {t.nav.overview}
      </a>
    </div>
  );
}
