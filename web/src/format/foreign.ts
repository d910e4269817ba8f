// Text that came from outside (log lines, alert names, flow addresses) is shown as it is, except
// for characters that would hide or reorder what stands around them.

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]/g;

/** The text with control characters and direction overrides made visible. */
export function visible(text: string): string {
  return text.replace(HIDDEN, (character) => {
    return `[U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}
