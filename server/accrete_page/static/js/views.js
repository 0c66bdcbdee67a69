/** The views, in the order of the navigation. */

import { mount as classes } from "./views/classes/view.js";
import { mount as inbox } from "./views/inbox/view.js";
import { mount as now } from "./views/now/view.js";
import { mount as quarantine } from "./views/quarantine/view.js";
import { mount as tryIt } from "./views/try/view.js";
import { mount as versions } from "./views/versions/view.js";

/** @typedef {import("./core/types.js").Context} Context */

/** @type {{name: string, title: string, letter: string, mount: (root: HTMLElement, context: Context) => import("./core/types.js").View}[]} */
export const VIEWS = [
  { name: "now", title: "Now", letter: "n", mount: now },
  { name: "inbox", title: "Inbox", letter: "i", mount: inbox },
  { name: "classes", title: "Classes", letter: "c", mount: classes },
  { name: "versions", title: "Versions", letter: "v", mount: versions },
  { name: "quarantine", title: "Quarantine", letter: "q", mount: quarantine },
  { name: "try", title: "Try", letter: "t", mount: tryIt },
];
