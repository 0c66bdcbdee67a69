/** Calls of the page's own server. Whatever goes wrong is an `ApiError` whose message is a sentence for people. */

const RETRIES = [300, 900];
const TIMEOUT_MS = 20000;

/** What a call came to that did not succeed. */
export class ApiError extends Error {
  /**
   * @param {string} code A status code of gRPC, such as "NOT_FOUND".
   * @param {string} message
   * @param {number} [status] Of HTTP; 0 where nothing answered.
   */
  constructor(code, message, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }

  /** Whether nobody answered, so that the same call may do later. */
  get away() {
    return this.code === "UNAVAILABLE";
  }
}

/** @typedef {Record<string, string | number | boolean | string[] | undefined>} Query */

/** The routes below `api/`. */
export class Api {
  /** Called when the session is no longer known. */
  onSignedOut = () => {};

  /**
   * Get something; tried again where nobody answers.
   *
   * @param {string} route
   * @param {Query} [query]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async get(route, query, signal) {
    for (const pause of RETRIES) {
      try {
        return await this.#call("GET", route, query, undefined, signal);
      } catch (error) {
        if (!(error instanceof ApiError && error.away)) throw error;
        await new Promise((done) => setTimeout(done, pause));
      }
    }
    return this.#call("GET", route, query, undefined, signal);
  }

  /**
   * Change something, once: whoever may repeat a call does so himself.
   *
   * @param {string} route
   * @param {object | Blob} [body] JSON, or an image.
   * @param {Query} [query]
   * @returns {Promise<any>}
   */
  post(route, body = {}, query = {}) {
    return this.#call("POST", route, query, body);
  }

  /** End the session. */
  signOut() {
    return this.#call("DELETE", "session", {});
  }

  /**
   * @param {string} method
   * @param {string} route
   * @param {Query} [query]
   * @param {object | Blob} [body]
   * @param {AbortSignal} [signal]
   */
  async #call(method, route, query, body, signal) {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    /** @type {RequestInit} */
    const options = { method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout };
    if (body instanceof Blob) Object.assign(options, { body, headers: { "Content-Type": body.type || "image/png" } });
    else if (body) Object.assign(options, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
    let response;
    try {
      response = await fetch(address(route, query), options);
    } catch (error) {
      if (signal?.aborted) throw error;
      const what = timeout.aborted ? `There was no answer within ${TIMEOUT_MS / 1000} seconds.` : "The page's own process does not answer.";
      throw new ApiError("UNAVAILABLE", `${what} ${method === "GET" ? "It is tried again." : "Look whether it was done before you do it again."}`);
    }
    if (response.ok) return response.status === 204 ? null : response.json();
    const error = await failure(response);
    if (response.status === 401 && route !== "session") this.onSignedOut();
    throw error;
  }
}

/**
 * Return an address below `api/`.
 *
 * @param {string} route
 * @param {Query} [query]
 */
export function address(route, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) search.append(name, String(one));
  }
  return `api/${route}${search.size ? `?${search}` : ""}`;
}

/**
 * Return what to say of an error, whoever raised it.
 * @param {unknown} error
 */
export function sentence(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {Response} response */
async function failure(response) {
  try {
    const { error } = await response.json();
    return new ApiError(error.code, error.message, response.status);
  } catch {
    const code = response.status >= 502 ? "UNAVAILABLE" : "UNKNOWN";
    return new ApiError(code, `The page's server answered ${response.status} and did not say why.`, response.status);
  }
}
