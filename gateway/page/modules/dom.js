/**
 * Makes elements. Text goes in as text, never as HTML: what an operator types is shown as typed.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} id
 * @returns {HTMLElement} the element of the page; a missing one is a mistake in index.html
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element #${id}`);
  return found;
}

/**
 * @param {string} tag
 * @param {Object<string, string|number|boolean|Function|null|undefined>} [attributes] `onclick` and the like are
 *   listeners; true is an attribute without a value; false, null and undefined leave it out
 * @param {...(Node|string|null)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function graphic(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/**
 * Gives a node other children; null stands for none.
 * @param {Element} node
 * @param {...(Node|string|null)} children
 */
export function refill(node, ...children) {
  node.replaceChildren(...children.filter((child) => child !== null));
}

/**
 * Sets the custom properties that a style reads; the page's rules forbid style attributes.
 * @param {HTMLElement|SVGElement} node
 * @param {Object<string, string>} properties
 */
export function paint(node, properties) {
  for (const [name, value] of Object.entries(properties)) node.style.setProperty(`--${name}`, value);
  return node;
}
