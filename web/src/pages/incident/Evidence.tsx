import type { JSX } from "preact";

import { api } from "../../api/client";
import type { Incident, Role } from "../../api/types";
import { CopyLine } from "../../components/Copy";
import { Icon } from "../../components/Icon";
import { useWords } from "../../i18n";
import { mayHandlePackets } from "../../session";
import { DownloadState, useDownload } from "./download";

export function Evidence({ incident, role }: { incident: Incident; role: Role }): JSX.Element {
  const { t } = useWords();
  const bundle = useDownload();
  const sealed = incident.state === "sealed";
  return (
    <section class="card" aria-labelledby="evidence">
      <h2 id="evidence">{t.incident.evidence.title}</h2>
      <p class="muted">{t.incident.evidence.intro}</p>
      <button type="button" class="wide" disabled={!sealed || !mayHandlePackets(role) || bundle.busy} onClick={() => bundle.start(api.bundleUrl(incident.id))} data-testid="download-bundle">
        <Icon name="download" />
        {t.incident.evidence.bundle}
      </button>
      {!sealed && <p class="muted">{t.incident.evidence.notYet}</p>}
      <DownloadState download={bundle} />
      <details>
        <summary>{t.incident.evidence.verify}</summary>
        <p class="muted">{t.incident.evidence.unpack}</p>
        <CopyLine text={`tar -xf wirewitness-${incident.id}.tar`} />
        <p class="muted">{t.incident.evidence.verifyHint}</p>
        <CopyLine text={`wirewitness verify ${incident.id}`} />
        <p class="muted">{t.incident.evidence.shaHint}</p>
        <CopyLine text={`cd ${incident.id} && sha256sum -c SHA256SUMS`} />
      </details>
    </section>
  );
}
