import type { JSX } from "preact";

import { api } from "../api/client";
import type { Session } from "../api/types";
import { fromMs, zoneLabel } from "../format/instant";
import { dictionaries, useWords } from "../i18n";
import type { Route } from "../router";
import { leave } from "../session";
import { chooseLanguage, chooseZone, type Language, zone as zoneStore } from "../settings";
import { useStore } from "../store";

export function Header({ session, route }: { session: Session; route: Route }): JSX.Element {
  const { t } = useWords();
  const here = (page: boolean): "page" | undefined => (page ? "page" : undefined);
  const logout = (): void => {
    // Whatever the answer: the user wants to be out. An ended session is out already.
    void api.logout().then(() => leave(false), () => leave(false));
  };
  return (
    <header class="top">
      <a class="skip" href="#main" onClick={skipToMain}>
        {t.nav.skip}
      </a>
      <a class="brand" href="#/">
        <Mark />
        <span>{t.product}</span>
      </a>
      <nav aria-label={t.nav.main}>
        <a href="#/" aria-current={here(route.page === "overview")}>
          {t.nav.overview}
        </a>
        <a href="#/incidents" aria-current={here(route.page === "incidents" || route.page === "incident")} data-testid="nav-incidents">
          {t.nav.incidents}
        </a>
        <a href="#/probes" aria-current={here(route.page === "probes")} data-testid="nav-probes">
          {t.nav.probes}
        </a>
        <a href="#/drills" aria-current={here(route.page === "drills")} data-testid="nav-drills">
          {t.nav.drills}
        </a>
      </nav>
      <div class="tools">
        <ZoneSwitch />
        <LanguageSwitch />
        <button type="button" class="small quiet-button" onClick={logout} data-testid="logout" title={t.nav.signedInAs(session.user, t.roles[session.role] ?? session.role)}>
          {t.nav.logout}
        </button>
      </div>
    </header>
  );
}

// The address is the route, so a plain jump to #main would leave the page.
function skipToMain(event: Event): void {
  event.preventDefault();
  document.querySelector<HTMLElement>("main")?.focus();
}

export function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
      <rect width="32" height="32" rx="8" class="mark-ground" />
      <circle cx="16" cy="16" r="9.5" class="mark-ring" transform="rotate(-65 16 16)" />
      <circle cx="16" cy="16" r="4" class="mark-dot" />
    </svg>
  );
}

function ZoneSwitch(): JSX.Element {
  const { t } = useWords();
  const zone = useStore(zoneStore);
  const label = zoneLabel(zone, fromMs(Date.now()));
  return (
    <button type="button" class="small quiet-button" title={t.nav.zoneHint} aria-pressed={zone === "utc"} onClick={() => chooseZone(zone === "utc" ? "local" : "utc")} data-testid="zone-switch">
      {zone === "local" && <span class="zone-word">{t.nav.zoneLocal}</span>} {label}
    </button>
  );
}

export function LanguageSwitch(): JSX.Element {
  const { t, lang } = useWords();
  return (
    <div class="segments" role="group" aria-label={t.language}>
      {(Object.keys(dictionaries) as Language[]).map((choice) => (
        <button type="button" key={choice} lang={choice} aria-pressed={choice === lang} onClick={() => chooseLanguage(choice)} data-testid={`language-${choice}`}>
          {choice === "en" ? "EN" : "日本語"}
        </button>
      ))}
    </div>
  );
}
