// Times, counts and names as people read them.

const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const count = new Intl.NumberFormat();
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

export const formatDate = (time: string): string => date.format(new Date(time));
export const formatDateTime = (time: string): string => dateTime.format(new Date(time));

/** For example “in 12 days” or “3 hours ago”. */
export function fromNow(time: string, now = Date.now()): string {
  const seconds = (new Date(time).getTime() - now) / 1000;
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) return relative.format(Math.round(seconds / length), unit);
  }
  return Math.abs(seconds) < 10 ? "now" : relative.format(Math.round(seconds), "second");
}

/** For example “45 seconds” or “3 minutes”, rounded up. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${seconds} second${seconds === 1 ? "" : "s"}`;
  return `${Math.ceil(seconds / 60)} minutes`;
}

/** For example “4.2 ms”, “120 ms” or “1.5 s”. */
export function milliseconds(ms: number): string {
  if (ms >= 999.5) return `${Number((ms / 1000).toFixed(1))} s`;
  return `${Number(ms.toFixed(ms < 10 ? 1 : 0))} ms`;
}

/** `12034` → “12,034”. */
export const formatCount = (value: number): string => count.format(value);

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** `local_server` → `local server`. */
export const words = (name: string): string => name.replaceAll("_", " ");

/** `ends soon` → `Ends soon.` */
export const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** Share of its lifetime that a certificate has left, 0 to 1. */
export function lifeLeft(notBefore: string, notAfter: string, now = Date.now()): number {
  const [from, to] = [new Date(notBefore).getTime(), new Date(notAfter).getTime()];
  return Math.min(1, Math.max(0, (to - now) / (to - from)));
}

/** Below this share of its lifetime a certificate deserves attention; never a fixed number of days. */
export const ATTENTION_BELOW = 1 / 6;

/** A long hexadecimal value in groups, for reading aloud: `a1b2 c3d4`. */
export const grouped = (hex: string): string => hex.match(/.{1,4}/g)?.join(" ") ?? hex;
