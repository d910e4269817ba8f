import type { JSX } from "preact";

import type { Session } from "../api/types";
import { useNow } from "../clock";
import { Foreign } from "../components/Foreign";
import { Moment } from "../components/Moment";
import { fromMs, toRfc3339 } from "../format/instant";
import { useWords } from "../i18n";

export function Footer({ session }: { session: Session }): JSX.Element {
  const { t } = useWords();
  const now = useNow();
  return (
    <footer class="bottom">
      <span data-testid="version">{t.footer.version(session.version)}</span>
      <span>
        <Foreign text={t.nav.signedInAs(session.user, t.roles[session.role] ?? session.role)} />
      </span>
      <span>
        {t.footer.server} <Moment at={toRfc3339(fromMs(now))} />
      </span>
    </footer>
  );
}
