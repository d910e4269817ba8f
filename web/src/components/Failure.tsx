import type { JSX } from "preact";

import { explain, useWords } from "../i18n";
import { Foreign } from "./Foreign";
import { Icon } from "./Icon";

/** A refusal: what it means in the user's language, then the server's own words. */
export function Failure({ error, testid, retry }: { error: unknown; testid?: string; retry?: () => void }): JSX.Element {
  const { t } = useWords();
  const { title, detail } = explain(error, t);
  return (
    <div class="notice fault" role="alert" data-testid={testid}>
      <Icon name="fault" />
      <div>
        <strong>{title}</strong>
        {detail !== "" && (
          <p>
            <Foreign text={detail} />
          </p>
        )}
        {retry && (
          <button type="button" class="small" onClick={retry}>
            {t.connection.retry}
          </button>
        )}
      </div>
    </div>
  );
}

export function Loading(): JSX.Element {
  const { t } = useWords();
  return (
    <p class="loading" role="status">
      {t.connection.loading}
    </p>
  );
}
