/**
 * A picture as the operator gave it: the file itself, which is what the service gets, and its pixels for the screen.
 */

/**
 * @typedef {Object} Picture
 * @property {Blob} blob the file as it came
 * @property {string} name
 * @property {ImageBitmap|null} bitmap null where the browser cannot show the format (TIFF): the ground stays bare
 * @property {number} width pixels; 0 until the service has told them, without a bitmap
 * @property {number} height pixels
 */

/**
 * @param {Blob} file
 * @param {string} name
 * @returns {Promise<Picture>} as it is now: a file may be written again before it is asked about once more
 * @throws {DOMException} it cannot be read
 */
export async function openPicture(file, name) {
  const blob = new Blob([await file.arrayBuffer()], { type: file.type });
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(await unturned(blob));
  } catch {
    bitmap = null; // the service knows more formats, and says so if it knows not this one
  }
  return { blob, name, bitmap, width: bitmap?.width ?? 0, height: bitmap?.height ?? 0 };
}

/**
 * The service's size counts. Pixels of another size would stand askew under the boxes: rather none.
 * @param {Picture} picture
 * @param {{width: number, height: number}} size
 */
export function adopt(picture, { width, height }) {
  if (picture.bitmap?.width !== width || picture.bitmap.height !== height) picture.bitmap = null;
  Object.assign(picture, { width, height });
}

/**
 * @param {DataTransfer|null} transfer of a drop or a paste
 * @returns {File|null} the picture in it, or the first file of another kind, for the service to judge
 */
export function fileIn(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0] ?? null;
}

const JPEG = 0xffd8;
const EXIF = 0xffe1;
const SCAN = 0xffda;

/**
 * Boxes are in pixels of the file as it lies there, while browsers turn a JPEG as its camera noted it was held.
 * @param {Blob} blob
 * @returns {Promise<Blob>} the same JPEG without its EXIF segment; another file as it is
 */
async function unturned(blob) {
  const bytes = await blob.arrayBuffer();
  const view = new DataView(bytes);
  if (bytes.byteLength < 4 || view.getUint16(0) !== JPEG) return blob;
  const parts = [bytes.slice(0, 2)];
  let at = 2;
  // Segments: a marker of two bytes, then the length of what follows it, itself included.
  while (at + 4 <= bytes.byteLength && view.getUint8(at) === 0xff && view.getUint16(at) !== SCAN) {
    const end = at + 2 + view.getUint16(at + 2);
    if (view.getUint16(at) !== EXIF) parts.push(bytes.slice(at, end));
    at = end;
  }
  return new Blob([...parts, bytes.slice(at)], { type: blob.type });
}
