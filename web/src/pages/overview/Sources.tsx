import type { JSX } from "preact";

import type { MaintenanceStatus, SourceStatus } from "../../api/types";
import { Badge, type Tone } from "../../components/Badge";
import { Foreign } from "../../components/Foreign";
import { Icon, type IconName } from "../../components/Icon";
import { count } from "../../format/quantity";
import { lookup, useWords } from "../../i18n";
import { LookbackCell } from "./LookbackCell";

const LOOK: Record<SourceStatus["state"], [Tone, IconName]> = {
  ok: ["good", "good"],
  failing: ["fault", "attention"],
  stopped: ["quiet", "off"],
};

export function Sources({ sources, maintenance }: { sources: SourceStatus[]; maintenance: MaintenanceStatus[] }): JSX.Element {
  const { t, lang } = useWords();
  return (
    <section aria-labelledby="sources">
      <h2 id="sources">{t.overview.sources}</h2>
      {sources.length === 0 ? (
        <p class="card muted">{t.overview.noSources}</p>
      ) : (
        <div class="card table-card">
          <p class="muted">{t.overview.sourcesHint}</p>
          {maintenance
            .filter((window) => window.active)
            .map((window) => (
              <p class="notice attention" key={window.name} data-testid="maintenance">
                <Icon name="attention" />
                <span>
                  {t.source.maintenance[window.effect] ?? window.effect} <Foreign text={window.name} /> · {t.source.covered(count(window.triggers, lang))}
                </span>
              </p>
            ))}
          <table class="stack" data-testid="sources">
            <thead>
              <tr>
                <th scope="col">{t.source.state}</th>
                <th scope="col">{t.source.kind}</th>
                <th scope="col">{t.source.name}</th>
                <th scope="col">{t.source.detail}</th>
                <th scope="col">{t.source.lookback.title}</th>
                <th scope="col" class="number">{t.source.count}</th>
              </tr>
            </thead>
            <tbody>
              {sources.map((one) => {
                const [tone, icon] = LOOK[one.state] ?? LOOK.stopped;
                return (
                  <tr key={`${one.kind}/${one.name}`}>
                    <td data-label={t.source.state}>
                      <Badge tone={tone} icon={icon} text={t.source.states[one.state] ?? one.state} />
                    </td>
                    <td data-label={t.source.kind}>{t.kinds[one.kind] ?? one.kind}</td>
                    <td data-label={t.source.name}>
                      <Foreign text={one.name} />
                    </td>
                    <td data-label={t.source.detail}>
                      <span>
                        <Foreign text={one.detail} />
                        <span class="sub muted">
                          {Object.entries(one.counters ?? {})
                            .map(([name, n]) => `${lookup(t.source.counters, name) ?? name} ${count(n, lang)}`)
                            .join(" · ")}
                        </span>
                      </span>
                    </td>
                    <td data-label={t.source.lookback.title}>
                      <LookbackCell one={one} />
                    </td>
                    <td data-label={t.source.count} class="number">
                      {count(one.triggers, lang)}
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
