// Arrays as the page's data hold them: statistics of the whole, and the numbers that are shown.

const pool = { texts: [], decoded: [] }; // of all arrays; those with the same numbers share one

function fillPool(texts) {
  pool.texts = texts;
  pool.decoded = [];
}

/** The numbers of an array, decoded once: little-endian float32, the last axis fastest. */
function numbersOf(array) {
  pool.decoded[array.data] ||= decoded(pool.texts[array.data]);
  return pool.decoded[array.data];
}

function decoded(text) { // little-endian, as are all machines that browsers run on
  return new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

/** How far apart in memory neighbours along each axis lie. */
function stepsOf(shape) {
  const steps = new Array(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--) steps[axis] = steps[axis + 1] * shape[axis + 1];
  return steps;
}

/** The index in the whole array of a place among the numbers that are shown. */
function indexInWhole(array, place) {
  return place.map((k, axis) => k * array.stride[axis]);
}

function isThinned(array) {
  return array.stride.some((stride) => stride > 1);
}

/** The largest size of any finite number, by which colours are scaled. */
function largest(array) {
  return array.max === null ? 0 : Math.max(Math.abs(array.min), Math.abs(array.max));
}

/** One array, several or none, as a list. */
function listed(arrays) {
  return (Array.isArray(arrays) ? arrays : [arrays]).filter((one) => one);
}

function sameNumbers(one, other) {
  return one.data === other.data && String(one.shape) === String(other.shape);
}

// Words

function shapeInWords(shape) {
  return shape.length ? shape.join(' \u00d7 ') : 'one number';
}

/** A number in few letters: 0.125, -3.2e-7, 12. */
function short(value, digits = 3) {
  if (value === null || value === undefined) return '\u2013';
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '\u221e' : '\u2212\u221e';
  if (value === 0) return '0';
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5
    ? Number(value.toPrecision(digits)).toString()
    : value.toExponential(Math.max(digits - 2, 0));
  return text.replace('-', '\u2212').replace('e-', 'e\u2212').replace('e+', 'e');
}

/** All digits that a float32 has. */
function exact(value) {
  return short(value, 8);
}

function percent(share) {
  if (share > 0 && share < 0.001) return 'below 0.1 %';
  return `${Number((100 * share).toPrecision(3))} %`;
}

function statistics(array) {
  if (array.max === null) return 'no finite number';
  const parts = [
    `${short(array.min)} to ${short(array.max)}`, `mean ${short(array.mean)}`,
    `std ${short(array.std)}`, `norm ${short(array.norm)}`,
  ];
  if (array.zeros > 0) parts.push(`${percent(array.zeros)} zeros`);
  return parts.join(' \u00b7 ');
}

function warning(array) {
  if (!array.nonfinite) return '';
  return `${array.nonfinite.toLocaleString('en')} NaN or infinite, the first at ` +
    `[${array.first_nonfinite.join(', ')}]`;
}
