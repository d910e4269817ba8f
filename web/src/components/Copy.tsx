import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { useWords } from "../i18n";
import { Icon } from "./Icon";

async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

// The clipboard API exists only on https and localhost; appliances are often reached otherwise.
function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "offscreen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** A line to copy, and the button that does. */
export function CopyLine({ text }: { text: string }): JSX.Element {
  return (
    <div class="copy-line">
      <code tabIndex={0}>{text}</code>
      <CopyButton text={text} />
    </div>
  );
}

export function CopyButton({ text }: { text: string }): JSX.Element {
  const { t } = useWords();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button type="button" class="small quiet-button" onClick={() => void toClipboard(text).then(setCopied)}>
      <Icon name={copied ? "good" : "copy"} />
      <span aria-live="polite">{copied ? t.incident.copied : t.incident.copy}</span>
    </button>
  );
}
