/** Numbers, shares and times as people read them. */

const THIN = " ";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/**
 * Return a whole number with its thousands apart.
 * @param {number} value
 */
export function count(value) {
  return whole.format(value).replaceAll(",", THIN);
}

/**
 * Return a number with its noun: "1 example", "12 examples".
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/**
 * Return a share of 0 to 1 in per cent; a dash where there is none. Not rounded up to 100, nor down to 0.
 * @param {number | null | undefined} share
 * @param {number} [digits]
 */
export function percent(share, digits = 1) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const step = 10 ** -(digits + 2);
  const bounded = share > 0 && share < 1 ? Math.min(Math.max(share, step), 1 - step) : share;
  return `${share < 0 ? "−" : ""}${Math.abs(bounded * 100).toFixed(share === 1 || share === 0 ? 0 : digits)}${THIN}%`;
}

/**
 * Return milliseconds as "0.8 ms", "12 ms", "1.2 s".
 * @param {number | null | undefined} ms
 */
export function milliseconds(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 10) return `${ms.toFixed(1)}${THIN}ms`;
  return ms < 1000 ? `${ms.toFixed(0)}${THIN}ms` : duration(ms / 1000);
}

/**
 * Return seconds in the largest unit that has at least two of it: "1.2 s", "45 s", "3 min", "5 h", "4 days".
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)}${THIN}s`;
  if (seconds < 120) return `${seconds.toFixed(0)}${THIN}s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)}${THIN}min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(0)}${THIN}h` : `${(seconds / 86400).toFixed(0)} days`;
}

/**
 * Return how long ago something was: "just now", "3 min ago".
 * @param {number} timeMs Milliseconds since 1970.
 */
export function ago(timeMs) {
  const seconds = Math.round((Date.now() - timeMs) / 1000);
  if (seconds < 5) return "just now";
  return `${seconds < 10 ? `${seconds}${THIN}s` : duration(seconds)} ago`;
}

/**
 * Return a time of day, with the date where it is another day.
 * @param {number} timeMs Milliseconds since 1970.
 */
export function clock(timeMs) {
  const time = new Date(timeMs);
  const sameDay = time.toDateString() === new Date().toDateString();
  const hour = time.toLocaleTimeString("en-GB");
  return sameDay ? hour : `${time.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${hour.slice(0, 5)}`;
}

/** Where letters run from right to left: Hebrew to Arabic, and their forms. */
const FROM_RIGHT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
const LONG = 60;

/**
 * Return a name as a part of a sentence: a long one is cut, and one from right to left does not turn what stands beside it.
 * @param {string} name
 */
export function named(name) {
  const letters = [...name];
  const cut = letters.length > LONG ? `${letters.slice(0, LONG - 1).join("").replace(/[\s,.;:–-]+$/, "")}…` : name;
  return FROM_RIGHT.test(cut) ? `\u2068${cut}\u2069` : cut;
}

/**
 * Return names as "a, b and 3 more".
 * @param {string[]} names
 * @param {number} [most]
 */
export function few(names, most = 3) {
  const told = names.slice(0, most).map(named).join(", ");
  return names.length <= most ? told : `${told} and ${count(names.length - most)} more`;
}
