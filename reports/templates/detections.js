// The filter applies to everything that is counted and drawn: overview, list, clips and lanes show the same detections.

const PAGE = 50;  // rows of the list at once
const LANE = 22, NAME = 12, BAR = 7;  // pixels: of a lane, of the name in it, of the marks below that

const data = JSON.parse(document.getElementById("data").textContent);
const recordings = [...document.querySelectorAll(".recording")];

// Playing a recording from a moment

function play(figure, second) {
  const audio = figure.querySelector("audio"), slower = Number(figure.dataset.slower);
  const start = () => { audio.currentTime = second * slower; audio.play().catch(() => {}); };
  if (audio.readyState > 0) start();
  else { audio.addEventListener("loadedmetadata", start, { once: true }); audio.load(); }
}

for (const figure of recordings) {
  const audio = figure.querySelector("audio");
  const follow = () => {
    const [from, to] = figure.span, second = audio.currentTime / Number(figure.dataset.slower);
    figure.querySelector(".now").style.left = `${100 * (second - from) / (to - from)}%`;
  };
  figure.span = [0, Number(figure.dataset.seconds)];
  audio.addEventListener("timeupdate", follow);
  audio.addEventListener("seeking", follow);
  audio.addEventListener("error", () => { figure.querySelector(".missing").hidden = false; });
}

document.addEventListener("click", event => {
  const link = event.target.closest("a[data-at]");
  if (!link) return;
  const target = document.querySelector(link.hash), second = Number(link.dataset.at);
  if (target.matches(".recording")) { show(target, second); play(target, second); }
});

// A long recording is drawn completely, or one part at a time

function choosePart(figure, part) {
  const select = figure.querySelector(".part");
  if (!select) return;
  figure.pictures ??= JSON.parse(figure.querySelector(".pictures").textContent);
  figure.whole ??= figure.querySelector(".picture img").src;
  const last = figure.pictures.uris.length - 1;
  select.value = part;
  figure.querySelector(".picture img").src = part < 0 ? figure.whole : figure.pictures.uris[part];
  const length = figure.pictures.seconds, seconds = Number(figure.dataset.seconds);
  figure.span = part < 0 ? [0, seconds] : [part * length, Math.min(seconds, (part + 1) * length)];
  figure.querySelector(".earlier").disabled = part < 0;
  figure.querySelector(".later").disabled = part >= last;
  draw(figure);
}

function show(figure, second) {
  const select = figure.querySelector(".part");
  if (select && (select.value !== "-1")) choosePart(figure, Math.floor(second / figure.pictures.seconds));
}

for (const figure of recordings) {
  const select = figure.querySelector(".part");
  select?.addEventListener("change", () => choosePart(figure, Number(select.value)));
  figure.querySelector(".earlier")?.addEventListener("click", () => choosePart(figure, Number(select.value) - 1));
  figure.querySelector(".later")?.addEventListener("click", () => choosePart(figure, Number(select.value) + 1));
  if (select) figure.querySelector(".earlier").disabled = true;
}

// Which detections are shown

const chosen = { species: "", least: 0, order: "score", falling: true, page: 0, indices: [] };

function choose() {
  const { species, score } = data.detections;
  chosen.indices = [];
  for (let i = 0; i < score.length; i++) {
    if (score[i] >= chosen.least && (chosen.species === "" || species[i] === Number(chosen.species))) {
      chosen.indices.push(i);
    }
  }
  const numbers = new Map(), ofRecording = new Map();
  for (const i of chosen.indices) {
    numbers.set(species[i], (numbers.get(species[i]) ?? 0) + 1);
    const recording = data.detections.recording[i];
    if (!ofRecording.has(recording)) ofRecording.set(recording, []);
    ofRecording.get(recording).push(i);
  }
  const all = data.detections.score.length, number = chosen.indices.length;
  document.getElementById("least").textContent = Number(document.getElementById("threshold").value).toFixed(2);
  document.getElementById("shown").textContent =
    number === all ? count(all, "detection") : `${number.toLocaleString("en")} of ${count(all, "detection")}`;
  for (const section of document.querySelectorAll("section[data-species]")) {
    const key = Number(section.dataset.species), its = numbers.get(key) ?? 0;
    section.hidden = !its;
    section.querySelector(".count").textContent = count(its, "detection");
    if (chosen.species !== "") section.querySelector("details").open = true;
    for (const clip of section.querySelectorAll("figure")) clip.hidden = Number(clip.dataset.score) < chosen.least;
  }
  for (const figure of recordings) {
    figure.indices = ofRecording.get(Number(figure.dataset.number)) ?? [];
    figure.querySelector(".count").textContent = count(figure.indices.length, "detection");
    figure.chosen = null;
    if (figure.near) draw(figure);
  }
  overview();
  chosen.page = 0;
  list();
}

// Overview: a row a species, a column an hour

function binOf(i) {
  const { recording, start } = data.detections;
  const second = data.axis.starts[recording[i]] + start[i];
  const bin = Math.floor(second / data.axis.seconds);
  return data.axis.wraps ? (bin - data.axis.first + 2 * data.axis.bins.length) % data.axis.bins.length : bin;
}

function overview() {
  const table = document.getElementById("hours"), bins = data.axis.bins.length;
  const strongest = new Map(), score = data.detections.score;  // species -> for each bin [number, its strongest]
  for (const i of chosen.indices) {
    const key = data.detections.species[i];
    if (!strongest.has(key)) strongest.set(key, Array.from({ length: bins }, () => [0, -1]));
    const cell = strongest.get(key)[binOf(i)];
    cell[0]++;
    if (cell[1] < 0 || score[i] > score[cell[1]]) cell[1] = i;
  }
  table.replaceChildren();
  const head = table.createTHead().insertRow(), body = table.createTBody();
  const add = (row, kind, text, scope) => {
    const cell = document.createElement(kind);
    cell.textContent = text;
    if (scope) cell.scope = scope;
    row.append(cell);
    return cell;
  };
  add(head, "th", "species", "col").style.textAlign = "left";
  for (const name of data.axis.bins) add(head, "th", name, "col");
  data.species.forEach((species, key) => {
    const cells = strongest.get(key);
    if (!cells) return;
    const row = body.insertRow(), most = Math.max(...cells.map(cell => cell[0]));
    row.style.setProperty("--hue", species.hue);
    add(row, "th", species.name, "row");
    cells.forEach(([number, best], bin) => {
      const cell = add(row, "td", "");
      if (!number) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = number;
      button.style.setProperty("--share", `${Math.round(15 + 55 * number / most)}%`);
      button.ariaLabel = `${species.name}, ${data.axis.bins[bin]}: ${count(number, "detection")}`;
      button.addEventListener("click", () => goTo(best));
      cell.append(button);
    });
  });
}

function goTo(i) {
  const key = data.detections.recording[i], target = document.getElementById(`r${key}`);
  target.scrollIntoView({ block: "center" });
  if (!target.matches(".recording")) return;
  show(target, data.detections.start[i]);
  pick(target, i);
  target.querySelector(".lanes").focus({ preventScroll: true });
}

// List

function list() {
  const { recording, start, end, score, species } = data.detections;
  const name = key => data.species[species[key]].name;
  const keys = {
    score: (a, b) => score[a] - score[b],
    species: (a, b) => name(a).localeCompare(name(b)),
    time: (a, b) => recording[a] - recording[b] || start[a] - start[b],
  };
  const sign = chosen.falling ? -1 : 1, by = keys[chosen.order];
  chosen.indices.sort((a, b) => sign * by(a, b) || a - b);
  const pages = Math.max(1, Math.ceil(chosen.indices.length / PAGE)), body = document.querySelector("#rows tbody");
  const from = chosen.page * PAGE, rows = chosen.indices.slice(from, from + PAGE);
  body.replaceChildren(...rows.map(i => {
    const row = document.createElement("tr");
    row.insertCell().textContent = score[i].toFixed(2);
    row.cells[0].className = "number";
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.setProperty("--hue", data.species[species[i]].hue);
    row.insertCell().append(dot, ` ${name(i)}`);
    const link = document.createElement("a");
    link.href = `#r${recording[i]}`;
    link.textContent = `${data.recordings[recording[i]]}, ${clock(start[i])} to ${clock(end[i])}`;
    link.addEventListener("click", event => { event.preventDefault(); goTo(i); });
    row.insertCell().append(link);
    return row;
  }));
  document.getElementById("page").textContent =
    chosen.indices.length ? `${from + 1} to ${from + rows.length} of ${chosen.indices.length.toLocaleString("en")}` : "none";
  document.getElementById("before").disabled = chosen.page === 0;
  document.getElementById("after").disabled = chosen.page >= pages - 1;
  for (const button of document.querySelectorAll("#rows th button")) {
    const head = button.closest("th");
    head.removeAttribute("aria-sort");
    if (button.dataset.key === chosen.order) head.ariaSort = chosen.falling ? "descending" : "ascending";
  }
}

// Lanes: below a picture, one for each species that was detected in it

function lanesOf(figure) {
  const [from, to] = figure.span, { start, end, species } = data.detections;
  const seen = figure.indices.filter(i => end[i] > from && start[i] < to);
  const order = [...new Set(seen.map(i => species[i]))].sort((a, b) => a - b);  // species are numbered by their best
  const lane = new Map(order.map((key, number) => [key, number]));
  return { seen, order, lane };
}

function draw(figure) {
  const canvas = figure.querySelector(".lanes"), styles = getComputedStyle(document.documentElement);
  const { seen, order, lane } = figure.lanes = lanesOf(figure);
  const width = canvas.clientWidth, height = order.length * LANE + 22, ratio = devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const pen = canvas.getContext("2d"), [from, to] = figure.span, { start, end, score, species } = data.detections;
  const x = second => (second - from) / (to - from) * width, tone = styles.getPropertyValue("--tone");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "top";
  order.forEach((key, number) => {
    pen.fillStyle = styles.getPropertyValue("--panel");
    pen.fillRect(0, number * LANE + NAME + 1, width, BAR);
    pen.fillStyle = styles.getPropertyValue("--ink");
    pen.fillText(data.species[key].name, 2, number * LANE + 1);
  });
  for (const i of [...seen].sort((a, b) => score[a] - score[b])) {  // the strongest in front
    pen.fillStyle = `hsl(${data.species[species[i]].hue} 75% ${tone} / ${0.35 + 0.65 * score[i]})`;
    const left = x(start[i]), span = Math.max(1.5, x(end[i]) - left - 0.5);
    pen.fillRect(left, lane.get(species[i]) * LANE + NAME + 1, span, BAR);
    if (i === figure.chosen) {
      pen.strokeStyle = styles.getPropertyValue("--ink");
      pen.lineWidth = 1.5;
      pen.strokeRect(left - 1, lane.get(species[i]) * LANE + NAME, Math.max(3, span + 1), BAR + 2);
    }
  }
  pen.fillStyle = styles.getPropertyValue("--quiet");
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  const step = steps.find(step => (to - from) / step <= width / 75) ?? steps.at(-1);
  for (let second = Math.ceil(from / step) * step; second < to; second += step) {
    if (x(second) > width - 40) break;
    pen.fillRect(x(second), height - 20, 1, 5);
    pen.fillText(clock(second), x(second) + 3, height - 16);
  }
}

function pick(figure, i) {
  const mark = figure.querySelector(".mark"), [from, to] = figure.span;
  figure.chosen = i;
  mark.hidden = i === null;
  figure.querySelector(".status").textContent = i === null ? "" : words(i);
  if (i !== null) {
    const { start, end } = data.detections;
    mark.style.left = `${100 * (start[i] - from) / (to - from)}%`;
    mark.style.width = `${100 * (Math.min(end[i], to) - start[i]) / (to - from)}%`;
  }
  draw(figure);
}

function words(i) {
  const { start, end, score, species } = data.detections;
  return `${data.species[species[i]].name} ${score[i].toFixed(2)}, ${clock(start[i])} to ${clock(end[i])}`;
}

function nearest(figure, event) {
  const canvas = figure.querySelector(".lanes"), box = canvas.getBoundingClientRect(), [from, to] = figure.span;
  const { start, end, species } = data.detections, perPixel = (to - from) / box.width;
  const second = from + (event.clientX - box.left) * perPixel;
  const key = figure.lanes?.order[Math.floor((event.clientY - box.top) / LANE)];
  let best = null, least = 4 * perPixel;  // as far as a finger or a mouse misses
  for (const i of figure.lanes?.seen ?? []) {
    if (species[i] !== key) continue;
    const away = Math.max(start[i] - second, second - end[i], 0);
    if (away < least || (away === 0 && best === null)) [best, least] = [i, away];
  }
  return [best, second];
}

function step(figure, forward) {
  const { start } = data.detections, order = [...figure.indices].sort((a, b) => start[a] - start[b] || a - b);
  if (!order.length) return;
  const at = order.indexOf(figure.chosen), next = at < 0 ? (forward ? 0 : order.length - 1) : at + (forward ? 1 : -1);
  const i = order[Math.min(order.length - 1, Math.max(0, next))];
  show(figure, start[i]);
  pick(figure, i);
}

function listen(figure) {
  const canvas = figure.querySelector(".lanes"), picture = figure.querySelector(".picture");
  canvas.addEventListener("mousemove", event => {
    const [i] = nearest(figure, event);
    if (i !== figure.chosen) pick(figure, i);
  });
  canvas.addEventListener("click", event => {
    const [i, second] = nearest(figure, event);
    if (i !== null) pick(figure, i);
    play(figure, i === null ? second : data.detections.start[i]);
  });
  canvas.addEventListener("keydown", event => {
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") step(figure, event.key === "ArrowRight");
    else if (event.key === "Enter" && figure.chosen !== null) play(figure, data.detections.start[figure.chosen]);
    else return;
    event.preventDefault();
  });
  picture.addEventListener("click", event => {
    const box = picture.getBoundingClientRect(), [from, to] = figure.span;
    play(figure, from + (to - from) * (event.clientX - box.left) / box.width);
  });
}

// Lanes are drawn only when they come near the visible part of the page

const watcher = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    target.near = isIntersecting;
    if (isIntersecting) draw(target);
  }
}, { rootMargin: "600px" });

function start() {
  const slider = document.getElementById("threshold"), select = document.getElementById("species");
  const lowest = Number(slider.min);
  let asked = 0;
  const again = () => {  // once a frame, however fast the slider moves
    chosen.species = select.value;
    chosen.least = Number(slider.value) > lowest ? Number(slider.value) : 0;  // at the left end: all that is listed
    asked ||= requestAnimationFrame(() => { asked = 0; choose(); });
  };
  slider.addEventListener("input", again);
  select.addEventListener("change", again);
  document.getElementById("filter").addEventListener("submit", event => event.preventDefault());
  document.getElementById("before").addEventListener("click", () => { chosen.page--; list(); });
  document.getElementById("after").addEventListener("click", () => { chosen.page++; list(); });
  for (const button of document.querySelectorAll("#rows th button")) {
    button.addEventListener("click", () => {
      const { key } = button.dataset;
      chosen.falling = chosen.order === key ? !chosen.falling : key === "score";
      chosen.order = key;
      chosen.page = 0;
      list();
    });
  }
  const redraw = () => { for (const figure of recordings) if (figure.near) draw(figure); };
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  choose();
}

for (const figure of recordings) { figure.indices = []; figure.chosen = null; listen(figure); }
if (document.getElementById("filter")) start();
for (const figure of recordings) watcher.observe(figure);
