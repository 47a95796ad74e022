// The order of one step: forward layer by layer, the loss, backward layer by layer, the update.

/** Moments { phase, name } of the layers that are seen. */
function momentsOf(seen) {
  const names = seen.map((layer) => layer.name);
  return [
    ...names.map((name) => ({ phase: 'forward', name })),
    { phase: 'loss', name: null },
    ...[...names].reverse().map((name) => ({ phase: 'backward', name })),
    ...(seen.length ? [{ phase: 'update', name: null }] : []),
  ];
}

function inWords(moment, moments) {
  const number = moments.indexOf(moment) + 1;
  const what = {
    forward: `Forward: ${moment.name}`, loss: 'Loss', backward: `Backward: ${moment.name}`,
    update: 'Update of the parameters',
  }[moment.phase];
  return `${what} (${number} of ${moments.length})`;
}

/** What the box of a layer shows at a moment: its output once it is there, then its delta. */
function reachedBy(step, moments, now) {
  const at = moments.indexOf(now);
  const when = new Map(moments.map((moment, k) => [`${moment.phase} ${moment.name}`, k]));
  return (name) => {
    const record = step.layers[name];
    if (!record) return null;
    if ((when.get(`backward ${name}`) ?? Infinity) <= at) return listed(record.delta)[0] || null;
    if ((when.get(`forward ${name}`) ?? Infinity) <= at) return listed(record.output)[0] || null;
    return null;
  };
}

// Where NaN began

/** The arrays of a layer that hold NaN or infinity, in the order of computation. */
function badArrays(record) {
  return [...forwardArrays(record), ...backwardArrays(record)]
    .filter(([, array]) => array && array.nonfinite > 0);
}

function forwardArrays(record) {
  return [
    ...listed(record.inputs).map((array) => ['its input', array]),
    ...Object.entries(record.params),
    ...listed(record.output).map((array) => ['its output', array]),
  ];
}

function backwardArrays(record) {
  return [
    ...listed(record.delta).map((array) => ['the delta that reaches it', array]),
    ...Object.entries(record.grads).map(([name, array]) => [`the gradient of ${name}`, array]),
    ...listed(record.passed).map((array) => ['the delta that it hands on', array]),
    ...Object.entries(record.updates).map(([name, array]) => [`the update of ${name}`, array]),
  ];
}

/** The first layer with NaN or infinity, in order of computation: { name, phase, what } or null. */
function firstBad(layers, step) {
  const holders = new Set(layers.map((layer) => layer.inside));
  const leaves = layers.filter((layer) => !holders.has(layer.name) && step.layers[layer.name]);
  const inOrder = [...leaves.map((layer) => ['forward', layer.name, forwardArrays]),
    ...[...leaves].reverse().map((layer) => ['backward', layer.name, backwardArrays])];
  for (const [phase, name, arraysOf] of inOrder) {
    const found = arraysOf(step.layers[name]).find(([, array]) => array && array.nonfinite > 0);
    if (found) return { name, phase, what: found[0] };
  }
  return null;
}
