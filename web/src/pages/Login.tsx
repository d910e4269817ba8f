import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api, ApiError } from "../api/client";
import { CopyLine } from "../components/Copy";
import { Icon } from "../components/Icon";
import { useTitle } from "../components/title";
import { span } from "../format/quantity";
import { explain, useWords } from "../i18n";
import type { Words } from "../i18n/en";
import { replaceHash } from "../router";
import { enter, leave } from "../session";
import type { Language } from "../settings";
import { LanguageSwitch, Mark } from "../shell/Header";

type Failed = { error: unknown; byLink: boolean };

function message({ error, byLink }: Failed, t: Words, lang: Language): string {
  if (error instanceof ApiError) {
    if (error.problem.status === 429) {
      const wait = error.retryAfterSeconds;
      return wait === null ? t.login.tooManyPlain : t.login.tooMany(span(wait * 1000, lang));
    }
    if (error.problem.status === 401) return byLink ? t.login.linkFailed : t.login.badCredentials;
    if (error.problem.status === 0) return t.connection.unreachable;
  }
  const { title, detail } = explain(error, t);
  return `${title} ${detail}`;
}

export function LoginPage({ link, expired }: { link: string; expired: boolean }): JSX.Element {
  const { t, lang } = useWords();
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<Failed | null>(null);
  useTitle(t.login.title);

  const attempt = async (credentials: Parameters<typeof api.login>[0]): Promise<void> => {
    setBusy(true);
    setFailed(null);
    try {
      enter(await api.login(credentials));
    } catch (error) {
      setFailed({ error, byLink: "link" in credentials });
      setPassword("");
      leave(false);
    } finally {
      setBusy(false);
    }
  };

  useEffect(() => {
    if (link === "") return;
    // Out of the address bar and the browser's history before anything else happens to it.
    history.replaceState(null, "", "#/");
    void attempt({ link }).then(() => replaceHash("#/"));
  }, [link]);

  const submit = (event: Event): void => {
    event.preventDefault();
    void attempt({ user, password });
  };
  const linkRunning = link !== "" && failed === null;
  return (
    <div class="login">
      <div class="login-tools">
        <LanguageSwitch />
      </div>
      <main class="card login-card">
        <div class="login-brand">
          <Mark />
          <div>
            <strong>{t.product}</strong>
            <span>{t.tagline}</span>
          </div>
        </div>
        <h1>{t.login.title}</h1>
        {expired && !failed && (
          <p class="notice attention" role="status">
            <Icon name="attention" />
            <span>{t.login.expired}</span>
          </p>
        )}
        {failed && (
          <p class="notice fault" role="alert" data-testid="login-error">
            <Icon name="fault" />
            <span>{message(failed, t, lang)}</span>
          </p>
        )}
        {linkRunning ? (
          <p role="status">{t.login.link}</p>
        ) : (
          <form onSubmit={submit}>
            <label class="field">
              <span>{t.login.user}</span>
              <input name="username" autocomplete="username" autocapitalize="none" spellcheck={false} required value={user} onInput={(e) => setUser(e.currentTarget.value)} data-testid="login-user" />
            </label>
            <label class="field">
              <span>{t.login.password}</span>
              <input name="password" type="password" autocomplete="current-password" required value={password} onInput={(e) => setPassword(e.currentTarget.value)} data-testid="login-password" />
            </label>
            <button type="submit" class="primary wide" disabled={busy} data-testid="login-submit">
              {busy ? t.login.busy : t.login.submit}
            </button>
          </form>
        )}
        <details class="login-help">
          <summary>{t.login.noAccount}</summary>
          <CopyLine text="wirewitness user add NAME" />
        </details>
      </main>
    </div>
  );
}
