import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { whenSessionExpires } from "./api/client";
import { follow } from "./api/live";
import type { Session } from "./api/types";
import { Loading } from "./components/Failure";
import { useWords } from "./i18n";
import { DrillsPage } from "./pages/drills/DrillsPage";
import { IncidentPage } from "./pages/incident/IncidentPage";
import { IncidentsPage } from "./pages/Incidents";
import { LoginPage } from "./pages/Login";
import { ProbesPage } from "./pages/probes/ProbesPage";
import { OverviewPage } from "./pages/overview/OverviewPage";
import { replaceHash, route as routeStore, type Route, watchRoute } from "./router";
import { askSession, leave, session as sessionStore } from "./session";
import { useStore } from "./store";
import { ConnectionBanner } from "./shell/ConnectionBanner";
import { Footer } from "./shell/Footer";
import { Header } from "./shell/Header";

export function App(): JSX.Element {
  const { lang } = useWords();
  const state = useStore(sessionStore);
  const route = useStore(routeStore);
  useEffect(() => {
    document.documentElement.lang = lang;
  }, [lang]);
  useEffect(() => {
    watchRoute();
    whenSessionExpires(() => leave(true));
    // A one-time link makes its own session.
    if (routeStore.get().page !== "login") void startSession();
  }, []);

  if (route.page === "login") return <LoginPage link={route.link} expired={false} />;
  if (state.phase === "in") return <Signed session={state.session} route={route} />;
  if (state.phase === "out") return <LoginPage link="" expired={state.expired} />;
  return <Loading />;
}

async function startSession(): Promise<void> {
  // No answer at all: the login page says so as soon as somebody tries.
  if ((await askSession()) === null) leave(false);
}

function Signed({ session, route }: { session: Session; route: Route }): JSX.Element {
  useEffect(follow, []);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const place = route.page === "incident" ? route.id : route.page;
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    window.scrollTo(0, 0);
    main.current?.focus();
  }, [place]);
  return (
    <div class="shell">
      <Header session={session} route={route} />
      <ConnectionBanner />
      <main id="main" ref={main} tabIndex={-1} key={place}>
        <Page session={session} route={route} />
      </main>
      <Footer session={session} />
    </div>
  );
}

function Page({ session, route }: { session: Session; route: Route }): JSX.Element {
  const { t } = useWords();
  switch (route.page) {
    case "overview":
      return <OverviewPage role={session.role} />;
    case "incidents":
      return <IncidentsPage filter={route.filter} />;
    case "probes":
      return <ProbesPage name={route.name} />;
    case "drills":
      return <DrillsPage role={session.role} id={route.id} />;
    case "incident":
      return <IncidentPage id={route.id} role={session.role} />;
    default:
      return (
        <section class="card">
          <h1>{t.notFound.title}</h1>
          <a href="#/" onClick={() => replaceHash("#/")}>
            {t.notFound.back}
          </a>
        </section>
      );
  }
}
