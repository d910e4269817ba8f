import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api, ApiError, type ExportOptions } from "../../api/client";
import type { Incident, Role } from "../../api/types";
import { Failure } from "../../components/Failure";
import { Foreign } from "../../components/Foreign";
import { Icon } from "../../components/Icon";
import { coversVlan, withVlan } from "../../filter";
import { type Ns, parseInstant, parseTyped, toRfc3339, writeInstant } from "../../format/instant";
import { span } from "../../format/quantity";
import { useWords } from "../../i18n";
import { mayHandlePackets } from "../../session";
import { type Zone, zone as zoneStore } from "../../settings";
import { useStore } from "../../store";
import { DownloadState, useDownload } from "./download";
import type { Selection } from "./IncidentPage";

const SECOND: Ns = 1_000_000_000n;
const AROUND: Ns[] = [10n * SECOND, 60n * SECOND];

interface PanelProps {
  incident: Incident;
  role: Role;
  filter: string;
  onFilter: (filter: string) => void;
  fromFlow: boolean;
  selection: Selection | null;
  onSelection: (selection: Selection | null) => void;
}

/** `at ± reach`, within the window; null when nothing of it lies inside or it is the whole. */
export function around(at: Ns, reach: Ns, window: Selection): Selection | null {
  const from = at - reach > window.from ? at - reach : window.from;
  const to = at + reach < window.to ? at + reach : window.to;
  if (from >= to || (from === window.from && to === window.to)) return null;
  return { from, to };
}

export function DownloadPanel({ incident, role, filter, onFilter, fromFlow, selection, onSelection }: PanelProps): JSX.Element {
  const { t, lang } = useWords();
  const download = useDownload();
  const words = t.incident.download;
  const allowed = mayHandlePackets(role);
  const refusal = download.phase.at === "failed" ? download.phase.error : null;
  const badFilter = refusal instanceof ApiError && refusal.code === "bad_filter" ? refusal : null;
  // A refusal of the old filter says nothing about the new one.
  useEffect(download.cancel, [filter]);
  const [typing, setTyping] = useState(true);
  const suggested = incident.suggested_filter?.trim() ?? "";
  const from = parseInstant(incident.window.from);
  const to = parseInstant(incident.window.to);
  const at = parseInstant(incident.trigger.at);
  const start = (format: ExportOptions["format"]): void => {
    const options: ExportOptions = { format };
    if (filter.trim() !== "") options.filter = filter.trim();
    if (selection) {
      options.from = toRfc3339(selection.from);
      options.to = toRfc3339(selection.to);
    }
    download.start(api.pcapUrl(incident.id, options));
  };
  const blocked = !allowed || download.busy || !typing;
  return (
    <section class="card" id="download" aria-labelledby="download-title">
      <h2 id="download-title">{words.title}</h2>
      <label class="field">
        <span>{words.filter}</span>
        <textarea class="mono" rows={3} spellcheck={false} autocapitalize="none" value={filter} placeholder={words.filterExample} onInput={(e) => onFilter(e.currentTarget.value)} data-testid="download-filter" aria-describedby="filter-hint" aria-invalid={badFilter !== null} />
        <small id="filter-hint">{fromFlow ? words.fromFlow : words.filterHint}</small>
      </label>
      {badFilter && <Failure error={badFilter} testid="download-error" />}
      <div class="chips">
        {suggested !== "" && suggested !== filter && (
          <button type="button" class="chip long" onClick={() => onFilter(suggested)} data-testid="suggested-filter">
            <span class="muted">{words.suggested}</span> <Foreign text={suggested} mono />
          </button>
        )}
        {filter.trim() !== "" && !coversVlan(filter) && (
          <button type="button" class="chip" title={words.vlanHint} onClick={() => onFilter(withVlan(filter))}>
            {words.vlan}
          </button>
        )}
        {filter !== "" && (
          <button type="button" class="chip" onClick={() => onFilter("")}>
            <Icon name="close" /> {words.clear}
          </button>
        )}
      </div>
      {from !== null && to !== null && (
        <fieldset class="span">
          <legend>{words.span}</legend>
          <SpanInputs window={{ from, to }} selection={selection} onSelection={onSelection} onValid={setTyping} />
          <div class="chips">
            <button type="button" class="chip" aria-pressed={selection === null} onClick={() => onSelection(null)}>
              {words.whole}
            </button>
            {at !== null &&
              AROUND.map((reach) => {
                const part = around(at, reach, { from, to });
                return (
                  part && (
                    <button type="button" class="chip" key={String(reach)} aria-pressed={selection?.from === part.from && selection.to === part.to} onClick={() => onSelection(part)}>
                      {words.around(span(Number(reach / 1_000_000n), lang))}
                    </button>
                  )
                );
              })}
          </div>
        </fieldset>
      )}
      {incident.state !== "sealed" && <p class="muted">{words.provisional}</p>}
      <div class="actions">
        <button type="button" class="primary" disabled={blocked} onClick={() => start("pcapng")} data-testid="download-pcapng">
          <Icon name="download" />
          {words.download(words.pcapng)}
        </button>
        <button type="button" disabled={blocked} title={words.pcapHint} onClick={() => start("pcap")} data-testid="download-pcap">
          {words.pcap}
        </button>
      </div>
      <small class="muted">{allowed ? words.pcapHint : words.viewer}</small>
      {!badFilter && <DownloadState download={download} testid="download-error" />}
    </section>
  );
}

function written(at: Ns, zone: Zone): string {
  const { date, time } = writeInstant(at, zone, 3);
  return `${date} ${time}`;
}

interface SpanInputsProps {
  window: Selection;
  selection: Selection | null;
  onSelection: (selection: Selection | null) => void;
  onValid: (valid: boolean) => void;
}

function SpanInputs({ window, selection, onSelection, onValid }: SpanInputsProps): JSX.Element {
  const { t } = useWords();
  const zone = useStore(zoneStore);
  const shown = selection ?? window;
  const [from, setFrom] = useState(() => written(shown.from, zone));
  const [to, setTo] = useState(() => written(shown.to, zone));
  const [problem, setProblem] = useState<"time" | "order" | null>(null);
  const say = (next: typeof problem): void => {
    setProblem(next);
    onValid(next === null);
  };
  // What was chosen elsewhere (chart, chips, zone) is written into the fields.
  useEffect(() => {
    setFrom(written(shown.from, zone));
    setTo(written(shown.to, zone));
    say(null);
  }, [shown.from, shown.to, zone]);

  const take = (): void => {
    // Unchanged text stands for the exact nanoseconds it was written from.
    const exactly = (text: string, at: Ns): Ns | null => (text === written(at, zone) ? at : parseTyped(text, zone, window.from));
    const begin = exactly(from, shown.from);
    const end = exactly(to, shown.to);
    if (begin === null || end === null) return say("time");
    if (begin >= end) return say("order");
    say(null);
    onSelection(begin === window.from && end === window.to ? null : { from: begin, to: end });
  };
  return (
    <div class="span-inputs">
      <label class="field">
        <span>
          {t.incident.download.from} <span class="zone">{writeInstant(shown.from, zone).zone}</span>
        </span>
        <input class="mono" value={from} onInput={(e) => setFrom(e.currentTarget.value)} onChange={take} data-testid="download-from" />
      </label>
      <label class="field">
        <span>
          {t.incident.download.to} <span class="zone">{writeInstant(shown.to, zone).zone}</span>
        </span>
        <input class="mono" value={to} onInput={(e) => setTo(e.currentTarget.value)} onChange={take} data-testid="download-to" />
      </label>
      {problem && (
        <small class="bad" role="alert">
          {problem === "time" ? t.incident.download.badTime : t.incident.download.badOrder}
        </small>
      )}
    </div>
  );
}
