// Elements of the page. Text from outside always becomes text nodes, never markup.

/** An element with attributes, listeners (names that begin with "on") and children. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

/** Put an element in its place: left, top, width, height in pixels. */
function putAt(element, sides) {
  for (const [side, pixels] of Object.entries(sides)) element.style[side] = `${pixels}px`;
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

/** An equation: MathML that is nothing but MathML, else its plain text. */
function equation(mathml, text) {
  const parsed = new DOMParser().parseFromString(mathml || '', 'application/xml');
  const root = parsed.documentElement;
  const isMath = root && [root, ...root.getElementsByTagName('*')].every((one) =>
    one.namespaceURI === 'http://www.w3.org/1998/Math/MathML');
  if (!isMath) return make('code', {}, text);
  const empty = () => document.importNode(root, false);
  const parts = [empty()]; // what a wide space parts may stand in lines of its own
  for (const one of root.childNodes) {
    if (one.getAttribute?.('width') === '2em') parts.push(empty());
    else parts.at(-1).append(document.importNode(one, true));
  }
  return make('span', { role: 'math', 'aria-label': text }, parts);
}
