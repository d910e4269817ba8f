import type { JSX } from "preact";

import { visible } from "../format/foreign";

/** Text from outside: a text node, isolated from the direction of what stands around it. */
export function Foreign({ text, mono = false }: { text: string; mono?: boolean }): JSX.Element {
  return (
    <bdi class={mono ? "foreign mono" : "foreign"} dir="auto">
      {visible(text)}
    </bdi>
  );
}
