import { useEffect } from "preact/hooks";

/** The browser tab's title. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · wirewitness`;
  }, [title]);
}
