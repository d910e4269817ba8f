import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, request } from "../../api/client";
import { Failure } from "../../components/Failure";
import { Icon } from "../../components/Icon";
import { useWords } from "../../i18n";

type Phase = { at: "idle" } | { at: "asking" } | { at: "handed" } | { at: "failed"; error: unknown };

export interface Download {
  phase: Phase;
  busy: boolean;
  start: (url: string) => void;
  cancel: () => void;
}

const METHOD_NOT_ALLOWED = 405;

/** Lets the browser save what the address gives, straight to disk however large it is. */
function save(url: string): void {
  const anchor = document.createElement("a");
  anchor.href = url;
  // The name comes from the answer's Content-Disposition.
  anchor.download = "";
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
}

/**
 * Asks whether the file would be given, so that a refusal can be shown beside the field. HEAD: the
 * custody record notes each download, and this is none yet. A refused HEAD has no body, so the
 * reason is asked for again by GET, whose body is dropped should it be given after all.
 */
async function ask(url: string, abort: AbortController): Promise<void> {
  try {
    await request(url, { method: "HEAD", signal: abort.signal });
  } catch (error) {
    if (!(error instanceof ApiError) || error.problem.status === 0) throw error;
    if (error.problem.status === METHOD_NOT_ALLOWED) return;
    const response = await request(url, { signal: abort.signal });
    await response.body?.cancel();
  }
}

export function useDownload(): Download {
  const [phase, setPhase] = useState<Phase>({ at: "idle" });
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);
  const start = (url: string): void => {
    running.current?.abort();
    const abort = new AbortController();
    running.current = abort;
    setPhase({ at: "asking" });
    ask(url, abort).then(
      () => {
        if (abort.signal.aborted) return;
        save(url);
        setPhase({ at: "handed" });
      },
      (error: unknown) => {
        if (!abort.signal.aborted) setPhase({ at: "failed", error });
      },
    );
  };
  const cancel = (): void => {
    running.current?.abort();
    setPhase({ at: "idle" });
  };
  return { phase, busy: phase.at === "asking", start, cancel };
}

export function DownloadState({ download, testid }: { download: Download; testid?: string }): JSX.Element | null {
  const { t } = useWords();
  const { phase } = download;
  switch (phase.at) {
    case "idle":
      return null;
    case "failed":
      return <Failure error={phase.error} testid={testid} />;
    case "handed":
      return (
        <p class="notice good" role="status">
          <Icon name="good" />
          <span>{t.incident.download.handed}</span>
        </p>
      );
    default:
      return (
        <p class="notice quiet" role="status">
          <Icon name="wait" />
          <span>{t.incident.download.working}</span>
          <button type="button" class="small quiet-button" onClick={download.cancel}>
            {t.incident.download.cancel}
          </button>
        </p>
      );
  }
}
