/**
 * Which part of a picture a field shows: screen = picture * scale + offset. Arithmetic only.
 *
 * @typedef {{scale: number, x: number, y: number}} View screen pixels for a picture pixel, and offsets in screen pixels
 * @typedef {{width: number, height: number}} Size
 * @typedef {{x: number, y: number}} Point
 */

const LARGEST_SCALE = 40; // single pixels of the board become squares that can be counted
const KEPT = 60; // screen pixels of the picture that stay in the field, however far it is moved

/**
 * @param {Size} picture
 * @param {Size} field
 * @param {number} margin screen pixels, for the rulers
 * @returns {View} the whole picture, in the middle
 */
export function fit(picture, field, margin) {
  const room = { width: Math.max(1, field.width - 2 * margin), height: Math.max(1, field.height - 2 * margin) };
  const scale = Math.min(room.width / picture.width, room.height / picture.height, LARGEST_SCALE);
  return centre(picture, field, scale, { x: picture.width / 2, y: picture.height / 2 });
}

/** @returns {View} with a point of the picture in the middle of the field */
export function centre(picture, field, scale, point) {
  const view = { scale, x: field.width / 2 - point.x * scale, y: field.height / 2 - point.y * scale };
  return keepInSight(view, picture, field);
}

/**
 * @param {View} view
 * @param {number} factor above 1: nearer
 * @param {Point} point of the screen that stays where it is
 * @param {Size} picture
 * @param {Size} field
 * @returns {View}
 */
export function zoom(view, factor, point, picture, field) {
  const smallest = Math.min(1, fit(picture, field, 0).scale) / 2;
  const scale = Math.min(LARGEST_SCALE, Math.max(smallest, view.scale * factor));
  const kept = toPicture(view, point);
  return keepInSight({ scale, x: point.x - kept.x * scale, y: point.y - kept.y * scale }, picture, field);
}

/** @returns {View} moved by so many screen pixels */
export function move(view, dx, dy, picture, field) {
  return keepInSight({ ...view, x: view.x + dx, y: view.y + dy }, picture, field);
}

/** @returns {Point} of the picture */
export function toPicture(view, point) {
  return { x: (point.x - view.x) / view.scale, y: (point.y - view.y) / view.scale };
}

/** @returns {Point} of the screen */
export function toScreen(view, point) {
  return { x: point.x * view.scale + view.x, y: point.y * view.scale + view.y };
}

function keepInSight(view, picture, field) {
  const within = (offset, length, room) => Math.min(room - KEPT, Math.max(KEPT - length, offset));
  return {
    scale: view.scale,
    x: within(view.x, picture.width * view.scale, field.width),
    y: within(view.y, picture.height * view.scale, field.height),
  };
}
