/** Light, dark, or as the system has it, which is the start. */

const KEY = "accrete.theme";
const ORDER = ["auto", "light", "dark"];

/** Return the choice. */
export function theme() {
  const kept = localStorage.getItem(KEY) ?? "auto";
  return ORDER.includes(kept) ? kept : "auto";
}

/** Show the page by the choice. */
export function applyTheme() {
  document.documentElement.dataset["theme"] = theme();
}

/** Choose the next one. */
export function nextTheme() {
  localStorage.setItem(KEY, ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length] ?? "auto");
  applyTheme();
}
