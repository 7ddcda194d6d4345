/**
 * The dialog that takes a picture with a camera of this device.
 */

import { byId, element } from "./dom.js";
import { t } from "./language.js";

/**
 * @param {(blob: Blob, name: string) => void} onPicture a lossless PNG
 */
export function startCamera(onPicture) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("camera-dialog"));
  const video = /** @type {HTMLVideoElement} */ (byId("camera-video"));
  const take = /** @type {HTMLButtonElement} */ (byId("camera-take"));
  const device = /** @type {HTMLSelectElement} */ (byId("camera-device"));
  const hint = byId("camera-hint");

  function stop() {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    take.disabled = true;
  }

  async function start() {
    stop();
    hint.textContent = t("camera.starting");
    const size = { width: { ideal: 1920 }, height: { ideal: 1440 } }; // more takes a CPU too long for a first look
    const which = device.value ? { deviceId: { exact: device.value } } : { facingMode: "environment" };
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { ...size, ...which } });
      if (!dialog.open) {
        for (const track of stream.getTracks()) track.stop(); // closed while the question was open
        return;
      }
      video.srcObject = stream;
      await video.play();
    } catch (error) {
      hint.textContent = t(error.name === "NotFoundError" ? "camera.none" : "camera.refused", {
        reason: error.message,
      });
      return;
    }
    hint.textContent = `${video.videoWidth} × ${video.videoHeight}`;
    take.disabled = false;
    take.focus();
    await listDevices();
  }

  async function listDevices() {
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput");
    const chosen = video.srcObject?.getVideoTracks()[0]?.getSettings().deviceId;
    device.replaceChildren(
      ...cameras.map((each, index) =>
        element(
          "option",
          { value: each.deviceId, selected: each.deviceId === chosen },
          each.label || String(index + 1),
        ),
      ),
    );
    device.parentElement.hidden = cameras.length < 2;
  }

  function open() {
    dialog.showModal();
    // Browsers hand out cameras to https and to localhost only; elsewhere there is no such object.
    if (navigator.mediaDevices) start();
    else hint.textContent = t("camera.insecure", { origin: location.origin });
  }

  async function picture() {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/png" });
    dialog.close();
    const now = new Date();
    const local = new Date(now - now.getTimezoneOffset() * 60_000); // toISOString writes UTC
    onPicture(blob, `camera-${local.toISOString().slice(0, 19).replaceAll(":", "")}.png`);
  }

  byId("camera").addEventListener("click", open);
  byId("empty-camera").addEventListener("click", open);
  byId("camera-close").addEventListener("click", () => dialog.close());
  take.addEventListener("click", picture);
  device.addEventListener("change", start);
  dialog.addEventListener("close", stop);
}
