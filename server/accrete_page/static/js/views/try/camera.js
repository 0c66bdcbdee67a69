/** A picture by the camera, which stays off until it is asked for and goes off with the dialog. */

import { open } from "../../components/dialog.js";
import { button, trouble } from "../../components/parts.js";
import { h } from "../../core/dom.js";

const QUALITY = 0.92;

/**
 * Ask for a picture.
 * @returns {Promise<Blob | null>} None where nobody took one.
 */
export async function takePicture() {
  /** @type {MediaStream | null} */
  let stream = null;
  /** @type {unknown} */
  let failed = null;
  let redraw = () => {};
  let closed = false;
  /** @type {HTMLVideoElement | null} */
  let video = null;
  const begin = async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (closed) stop(stream);
    } catch (error) {
      failed = new Error(reason(error));
    }
    redraw();
  };
  void begin();
  const picture = await open("Camera", (/** @type {(image: Blob | null) => void} */ close, again) => {
    redraw = again;
    return [
      trouble(failed),
      h("video", {
        class: "viewfinder",
        autoplay: true,
        playsinline: true,
        muted: true,
        srcObject: stream,
        "aria-label": "What the camera sees",
        ref: (/** @type {HTMLVideoElement} */ element) => (video = element),
      }),
      h(
        "div",
        { class: "buttons" },
        button("Cancel", () => close(null)),
        h("button", { type: "button", class: "button strong do", disabled: !stream, autofocus: true, onclick: () => void snapshot(video).then(close) }, stream ? "Take the picture" : "Waiting for the camera …"),
      ),
    ];
  });
  closed = true;
  stop(stream);
  return picture;
}

/** @param {MediaStream | null} stream */
function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** @param {HTMLVideoElement | null} video */
async function snapshot(video) {
  if (!video?.videoWidth) return null;
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((/** @type {(image: Blob | null) => void} */ done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}

/** @param {unknown} error */
function reason(error) {
  const name = error instanceof Error ? error.name : "";
  if (!navigator.mediaDevices) return "Browsers give the camera to pages of this machine or with TLS alone.";
  if (name === "NotAllowedError") return "The browser was told not to give this page the camera.";
  return name === "NotFoundError" ? "There is no camera here." : "The camera did not start.";
}
