// How what the API says reads. What is not known reads "unknown", never as a number or a tick.

export const UNKNOWN = "unknown";

export function orUnknown(value) {
  return value === null || value === undefined || value === "" ? UNKNOWN : String(value);
}

export function yesNo(value) {
  return value === null || value === undefined ? UNKNOWN : value ? "yes" : "no";
}

/** `1.2 s`, `3 min 05 s`, `2 h 10 min`; whole seconds where it only counts. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${two(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} days`;
}

const two = (number) => String(number).padStart(2, "0");

/** `15:45:02 UTC`, with the day where it is another than today. */
export function moment(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return UNKNOWN;
  const iso = at.toISOString();
  const today = new Date().toISOString().slice(0, 10);
  const day = iso.slice(0, 10) === today ? "" : `${iso.slice(0, 10)} `;
  return `${day}${iso.slice(11, 19)} UTC`;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** The sum, or null where one of them is not known. */
export function total(values) {
  return values.some((each) => each === null || each === undefined)
    ? null
    : values.reduce((sum, each) => sum + each, 0);
}

/** A colour's meaning: good, busy, bad, unknown or plain; always beside the word itself. */
export function tone(word) {
  return (
    {
      trading: "good", ready: "good", running: "good", done: "good", ok: "good", armed: "plain",
      verified: "good", confirmed: "good", watching: "good", healthy: "good",
      starting: "busy", stopping: "busy", safe: "busy", closing: "busy", backoff: "busy",
      waiting: "busy", interrupted: "busy", restarting: "busy", degraded: "busy",
      halted: "bad", emergency: "bad", failed: "bad", hung: "bad", triggered: "bad",
      residual: "bad",
      unknown: "unknown", unverified: "unknown",
    }[word] ?? "plain"
  );
}
