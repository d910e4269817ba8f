import type { JSX } from "preact";

// 16 x 16 line drawings. Each status has its own shape, so that colour is never the only sign.
const PATHS = {
  good: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M5 8.2l2.1 2.1L11 6",
  attention: "M8 1.8 15 14H1zM8 6v4M8 12v.2",
  fault: "M5.2 1.5h5.6L14.5 5.2v5.6l-3.7 3.7H5.2L1.5 10.8V5.2zM5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4",
  wait: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M8 4.5V8l2.4 1.8",
  off: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M5 8h6",
  lock: "M3.5 7.2h9v6.8h-9zM5.3 7V5a2.7 2.7 0 0 1 5.4 0v2",
  freeze: "M8 1v14M2 4.5l12 7M14 4.5l-12 7M6 2.2 8 4l2-1.8M6 13.8 8 12l2 1.8",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  download: "M8 1.8v8.4M4.6 7 8 10.4 11.4 7M2 14h12",
  search: "M7 2.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6M10.5 10.5 14 14",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  back: "M10 3 5 8l5 5",
  next: "M6 3l5 5-5 5",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  unplug: "M2 2l12 12M6 3.5V6M10 3.5V6M4.5 6.5h6.8c0 2.6-1.2 4-3.3 4s-3.5-1.4-3.5-4M8 10.5V14",
} as const;

export type IconName = keyof typeof PATHS;

/** Decoration: the text beside it says the same. */
export function Icon({ name }: { name: IconName }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}
