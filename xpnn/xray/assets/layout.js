// Where the boxes of the network lie: rows by the longest way from an input, each put in order by
// its neighbours; a layer that is open is a box around those inside of it.

const BOX = { width: 176, height: 72, gap: 18, rowGap: 30, head: 42, edge: 12, passage: 10, end: 32 };

/** The children of a layer, or those that stand in no other for null. */
function childrenOf(layers, parent) {
  return layers.filter((layer) => layer.inside === parent);
}

/** The layers that are seen: those whose holders are all open, in the order of the data. */
function visible(layers, open) {
  const byName = new Map(layers.map((layer) => [layer.name, layer]));
  const isSeen = (layer) => layer.inside === null || !byName.has(layer.inside) ||
    (open.has(layer.inside) && isSeen(byName.get(layer.inside)));
  return layers.filter(isSeen);
}

/** Boxes { id, layer, x, y, width, height, inner }, and lines as lists of them, of what is in parent. */
function layOut(layers, open, parent, inputs = null) {
  const boxes = childrenOf(layers, parent).map((layer) => boxOf(layers, open, layer));
  const byId = new Map(boxes.map((box) => [box.id, box]));
  for (const box of boxes) {
    box.sources = box.layer.from.map((name) => byId.get(name)).filter((one) => one && one !== box);
  }
  if (inputs) addEnds(boxes, inputs);
  return arrange(boxes);
}

function boxOf(layers, open, layer) {
  const box = { id: layer.name, layer, width: BOX.width, height: BOX.height, inner: null };
  if (!open.has(layer.name)) return box;
  box.inner = layOut(layers, open, layer.name);
  box.width = Math.max(BOX.width, box.inner.width) + 2 * BOX.edge;
  box.height = box.inner.height + BOX.head + BOX.edge;
  return box;
}

/** The inputs, above the layers that read them, and the loss under those that feed none. */
function addEnds(boxes, inputs) {
  const read = new Set(boxes.flatMap((box) => box.sources));
  const last = boxes.filter((box) => !read.has(box));
  const ends = inputs.map((name) => ({
    id: `input ${name}`, input: name, width: BOX.width, height: BOX.end, sources: [],
  }));
  for (const box of boxes) {
    box.sources.push(...ends.filter((end) => box.layer.from.includes(end.input)));
    if (!box.sources.length) box.sources = ends.slice(0, 1);
  }
  boxes.unshift(...ends);
  boxes.push({ id: 'loss', isLoss: true, width: BOX.width, height: BOX.end, sources: last.length ? last : ends });
}

function arrange(boxes) {
  const rows = rowsOf(boxes);
  const lines = boxes.flatMap((box) => [...new Set(box.sources)].map((source) => {
    const way = [source];
    for (let row = source.row + 1; row < box.row; row++) {
      const passage = { width: BOX.passage, height: 0, row, near: [] };
      rows[row].push(passage);
      way.push(passage);
    }
    return [...way, box];
  }));
  for (const line of lines) {
    line.slice(1).forEach((box, k) => {
      (box.near ||= []).push(line[k]);
      (line[k].near ||= []).push(box);
    });
  }
  order(rows, lines);
  let top = 0;
  for (const row of rows) {
    const high = Math.max(...row.map((box) => box.height));
    for (const box of row) {
      box.y = top;
      if (!box.id) box.height = high;
    }
    top += high + BOX.rowGap;
  }
  const left = Math.min(...boxes.map((box) => box.x - box.width / 2));
  for (const box of rows.flat()) box.x -= left;
  const width = Math.max(0, ...rows.flat().map((box) => box.x + box.width / 2));
  return { boxes, lines, width, height: Math.max(0, top - BOX.rowGap) };
}

/** Rows of boxes; a box that is fed, by a detour, by itself stays in the row that it has. */
function rowsOf(boxes) {
  const walking = new Set();
  const rowOf = (box) => {
    if (box.row !== undefined || walking.has(box)) return box.row ?? -1;
    walking.add(box);
    box.row = 1 + Math.max(-1, ...box.sources.map(rowOf));
    walking.delete(box);
    return box.row;
  };
  boxes.forEach(rowOf);
  for (const box of boxes) box.sources = box.sources.filter((source) => source.row < box.row);
  const rows = [...Array(1 + Math.max(-1, ...boxes.map((box) => box.row)))].map(() => []);
  for (const box of boxes) rows[box.row].push(box);
  return rows;
}

/** Put each row in the order of the middles of its neighbours; keep what crosses least. */
function order(rows, lines) {
  for (const row of rows) spread(row, row.map(() => 0));
  let [best, fewest] = [rows.map((row) => [...row]), crossings(rows, lines)];
  for (let sweep = 0; sweep < 12 && fewest; sweep++) {
    for (const row of sweep % 2 ? [...rows].reverse() : rows) {
      row.sort((one, other) => middle(one) - middle(other));
      spread(row, row.map((box) => box.x));
    }
    const found = crossings(rows, lines);
    if (found < fewest) [best, fewest] = [rows.map((row) => [...row]), found];
  }
  rows.forEach((row, k) => row.splice(0, row.length, ...best[k]));
  for (let sweep = 0; sweep < 12; sweep++) {
    for (const row of sweep % 2 ? [...rows].reverse() : rows) spread(row, row.map(middle));
  }
}

/** How many pairs of lines cross between one row and the next. */
function crossings(rows, lines) {
  const place = new Map(rows.flatMap((row) => row.map((box, k) => [box, k])));
  const ways = lines.flatMap((line) => line.slice(1).map((box, k) => [line[k], box]));
  return ways.reduce((count, [from, to], k) => count + ways.slice(k + 1).filter(([start, end]) =>
    start.row === from.row && end.row === to.row &&
    (place.get(from) - place.get(start)) * (place.get(to) - place.get(end)) < 0).length, 0);
}

function middle(box) {
  const near = box.near || [];
  return near.length ? near.reduce((sum, one) => sum + one.x, 0) / near.length : box.x;
}

/** Boxes where they are wanted, pushed apart evenly to both sides where they would overlap. */
function spread(row, wanted) {
  const pushed = (order, places) => {
    let free = -Infinity;
    return order.map((box, k) => {
      const x = Math.max(places[k], free + box.width / 2);
      free = x + box.width / 2 + BOX.gap;
      return x;
    });
  };
  const right = pushed(row, wanted);
  const left = pushed([...row].reverse(), [...wanted].reverse().map((x) => -x))
    .reverse().map((x) => -x);
  row.forEach((box, k) => { box.x = (right[k] + left[k]) / 2; });
}

/** The way of a line: curves from row to row, straight past a row. */
function pathOf(line) {
  let { x } = line[0];
  let y = line[0].y + line[0].height;
  let way = `M${x},${y}`;
  line.slice(1).forEach((box, k) => {
    const between = (y + box.y) / 2;
    way += ` C${x},${between} ${box.x},${between} ${box.x},${box.y}`;
    x = box.x;
    y = box.y + box.height;
    if (k < line.length - 2) way += ` V${y}`;
  });
  return way;
}
