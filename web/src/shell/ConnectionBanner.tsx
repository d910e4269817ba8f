import type { JSX } from "preact";

import { connection } from "../api/live";
import { Icon } from "../components/Icon";
import { useWords } from "../i18n";
import { useStore } from "../store";

export function ConnectionBanner(): JSX.Element | null {
  const { t } = useWords();
  if (useStore(connection) !== "lost") return null;
  return (
    <div class="banner" role="status" data-testid="connection-lost">
      <Icon name="unplug" />
      <span>
        {t.connection.lost} {t.connection.retrying}
      </span>
    </div>
  );
}
