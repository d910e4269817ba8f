import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { api, type FreezeRequest } from "../../api/client";
import type { Status } from "../../api/types";
import { useNow } from "../../clock";
import { Failure } from "../../components/Failure";
import { Icon } from "../../components/Icon";
import { fromMs, parseInstant, toMs, writeInstant } from "../../format/instant";
import { apiSpan, parseSpan, span } from "../../format/quantity";
import { useWords } from "../../i18n";
import { incidentHref } from "../../router";
import { zone as zoneStore } from "../../settings";
import { useStore } from "../../store";

const BEFORE = ["1m", "5m", "15m", "1h"];
const AFTER = ["10s", "30s", "1m", "5m"];

export function FreezeDialog({ status, onClose }: { status: Status | null; onClose: () => void }): JSX.Element {
  const { t } = useWords();
  const dialog = useRef<HTMLDialogElement>(null);
  const [before, setBefore] = useState("5m");
  const [after, setAfter] = useState("30s");
  const [reason, setReason] = useState("");
  const [filter, setFilter] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => dialog.current?.showModal(), []);

  const beforeMs = parseSpan(before);
  const afterMs = parseSpan(after);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (beforeMs === null || afterMs === null || busy) return;
    setBusy(true);
    setError(null);
    const wish: FreezeRequest = { before: apiSpan(beforeMs), after: apiSpan(afterMs) };
    if (reason.trim() !== "") wish.reason = reason.trim();
    if (filter.trim() !== "") wish.filter = filter.trim();
    try {
      const { incident } = await api.freeze(wish);
      location.hash = incidentHref(incident);
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="freeze-title" onClose={onClose} data-testid="freeze-dialog">
      <form onSubmit={(event) => void submit(event)}>
        <div class="dialog-head">
          <h2 id="freeze-title">{t.freeze.title}</h2>
          <button type="button" class="small quiet-button" aria-label={t.close} onClick={() => dialog.current?.close()}>
            <Icon name="close" />
          </button>
        </div>
        <p class="muted">{t.freeze.intro}</p>
        <SpanField label={t.freeze.before} value={before} presets={BEFORE} onValue={setBefore} testid="freeze-before" />
        <SpanField label={t.freeze.after} value={after} presets={AFTER} onValue={setAfter} testid="freeze-after" />
        <label class="field">
          <span>{t.freeze.reason}</span>
          <input value={reason} maxLength={250} placeholder={t.freeze.reasonExample} onInput={(e) => setReason(e.currentTarget.value)} data-testid="freeze-reason" autofocus />
          <small>{t.freeze.reasonHint}</small>
        </label>
        <details>
          <summary>{t.freeze.filter}</summary>
          <label class="field">
            <input class="mono" aria-label={t.freeze.filter} spellcheck={false} autocapitalize="none" value={filter} placeholder={t.incident.download.filterExample} onInput={(e) => setFilter(e.currentTarget.value)} data-testid="freeze-filter" />
            <small>{t.freeze.filterHint}</small>
          </label>
        </details>
        {beforeMs !== null && afterMs !== null && <Summary status={status} beforeMs={beforeMs} afterMs={afterMs} />}
        {error !== null && <Failure error={error} testid="freeze-error" />}
        <div class="actions">
          <button type="button" class="quiet-button" onClick={() => dialog.current?.close()}>
            {t.freeze.cancel}
          </button>
          <button type="submit" class="primary" disabled={busy || beforeMs === null || afterMs === null} data-testid="freeze-submit">
            {busy ? t.freeze.busy : t.freeze.submit}
          </button>
        </div>
      </form>
    </dialog>
  );
}

interface SpanFieldProps {
  label: string;
  value: string;
  presets: string[];
  onValue: (value: string) => void;
  testid: string;
}

function SpanField({ label, value, presets, onValue, testid }: SpanFieldProps): JSX.Element {
  const { t, lang } = useWords();
  const ms = parseSpan(value);
  return (
    <div class="field">
      <label for={testid}>{label}</label>
      <div class="span-field">
        <input id={testid} value={value} size={8} aria-invalid={ms === null} aria-describedby={`${testid}-hint`} onInput={(e) => onValue(e.currentTarget.value)} data-testid={testid} />
        <div class="chips">
          {presets.map((preset) => (
            <button type="button" class="chip" key={preset} aria-pressed={parseSpan(preset) === ms} onClick={() => onValue(preset)}>
              {span(parseSpan(preset) ?? 0, lang)}
            </button>
          ))}
        </div>
      </div>
      <small id={`${testid}-hint`} class={ms === null ? "bad" : undefined}>
        {ms === null ? t.freeze.spanBad : t.freeze.spanHint}
      </small>
    </div>
  );
}

/** How far back every interface's ring reaches, in milliseconds; null when unknown. */
export function reach(status: Status | null, now: number): number | null {
  const spans = (status?.interfaces ?? [])
    .map((one) => parseInstant(one.ring_from))
    .filter((from) => from !== null)
    .map((from) => now - toMs(from));
  return spans.length === 0 ? null : Math.max(...spans);
}

function Summary({ status, beforeMs, afterMs }: { status: Status | null; beforeMs: number; afterMs: number }): JSX.Element {
  const { t, lang } = useWords();
  const zone = useStore(zoneStore);
  const now = useNow();
  const at = (ms: number): string => writeInstant(fromMs(ms), zone).time;
  const end = writeInstant(fromMs(now + afterMs), zone);
  const back = reach(status, now);
  return (
    <>
      <p class="summary">{t.freeze.summary(at(now - beforeMs), `${end.time} ${end.zone}`, span(beforeMs + afterMs, lang))}</p>
      {back !== null && back < beforeMs && (
        <p class="notice attention">
          <Icon name="attention" />
          <span>{t.freeze.tooFar(span(back, lang))}</span>
        </p>
      )}
    </>
  );
}
