/**
 * Where the plates with the names stand: above or below their boxes, clear of each other where that can be.
 * Arithmetic only.
 */

const MANY = 80; // plates from which on they may cover each other

/** Finds one place after another; the first are the most important. */
export class Plates {
  #taken = [];

  /**
   * @param {{left: number, top: number, right: number, bottom: number}} room that plates keep within
   * @param {number} high of every plate
   */
  constructor(room, high) {
    this.room = room;
    this.high = high;
  }

  /**
   * @param {{x1: number, y1: number, x2: number, y2: number}} box in the units of the room
   * @param {number} wide of its plate
   * @returns {{x: number, y: number}} the plate's upper left corner
   */
  place(box, wide) {
    const { left, top, right, bottom } = this.room;
    const within = (x) => Math.max(left, Math.min(x, right - wide));
    const places = [box.y1 - this.high - 2, box.y2 + 2].flatMap((y) =>
      [box.x1 - 1, box.x2 + 1 - wide].map((x) => ({ x: within(x), y })),
    );
    const visible = places.filter(({ y }) => y >= top && y + this.high <= bottom);
    const free = visible.find((place) => !this.#taken.some((other) => this.#overlap(place, wide, other)));
    const chosen = free ?? visible[0] ?? places[0];
    if (this.#taken.length < MANY) this.#taken.push({ ...chosen, wide });
    return chosen;
  }

  #overlap(place, wide, other) {
    return place.x < other.x + other.wide && other.x < place.x + wide && Math.abs(place.y - other.y) < this.high;
  }
}
