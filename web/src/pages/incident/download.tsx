import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { request } from "../../api/client";
import { Failure } from "../../components/Failure";
import { Icon } from "../../components/Icon";
import { bytes } from "../../format/quantity";
import { useWords } from "../../i18n";

/**
 * Up to this size the answer is kept in memory and saved from there; a larger one is left to the
 * browser's own download, which writes to disk as it comes.
 */
const MEMORY_BYTES_MAX = 32 * 1024 * 1024;

type Phase =
  | { at: "idle" }
  | { at: "asking" }
  | { at: "receiving"; bytes: number }
  | { at: "saved"; bytes: number }
  | { at: "handed" }
  | { at: "failed"; error: unknown };

export interface Download {
  phase: Phase;
  busy: boolean;
  start: (url: string, name: string) => void;
  cancel: () => void;
}

function fileName(response: Response, fallback: string): string {
  const match = /filename="?([A-Za-z0-9._-]+)"?/.exec(response.headers.get("Content-Disposition") ?? "");
  return match?.[1] ?? fallback;
}

function press(href: string, name: string): void {
  const anchor = document.createElement("a");
  anchor.href = href;
  anchor.download = name;
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
}

function save(parts: Uint8Array<ArrayBuffer>[], type: string, name: string): void {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  press(url, name);
  // The browser reads the blob after the click has returned.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * Asks for the file so that a refusal can be shown beside the field, then saves it. Nothing larger
 * than `MEMORY_BYTES_MAX` is held in memory: then this request is dropped and the browser asks anew.
 */
async function fetchFile(url: string, name: string, signal: AbortSignal, tell: (phase: Phase) => void): Promise<void> {
  const abort = new AbortController();
  signal.addEventListener("abort", () => abort.abort());
  const response = await request(url, { signal: abort.signal });
  const handOver = (): void => {
    abort.abort();
    press(url, fileName(response, name));
    tell({ at: "handed" });
  };
  if (Number(response.headers.get("Content-Length") ?? 0) > MEMORY_BYTES_MAX || !response.body) {
    handOver();
    return;
  }
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.byteLength;
    if (size > MEMORY_BYTES_MAX) {
      handOver();
      return;
    }
    tell({ at: "receiving", bytes: size });
  }
  save(parts, response.headers.get("Content-Type") ?? "application/octet-stream", fileName(response, name));
  tell({ at: "saved", bytes: size });
}

export function useDownload(): Download {
  const [phase, setPhase] = useState<Phase>({ at: "idle" });
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);
  const start = (url: string, name: string): void => {
    running.current?.abort();
    const abort = new AbortController();
    running.current = abort;
    setPhase({ at: "asking" });
    fetchFile(url, name, abort.signal, (next) => {
      if (!abort.signal.aborted) setPhase(next);
    }).catch((error: unknown) => setPhase(abort.signal.aborted ? { at: "idle" } : { at: "failed", error }));
  };
  const cancel = (): void => {
    running.current?.abort();
    setPhase({ at: "idle" });
  };
  return { phase, busy: phase.at === "asking" || phase.at === "receiving", start, cancel };
}

export function DownloadState({ download, testid }: { download: Download; testid?: string }): JSX.Element | null {
  const { t, lang } = useWords();
  const { phase } = download;
  switch (phase.at) {
    case "idle":
      return null;
    case "failed":
      return <Failure error={phase.error} testid={testid} />;
    case "saved":
    case "handed":
      return (
        <p class="notice good" role="status">
          <Icon name="good" />
          <span>{phase.at === "saved" ? t.incident.download.saved(bytes(phase.bytes, lang)) : t.incident.download.handed}</span>
        </p>
      );
    default:
      return (
        <p class="notice quiet" role="status">
          <Icon name="wait" />
          <span>{phase.at === "asking" ? t.incident.download.working : t.incident.download.receiving(bytes(phase.bytes, lang))}</span>
          <button type="button" class="small quiet-button" onClick={download.cancel}>
            {t.incident.download.cancel}
          </button>
        </p>
      );
  }
}
