/**
 * The picture with its boxes as a file, in its own pixels.
 */

import { Plates } from "./plates.js";

/**
 * @param {import("./picture.js").Picture} picture with a bitmap
 * @param {import("./marks.js").Mark[]} marks
 * @returns {Promise<Blob>} PNG
 */
export async function annotate(picture, marks) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture.bitmap, 0, 0);
  const size = Math.max(11, Math.round(picture.height * 0.018)); // as gateway/overlay/drawing.py: readable when shown whole
  context.font = `600 ${size}px ui-monospace, "DejaVu Sans Mono", "WenQuanYi Micro Hei", monospace`;
  context.textBaseline = "middle";
  const plates = new Plates({ left: 0, top: 0, right: picture.width, bottom: picture.height }, size + 4);
  const placed = marks.map((mark) => {
    const wide = context.measureText(mark.label).width + 8;
    return { ...mark, plate: { ...plates.place(mark.box, wide), wide } };
  });
  for (const mark of placed.reverse()) draw(context, mark, size); // the best on top
  return canvas.convertToBlob({ type: "image/png" });
}

function draw(context, { box, outlines, fill, label, colour, dash, plate: { x, y, wide } }, size) {
  context.globalAlpha = 0.45;
  context.fillStyle = fill;
  for (const points of outlines) context.fill(new Path2D(`M${points.join("L")}Z`));
  context.globalAlpha = 1;
  const rect = [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1];
  const thick = Math.max(2, Math.round(size / 7));
  context.setLineDash([]);
  context.strokeStyle = "#101413";
  context.lineWidth = thick + 2;
  context.strokeRect(...rect);
  context.setLineDash(
    dash
      .split(" ")
      .filter(Boolean)
      .map((length) => (Number(length) * thick) / 2),
  );
  context.strokeStyle = colour;
  context.lineWidth = thick;
  context.strokeRect(...rect);
  const high = size + 4;
  context.fillStyle = "#101413";
  context.fillRect(x, y, wide, high);
  context.fillStyle = colour;
  context.fillRect(x, y, 3, high);
  context.fillStyle = "#ffffff";
  context.fillText(label, x + 6, y + high / 2 + 1);
}

/** Hands a file to the browser. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after the click
}
