// The steps of a training: the curve of their losses, and a slider over them.

const CURVE = { height: 110, left: 52, right: 14, top: 10, bottom: 22 };

function drawTraining(place, state, acts) {
  const { steps } = state;
  place.hidden = steps.length < 2;
  if (place.hidden) return;
  const width = Math.max(260, place.clientWidth - 32);
  const numbers = steps.map((step) => step.number);
  const finite = steps.map((step) => step.loss).filter((loss) => loss !== null);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const x = (number) => CURVE.left + (width - CURVE.left - CURVE.right) *
    (number - numbers[0]) / (numbers.at(-1) - numbers[0] || 1);
  const y = (loss) => CURVE.height - CURVE.bottom -
    (CURVE.height - CURVE.top - CURVE.bottom) * (high > low ? (loss - low) / (high - low) : 0.5);
  const points = steps.filter((step) => step.loss !== null)
    .map((step) => `${x(step.number).toFixed(1)},${y(step.loss).toFixed(1)}`);
  const svg = makeSvg('svg', {
    viewBox: `0 0 ${width} ${CURVE.height}`, role: 'img', class: 'curve',
    'aria-label': `loss over ${steps.length} steps, from ${short(steps[0].loss)} to ${short(steps.at(-1).loss)}`,
  },
  makeSvg('text', { x: CURVE.left - 8, y: y(high) + 4, class: 'right' }, finite.length ? short(high) : ''),
  high > low && makeSvg('text', { x: CURVE.left - 8, y: y(low) + 4, class: 'right' }, short(low)),
  makeSvg('text', { x: CURVE.left, y: CURVE.height - 4 }, `step ${numbers[0]}`),
  makeSvg('text', { x: width - CURVE.right, y: CURVE.height - 4, class: 'right' }, `step ${numbers.at(-1)}`),
  makeSvg('polyline', { points: points.join(' ') }),
  steps.map((step, k) => step.loss !== null && makeSvg('circle', {
    cx: x(step.number), cy: y(step.loss), r: k === state.at ? 6 : 2.5,
    class: k === state.at ? 'now' : '',
  })));
  const words = () => `Step ${state.step.number}, loss ${short(state.step.loss, 4)} ` +
    `(${state.at + 1} of ${steps.length} that were looked into)`;
  const slider = place.querySelector('input') || make('input', {
    type: 'range', id: 'step', min: 0, 'aria-label': 'step of training',
    oninput: () => acts.step(Number(slider.value)),
  });
  slider.max = steps.length - 1;
  slider.value = state.at;
  slider.setAttribute('aria-valuetext', words());
  const label = place.querySelector('.now-step') || make('p', { class: 'now-step' });
  label.textContent = words();
  const old = place.querySelector('svg');
  if (old) old.replaceWith(svg);
  else place.append(svg, slider, label);
}
