import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api } from "../../api/client";
import type { Flow, Flows, FlowSort, Incident } from "../../api/types";
import { Badge } from "../../components/Badge";
import { Failure, Loading } from "../../components/Failure";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { ExactMoment } from "../../components/Moment";
import { flowFilter } from "../../filter";
import { parseInstant, toMs, zoneLabel } from "../../format/instant";
import { bytes, count, span } from "../../format/quantity";
import { useWords } from "../../i18n";
import type { Words } from "../../i18n/en";
import { zone as zoneStore } from "../../settings";
import { useStore } from "../../store";

const PAGE = 25;
const TYPING_MS = 250;
/** How often an index in the making is asked for. */
const INDEXING_MS = 2000;

interface Sorting {
  sort: FlowSort;
  order: "asc" | "desc";
}

function sortNames(t: Words): Record<FlowSort, string> {
  const words = t.incident.flows;
  return {
    bytes: words.sortBytes,
    packets: words.sortPackets,
    first: words.sortFirst,
    last: words.sortLast,
    syn_unanswered: words.sortSyn,
    rst: words.sortRst,
    retransmissions: words.sortRetransmissions,
  };
}

/** Times read best from the beginning, amounts from the largest. */
export function firstOrder(sort: FlowSort): "asc" | "desc" {
  return sort === "first" ? "asc" : "desc";
}

function useFlows(incident: Incident, q: string, sorting: Sorting, offset: number): { flows: Flows | null; error: unknown; reload: () => void } {
  const [flows, setFlows] = useState<Flows | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    api.flows(incident.id, { q, ...sorting, limit: PAGE, offset }, abort.signal).then(
      (next) => {
        setFlows(next);
        setError(null);
        if (!next.indexed) timer = setTimeout(() => setRound((n) => n + 1), INDEXING_MS);
      },
      (failure: unknown) => {
        if (!abort.signal.aborted) setError(failure);
      },
    );
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [incident.id, incident.state, q, sorting.sort, sorting.order, offset, round]);
  return { flows, error, reload: () => setRound((n) => n + 1) };
}

export function FlowTable({ incident, onPick }: { incident: Incident; onPick: (flow: Flow) => void }): JSX.Element {
  const { t, lang } = useWords();
  const words = t.incident.flows;
  const [typed, setTyped] = useState("");
  const [q, setQ] = useState("");
  const [offset, setOffset] = useState(0);
  const [sorting, setSorting] = useState<Sorting>({ sort: "bytes", order: "desc" });
  const { flows, error, reload } = useFlows(incident, q, sorting, offset);
  useEffect(() => {
    const timer = setTimeout(() => {
      setQ(typed.trim());
      setOffset(0);
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const sortBy = (next: Sorting): void => {
    setSorting(next);
    setOffset(0);
  };
  return (
    <section class="card table-card flows" aria-labelledby="flows">
      <div class="section-head">
        <h2 id="flows">{words.title}</h2>
        {flows?.indexed && <span class="muted" data-testid="flow-count">{words.count(count(flows.total, lang))}</span>}
      </div>
      <div class="flow-tools">
        <label class="search-field">
          <Icon name="search" />
          <input type="search" value={typed} aria-label={words.search} placeholder={words.search} spellcheck={false} autocapitalize="none" onInput={(e) => setTyped(e.currentTarget.value)} data-testid="flow-search" />
        </label>
        <SortChoice sorting={sorting} onSort={sortBy} />
      </div>
      {error !== null && <Failure error={error} retry={reload} />}
      {flows === null ? (
        error === null && <Loading />
      ) : !flows.indexed ? (
        <p class="notice quiet" role="status">
          <Icon name="wait" />
          <span>{words.indexing}</span>
        </p>
      ) : flows.flows.length === 0 ? (
        <p class="muted">{q === "" ? words.none : words.noMatch}</p>
      ) : (
        <>
          <p class="muted">{words.hint}</p>
          <FlowRows incident={incident} flows={flows.flows} sorting={sorting} onSort={sortBy} onPick={onPick} />
        </>
      )}
      {flows && flows.total > PAGE && (
        <nav class="pager" aria-label={words.title}>
          <button type="button" class="small" disabled={offset === 0} onClick={() => setOffset(Math.max(0, offset - PAGE))}>
            <Icon name="back" /> {words.previous}
          </button>
          <span>{words.page(count(offset + 1, lang), count(Math.min(flows.total, offset + PAGE), lang), count(flows.total, lang))}</span>
          <button type="button" class="small" disabled={offset + PAGE >= flows.total} onClick={() => setOffset(offset + PAGE)}>
            {words.next} <Icon name="next" />
          </button>
        </nav>
      )}
    </section>
  );
}

function SortChoice({ sorting, onSort }: { sorting: Sorting; onSort: (sorting: Sorting) => void }): JSX.Element {
  const { t } = useWords();
  const words = t.incident.flows;
  const rising = sorting.order === "asc";
  return (
    <div class="sort-choice">
      <label>
        <span>{words.sortBy}</span>
        <select
          value={sorting.sort}
          onChange={(e) => {
            const sort = e.currentTarget.value as FlowSort;
            onSort({ sort, order: firstOrder(sort) });
          }}
          data-testid="flow-sort"
        >
          {Object.entries(sortNames(t)).map(([key, name]) => (
            <option key={key} value={key}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <button type="button" class="small" title={rising ? words.ascending : words.descending} aria-label={rising ? words.ascending : words.descending} onClick={() => onSort({ ...sorting, order: rising ? "desc" : "asc" })}>
        <Icon name={rising ? "up" : "down"} />
      </button>
    </div>
  );
}

interface HeadProps {
  sort: FlowSort;
  label: string;
  sorting: Sorting;
  onSort: (sorting: Sorting) => void;
  number?: boolean;
}

function Head({ sort, label, sorting, onSort, number = false }: HeadProps): JSX.Element {
  const active = sorting.sort === sort;
  const turned = sorting.order === "asc" ? "desc" : "asc";
  return (
    <th scope="col" class={number ? "number" : undefined} aria-sort={active ? (sorting.order === "asc" ? "ascending" : "descending") : undefined}>
      <button type="button" class="head" onClick={() => onSort({ sort, order: active ? turned : firstOrder(sort) })}>
        {label}
        {active && <Icon name={sorting.order === "asc" ? "up" : "down"} />}
      </button>
    </th>
  );
}

interface RowsProps {
  incident: Incident;
  flows: Flow[];
  sorting: Sorting;
  onSort: (sorting: Sorting) => void;
  onPick: (flow: Flow) => void;
}

function FlowRows({ incident, flows, sorting, onSort, onPick }: RowsProps): JSX.Element {
  const { t } = useWords();
  const zone = useStore(zoneStore);
  const words = t.incident.flows;
  const at = parseInstant(incident.window.from);
  const several = incident.interfaces.length > 1;
  const label = at === null ? "" : ` (${zoneLabel(zone, at)})`;
  return (
    <table class="stack flow-table" data-testid="flow-table">
      <thead>
        <tr>
          <th scope="col">{words.protocol}</th>
          <th scope="col">
            {words.from} → {words.to}
          </th>
          <Head sort="first" label={`${words.first}${label}`} sorting={sorting} onSort={onSort} />
          <Head sort="packets" label={words.packets} sorting={sorting} onSort={onSort} number />
          <Head sort="bytes" label={words.bytes} sorting={sorting} onSort={onSort} number />
          <th scope="col">{words.symptoms}</th>
        </tr>
      </thead>
      <tbody>
        {flows.map((flow, i) => (
          <FlowRow key={i} flow={flow} several={several} onPick={onPick} />
        ))}
      </tbody>
    </table>
  );
}

export function endpoint(address: string, port: number | null): string {
  if (port === null) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

function FlowRow({ flow, several, onPick }: { flow: Flow; several: boolean; onPick: (flow: Flow) => void }): JSX.Element {
  const { t, lang } = useWords();
  const words = t.incident.flows;
  const first = parseInstant(flow.first);
  const last = parseInstant(flow.last);
  const length = first === null || last === null ? 0 : toMs(last) - toMs(first);
  const name = `${flow.protocol} ${endpoint(flow.src, flow.src_port)} → ${endpoint(flow.dst, flow.dst_port)}`;
  return (
    <tr data-testid="flow-row">
      <td class="kind">
        <span>
          <span class="protocol">{flow.protocol.toUpperCase()}</span>
          {several && <span class="sub muted"><Foreign text={flow.interface} mono /></span>}
        </span>
      </td>
      <td class="ends">
        <button type="button" class="flow-pick" data-testid="flow-pick" title={words.use(flowFilter(flow))} aria-label={words.use(name)} onClick={() => onPick(flow)}>
          <span class="nobreak"><Foreign text={endpoint(flow.src, flow.src_port)} mono /></span>
          <span class="nobreak"><span class="arrow" aria-hidden="true">→ </span><Foreign text={endpoint(flow.dst, flow.dst_port)} mono /></span>
        </button>
      </td>
      <td data-label={words.first}>
        <span>
          <ExactMoment at={flow.first} show="time" zone={false} />
          <span class="sub muted">{span(length, lang)}</span>
        </span>
      </td>
      <Both label={words.packets} there={count(flow.packets_to, lang)} back={count(flow.packets_back, lang)} />
      <Both label={words.bytes} there={bytes(flow.bytes_to, lang)} back={bytes(flow.bytes_back, lang)} />
      <td data-label={words.symptoms} class={symptomless(flow) ? "symptoms nothing" : "symptoms"}>
        <Symptoms flow={flow} />
      </td>
    </tr>
  );
}

function Both({ label, there, back }: { label: string; there: string; back: string }): JSX.Element {
  return (
    <td data-label={label} class="number">
      <span class="both">
        <span>→ {there}</span>
        <span>← {back}</span>
      </span>
    </td>
  );
}

function symptomless(flow: Flow): boolean {
  return flow.syn_unanswered + flow.rst + flow.retransmissions === 0 && flow.tcp_flags === "";
}

/** `RST ×3`; once goes without saying. */
function times(name: string, n: number): string {
  return n > 1 ? `${name} ×${n}` : name;
}

function Symptoms({ flow }: { flow: Flow }): JSX.Element {
  const { t, lang } = useWords();
  const words = t.incident.flows;
  return (
    <span class="badges">
      {flow.syn_unanswered > 0 && (
        <span title={words.synHint}>
          <Badge tone="fault" icon="fault" text={times(words.synUnanswered, flow.syn_unanswered)} />
        </span>
      )}
      {flow.rst > 0 && (
        <span title={words.rstHint}>
          <Badge tone="attention" icon="attention" text={times(words.rst, flow.rst)} />
        </span>
      )}
      {flow.retransmissions > 0 && (
        <span title={words.retransmissionsHint}>
          <Badge tone="attention" icon="attention" text={words.retransmissions(count(flow.retransmissions, lang))} />
        </span>
      )}
      {flow.tcp_flags !== "" && (
        <span class="muted mono flags" title={words.flags}>
          {flow.tcp_flags}
        </span>
      )}
    </span>
  );
}
