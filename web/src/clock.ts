import { useEffect, useState } from "preact/hooks";

import { clockOffset } from "./api/live";

/** The server's time in milliseconds, as well as the browser can tell. */
export function serverNow(): number {
  return Date.now() + clockOffset.get();
}

/** The server's time, rendering again every `intervalMs`. */
export function useNow(intervalMs = 1000): number {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    const timer = setInterval(() => setNow(serverNow()), intervalMs);
    return () => clearInterval(timer);
  }, [intervalMs]);
  return now;
}
