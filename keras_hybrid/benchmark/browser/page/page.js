// Runs .tflite files in this browser: what is on a photo, and how long it takes.
import {
  Tensor, loadAndCompile, loadLiteRt, unloadLiteRt,
} from '@litertjs/core';

const WARM_UP = 2, FEWEST_RUNS = 5, GOOD_RUNS = 30, LEAST_MS = 1000, MOST_MS = 4000, TOP = 3;
const NAMES = {wasm: 'CPU (WASM)', webgpu: 'GPU (WebGPU)'};
const find = (id) => document.getElementById(id);

let described = null;    // what the server says of files and engine
let gpu = null;          // name of the GPU's adapter; null without WebGPU
let loaded = null;       // the engine's kind that is loaded: 'wasm' or 'webgpu'
let compiled = null;     // {name, accelerator, model, initMs, messages}
let shown = null;        // the photo on the canvas, as an ImageBitmap
let camera = null;       // the live stream
let busy = Promise.resolve();
const heard = [];        // what the engine says while it compiles

function say(text, wrong = false) {
  find('said').textContent = text;
  find('said').classList.toggle('wrong', wrong);
}

// One thing after another: the engine runs one model at a time.
function next(task) {
  busy = busy.then(task).catch((error) => say(sentence(error), true));
  return busy;
}

function sentence(error) {
  // A script that does not arrive is told as an Event, a file as a TypeError.
  if (error instanceof Event || (error instanceof TypeError && /fetch/i.test(error.message))) {
    return 'The computer that serves this page does not answer: is `keras-hybrid serve` still running?';
  }
  return error?.message || String(error);
}

// The engine tells what it leaves to others on the console, and nowhere else.
for (const level of ['log', 'info', 'warn', 'error']) {
  const own = console[level].bind(console);
  console[level] = (...parts) => {
    heard.push(parts.map(String).join(' '));
    own(...parts);
  };
}

async function findGpu() {
  if (!navigator.gpu) {
    return [null, window.isSecureContext ?
      'This browser has no WebGPU: the CPU runs everything.' :
      'WebGPU needs a secure page: serve with --https, or open it at localhost (Android: adb reverse).'];
  }
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  if (!adapter) return [null, 'WebGPU finds no GPU here: the CPU runs everything.'];
  const info = adapter.info || {};
  return [[info.vendor, info.architecture, info.description].filter(Boolean).join(' ') || 'GPU', ''];
}

// The engine with threads for the CPU, or with what lets a GPU share a model with the CPU.
async function loadEngine(accelerator) {
  if (loaded === accelerator) return;
  if (loaded) {
    compiled?.model.delete();
    compiled = null;
    unloadLiteRt();
  }
  loaded = null;
  const wishes = accelerator === 'webgpu' ?
    {jspi: 'Suspending' in WebAssembly} : {threads: window.crossOriginIsolated};
  try {
    await loadLiteRt('/litertjs/core/wasm/', wishes);
  } catch (error) {
    await loadLiteRt('/litertjs/core/wasm/', {});
  }
  loaded = accelerator;
}

async function compile(name, accelerator) {
  if (compiled?.name === name && compiled.accelerator === accelerator) return compiled;
  await loadEngine(accelerator);
  compiled?.model.delete();
  compiled = null;
  const answer = await fetch(`/models/${encodeURIComponent(name)}`);
  if (!answer.ok) throw new Error(`${name} is not served any more.`);
  const content = new Uint8Array(await answer.arrayBuffer());
  const from = heard.length, start = performance.now();
  let model;
  try {
    model = await loadAndCompile(content, {accelerator});
  } catch (error) {
    throw new Error(`${NAMES[accelerator]} cannot run ${name}: ${error?.message || error}`);
  }
  const initMs = performance.now() - start;
  const messages = heard.slice(from).filter((line) => /support|will run|fall/i.test(line));
  compiled = {name, accelerator, model, initMs, messages};
  return compiled;
}

// The whole photo, stretched to the file's size, as the numbers that the file takes.
function numbers(details, file) {
  const [, height, width, channels] = details.shape;
  if (details.shape.length !== 4 || channels !== 3) {
    throw new Error('A file that takes one RGB image is expected.');
  }
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(shown, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height).data;
  const values = details.dtype === 'uint8' ?
    new Uint8Array(3 * width * height) : new Float32Array(3 * width * height);
  for (let place = 0; place < values.length; place++) {
    const channel = place % 3, pixel = pixels[4 * ((place - channel) / 3) + channel];
    values[place] = details.dtype === 'uint8' ? pixel :
      (pixel - (file.mean[channel] ?? file.mean[0])) / (file.std[channel] ?? file.std[0]);
  }
  return values;
}

async function infer(model, values, shape) {
  const input = new Tensor(values, [...shape]);
  const start = performance.now();
  const outputs = await model.run(input);
  const read = await outputs[0].moveTo('wasm');
  const scores = Array.from(read.toTypedArray());
  const ms = performance.now() - start;
  input.delete();
  read.delete();
  return {scores, ms};
}

async function time({model}, values, shape) {
  const first = await infer(model, values, shape);
  for (let run = 1; run < WARM_UP; run++) await infer(model, values, shape);
  const times = [], start = performance.now();
  const passed = () => performance.now() - start;
  while (times.length < FEWEST_RUNS || passed() < LEAST_MS ||
         (times.length < GOOD_RUNS && passed() < MOST_MS)) {
    times.push((await infer(model, values, shape)).ms);
  }
  return {times, first: first.ms, scores: first.scores};
}

function summary(times) {
  const ordered = [...times].sort((a, b) => a - b);
  const at = (share) => ordered[Math.min(ordered.length - 1, Math.floor(share * ordered.length))];
  const median = at(0.5);
  return {median, p90: at(0.9), spread: (at(0.75) - at(0.25)) / median};
}

function showAnswers(scores, labels) {
  const best = scores.map((score, index) => [score, labels[index] ?? `class ${index}`])
    .sort((a, b) => b[0] - a[0]).slice(0, TOP);
  find('answers').replaceChildren(...best.map(([score, label]) => {
    const line = document.createElement('li');
    line.style.setProperty('--share', `${100 * Math.max(0, Math.min(1, score))}%`);
    const name = document.createElement('span'), share = document.createElement('span');
    name.textContent = label;
    share.textContent = `${(100 * score).toFixed(1)} %`;
    line.append(name, share);
    return line;
  }));
}

function fileNamed(name) {
  return described.models.find((file) => file.name === name);
}

async function classify() {
  if (!shown) return;
  const name = find('model').value, accelerator = find('accelerator').value;
  say(`${name} is running ...`);
  const made = await compile(name, accelerator), [details] = made.model.getInputDetails();
  const found = await time(made, numbers(details, fileNamed(name)), details.shape);
  showAnswers(found.scores, fileNamed(name).labels);
  const {median, p90, spread} = summary(found.times);
  find('latency').textContent = `${median.toFixed(2)} ms median, ${p90.toFixed(2)} ms p90, ` +
    `spread ${(100 * spread).toFixed(0)} %, ${found.times.length} runs`;
  say(fellBack(made) || 'Done.', Boolean(fellBack(made)));
}

// The engine calls a model fully accelerated of which it leaves some operators to the CPU.
function takesAll({model, messages}) {
  const left = /not supported by GPU delegate|remaining \d+ operations will run on the CPU/;
  return model.isFullyAccelerated && !messages.some((line) => left.test(line));
}

function fellBack(made) {
  const {accelerator, messages} = made;
  if (accelerator !== 'webgpu' || takesAll(made)) return '';
  return `WebGPU did not take all of this file; the CPU ran the rest. ${messages[0] ?? ''}`;
}

async function choosePhoto(file) {
  if (!file) return;
  try {
    shown = await createImageBitmap(file, {imageOrientation: 'from-image'});
  } catch (error) {
    say(`${file.name} is no picture that this browser can read; JPEG, PNG and WebP are.`, true);
    return;
  }
  draw();
  await classify();
}

function draw() {
  const canvas = find('picture');
  canvas.getContext('2d').drawImage(shown, 0, 0, canvas.width, canvas.height);
}

async function toggleCamera() {
  if (camera) {
    camera.getTracks().forEach((track) => track.stop());
    camera = null;
    find('camera').textContent = 'Live camera';
    return;
  }
  try {
    camera = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
  } catch (error) {
    say('The camera may not be used: allow it for this page.', true);
    return;
  }
  find('camera').textContent = 'Stop';
  find('video').srcObject = camera;
  await find('video').play();
  look();
}

async function look() {
  if (!camera) return;
  await next(async () => {
    shown = await createImageBitmap(find('video'));
    draw();
    const name = find('model').value;
    const made = await compile(name, find('accelerator').value);
    const [details] = made.model.getInputDetails();
    const {scores, ms} = await infer(made.model, numbers(details, fileNamed(name)), details.shape);
    showAnswers(scores, fileNamed(name).labels);
    find('latency').textContent = `${ms.toFixed(1)} ms`;
  });
  requestAnimationFrame(look);
}

async function measureAll() {
  find('measure').disabled = true;
  find('rows').hidden = false;
  find('rows').tBodies[0].replaceChildren();
  try {
    if (!shown) {  // noise will do for time
      const canvas = new OffscreenCanvas(64, 64), pen = canvas.getContext('2d');
      for (let place = 0; place < 4096; place++) {
        pen.fillStyle = `hsl(${(place * 137) % 360} 60% 50%)`;
        pen.fillRect(place % 64, Math.floor(place / 64), 1, 1);
      }
      shown = await createImageBitmap(canvas);
    }
    for (const accelerator of Object.keys(NAMES).filter((kind) => kind === 'wasm' || gpu)) {
      for (const file of described.models) {
        say(`Measuring ${file.name} on ${NAMES[accelerator]} ...`);
        await measure(file, accelerator);
      }
    }
    say('Done: the rows are on the computer that serves this page.');
  } finally {
    find('measure').disabled = false;
  }
}

async function measure(file, accelerator) {
  const line = find('rows').tBodies[0].insertRow();
  const fill = (...cells) => line.replaceChildren(...cells.map((text) => {
    const cell = document.createElement('td');
    cell.textContent = text;
    return cell;
  }));
  fill(file.name, NAMES[accelerator], '...', '', '');
  try {
    const made = await compile(file.name, accelerator), [details] = made.model.getInputDetails();
    const found = await time(made, numbers(details, file), details.shape);
    const {median, p90, spread} = summary(found.times);
    const threads = accelerator === 'wasm' && window.crossOriginIsolated ?
      navigator.hardwareConcurrency : 1;
    await post({
      model: file.name, accelerator, threads, times: found.times, init_ms: made.initMs,
      first_ms: found.first, messages: made.messages, agent: navigator.userAgent,
      whole: accelerator === 'wasm' || takesAll(made),
      gpu: gpu ?? 'none', cores: navigator.hardwareConcurrency || 1,
    });
    fill(file.name, NAMES[accelerator] + (fellBack(made) ? ', in part' : ''),
      `${median.toFixed(2)} ms`, `${p90.toFixed(2)} ms`, `${(100 * spread).toFixed(0)} %`);
  } catch (error) {
    fill(file.name, NAMES[accelerator], 'failed', '', '');
    throw error;
  }
}

async function post(row) {
  const answer = await fetch('/rows', {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(row),
  });
  if (!answer.ok) throw new Error(`The row was not kept: ${(await answer.json()).error}`);
}

async function begin() {
  described = await (await fetch('/models.json')).json();
  find('engine').textContent = `on LiteRT.js ${described.engine}`;
  const [name, why] = await findGpu();
  gpu = name;
  find('webgpu').textContent = gpu ? `GPU: ${gpu}` : why;
  const option = (value, text) => new Option(text, value);
  find('model').replaceChildren(...described.models.map(({name}) => option(name, name)));
  find('accelerator').replaceChildren(...Object.entries(NAMES)
    .filter(([kind]) => kind === 'wasm' || gpu).map(([kind, text]) => option(kind, text)));
  find('camera').hidden = !(window.isSecureContext && navigator.mediaDevices?.getUserMedia);
  find('photo').addEventListener('change', ({target}) => next(() => choosePhoto(target.files[0])));
  find('model').addEventListener('change', () => next(classify));
  find('accelerator').addEventListener('change', () => next(classify));
  find('camera').addEventListener('click', toggleCamera);
  find('measure').addEventListener('click', () => next(measureAll));
  say('Choose a photo.');
  document.body.dataset.ready = 'yes';
}

next(begin);
