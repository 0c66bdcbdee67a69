/** Try an image: what it is, what it is near, and teach it. */

import { button, empty, loading, trouble } from "../../components/parts.js";
import { pickLabel } from "../../components/picker.js";
import { h, render } from "../../core/dom.js";
import { answered, lessonList, neighbours } from "./answer.js";
import { takePicture } from "./camera.js";
import { first } from "./first.js";
import { Taught } from "./taught.js";

/** @typedef {import("../../core/types.js").Answer} Answer */
/** @typedef {{image: Blob, url: string}} Photograph */

/**
 * @param {HTMLElement} root
 * @param {import("../../core/types.js").Context} context
 * @returns {import("../../core/types.js").View}
 */
export function mount(root, { api, live, keys, labels, session }) {
  const teacher = session.roles.includes("teach");
  /** @type {Photograph[]} */
  let photographs = [];
  /** @type {Photograph | null} */
  let shown = null;
  /** @type {Answer | null} */
  let answer = null;
  /** @type {unknown} */
  let failed = null;
  let asking = false;
  let name = "";
  let over = false;
  const taught = new Taught(api, () => draw(), (lesson) => {
    if (shown?.url === lesson.url) void ask(shown);
    void labels.load().then(draw, draw);
  });
  let skipped = false;
  const isFirst = () => teacher && !skipped && !shown && live.now !== null && live.now.status.classes < 2;

  const ask = async (/** @type {Photograph} */ photograph) => {
    shown = photograph;
    asking = true;
    failed = null;
    draw();
    try {
      const found = await api.post("try", photograph.image);
      if (shown === photograph) answer = found;
    } catch (error) {
      if (shown === photograph) failed = error;
    }
    if (shown !== photograph) return;
    asking = false;
    draw();
  };
  const take = (/** @type {Iterable<Blob>} */ images) => {
    const found = [...images].filter(({ type }) => !type || type.startsWith("image/")).map((image) => ({ image, url: URL.createObjectURL(image) }));
    if (!found.length) failed = new Error("That is no image.");
    else if (isFirst()) photographs = [...photographs, ...found];
    else if (found[0]) return void ((answer = null), ask(found[0]));
    draw();
  };
  const teach = (/** @type {string | null} */ label) => {
    if (!label || !shown || !teacher) return;
    labels.add([label]);
    void taught.teach(shown.image, shown.url, label);
  };
  const teachAll = async () => {
    const [images, label] = [photographs, name.trim()];
    labels.add([label]);
    /** @type {Photograph[]} */
    const left = [];
    for (const photograph of images) if ((await taught.teach(photograph.image, photograph.url, label)).state === "refused") left.push(photograph);
    photographs = [...left, ...photographs.filter((one) => !images.includes(one))];
    if (!left.length) name = "";
    draw();
    if (left.length === images.length) return;
    // A step would wait for a second class. Whoever may not start one waits with it.
    if (session.roles.includes("operate")) await api.post("learning/trigger", { deep: false }).catch(() => {});
  };
  const picked = async (/** @type {boolean} */ onlyNew) => {
    if (shown && teacher) teach(await pickLabel("What is it?", labels, { onlyNew }));
  };
  const camera = async () => {
    const image = await takePicture();
    if (image) take([image]);
  };
  const input = document.createElement("input");
  Object.assign(input, { type: "file", accept: "image/*", multiple: true, hidden: true });
  input.setAttribute("aria-label", "Image files");
  input.addEventListener("change", () => {
    take(input.files ?? []);
    input.value = "";
  });
  const choose = () => input.click();
  const act = { teach, other: () => void picked(false), fresh: () => void picked(true) };

  const scope = keys.scope("Try");
  scope.bind("o", "Choose a file", choose);
  scope.bind("c", "Use the camera", () => void camera());
  if (teacher) {
    for (const at of [0, 1, 2, 3, 4]) scope.bind(String(at + 1), "Teach it as one of the likeliest", () => teach(answer?.labels[at]?.label ?? null), { listed: at ? null : "1–5" });
    scope.bind("/", "Teach it as any label", act.other);
    scope.bind("n", "Teach it as something new", act.fresh);
  }
  const pasted = (/** @type {ClipboardEvent} */ event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files);
  };
  const dragged = (/** @type {boolean} */ to) => (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    if (over !== to) draw((over = to));
  };
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    over = false;
    take(event.dataTransfer?.files ?? []);
  };

  const content = () => {
    const head = h("h1", { tabindex: "-1" }, "Try");
    if (session.input_shape.length === 1) {
      return [head, empty("This node takes embeddings", h("p", null, `It is asked with vectors of ${session.input_shape[0]} numbers, which an application computes; there is no image to try.`))];
    }
    const newcomer = isFirst();
    const zone = { class: ["zone", over && "over", shown && "filled"], ondragover: dragged(true), ondragleave: dragged(false), ondrop: drop };
    return [
      h("div", { class: "head" }, head, !newcomer && h("div", { class: "buttons" }, button("Choose a file", choose, { key: "o" }), button("Use the camera", () => void camera(), { key: "c" }))),
      input,
      trouble(failed, () => ((failed = null), draw())),
      h(
        "div",
        zone,
        newcomer
          ? first({ known: live.now?.status.classes ? (labels.all[0] ?? "") : "", name, photographs, lessons: taught.lessons }, { rename: (to) => draw((name = to)), choose, camera: () => void camera(), teach: () => void teachAll(), skip: () => draw((skipped = true)) })
          : shown
            ? [h("figure", { class: "stage tried" }, h("img", { src: shown.url, alt: "The image that was tried" })), answer ? answered(answer, teacher, act) : asking ? loading("Asking") : null]
            : empty("Drop an image here", h("p", null, "Or paste one, choose a file (o), or use the camera (c): the answer comes at once, and you can teach it the right one."), taught.lessons.some(({ state }) => state === "learned") && h("p", { class: "notice good" }, "What you taught is known. Try another photograph of it.")),
      ),
      answer && shown ? neighbours(answer.nearest) : null,
      lessonList(taught.lessons),
    ];
  };
  /** @param {...unknown} _changed What has changed by being said. */
  function draw(..._changed) {
    render(root, content());
  }
  document.addEventListener("paste", pasted);
  const unsubscribe = live.subscribe((kind) => {
    if (kind === "reach" && live.reachable && live.connected && shown && failed) void ask(shown);
    draw();
  });
  void labels.load().then(draw, draw);
  draw();
  return {
    close: () => {
      document.removeEventListener("paste", pasted);
      unsubscribe();
      taught.stop();
      scope.close();
      for (const { url } of [...photographs, ...(shown ? [shown] : [])]) URL.revokeObjectURL(url);
    },
  };
}
