/** The part of the address after `#`: a view and what it is about. It never leaves the browser. */

/** @typedef {{view: string, rest: string[]}} Route */

/**
 * Return the address of a view.
 *
 * @param {string} view
 * @param {...(string | number)} rest Such as a label, whatever characters it has.
 */
export function link(view, ...rest) {
  return `#/${[view, ...rest].map((part) => encodeURIComponent(part)).join("/")}`;
}

/**
 * Return what the address says now.
 * @returns {Route}
 */
export function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return { view: parts[0] ?? "", rest: parts.slice(1) };
}

/**
 * Go somewhere, at once: the next key already finds what this one has chosen.
 *
 * @param {string} view
 * @param {...(string | number)} rest
 */
export function go(view, ...rest) {
  history.pushState(null, "", link(view, ...rest));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
