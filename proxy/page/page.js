/* SPDX-License-Identifier: ISC */
// Draws what /-/api/ says. Texts become text nodes, never markup.
"use strict";

const LIVE_MS = 2000;
const SLOW_MS = 10000;
const IMAGES_MS = 30000;
const SEARCH_MS = 250;
const PAGE = 50;
const OFFSET_MAX = 10000; // of the daemon: what lies behind is found by a search

const at = id => document.getElementById(id);

// --- words for numbers ---

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

// As the cachalot command says sizes.
function size(bytes) {
  let n = bytes, unit = 0;
  while (n >= 1023.95 && unit < UNITS.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${unit ? n.toFixed(1) : n.toFixed(0)} ${UNITS[unit]}`;
}

const rate = bytes => `${size(bytes)}/s`;

function bits(bytes) {
  const n = bytes * 8;
  if (n < 1e6)
    return `${(n / 1e3).toFixed(0)} kbit/s`;
  return n < 1e9 ? `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} Mbit/s` : `${(n / 1e9).toFixed(2)} Gbit/s`;
}

const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const percent = ratio => ratio === null ? "–" : `${(ratio * 100).toFixed(1)} %`;

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60)
    return `${s} s`;
  if (s < 3600)
    return `${Math.floor(s / 60)} min`;
  if (s < 86400)
    return `${Math.floor(s / 3600)} h${s % 3600 < 60 ? "" : ` ${Math.floor(s % 3600 / 60)} min`}`;
  return count(Math.floor(s / 86400), "day", "days");
}

// The server's clock, which may be another than ours.
let ahead_s = 0;
const server_now = () => Date.now() / 1000 + ahead_s;

// --- elements ---

function fill(node, children) {
  for (const child of children)
    if (child !== null && child !== undefined)
      node.append(child);
  return node;
}

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined)
      node.setAttribute(name, value);
  return fill(node, children);
}

function draw(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes))
    node.setAttribute(name, value);
  return node;
}

// A reference, which breaks where its parts end.
function reference(text, title) {
  const node = make("span", {class: "name", title});
  for (const part of text.split(/(?<=[/:@])/))
    node.append(part, make("wbr"));
  return node;
}

// Only what has changed is written: readers of the screen are told of no more.
function say(id, text) {
  const node = at(id);
  if (node.textContent !== text)
    node.textContent = text;
}

function figure(id, value, text) {
  const node = at(id);
  node.value = value === null ? "" : String(value);
  if (node.textContent !== text)
    node.textContent = text;
}

function show(id, is_shown) {
  at(id).hidden = !is_shown;
}

// "5 min ago", with the time itself behind it.
function ago(at_s, now_s) {
  if (at_s === null)
    return make("span", {}, "–");
  const date = new Date(at_s * 1000);
  return make("time", {datetime: date.toISOString(), title: date.toLocaleString()},
              now_s - at_s < 5 ? "just now" : `${span(now_s - at_s)} ago`);
}

// --- charts ---

const WIDTH = 300, HEIGHT = 80;

// A power of two, and not too small a one, so that an idle line is flat.
function ceiling(peak) {
  let top = 64 * 1024;
  while (top < peak)
    top *= 2;
  return top;
}

function curve(name, series, slots) {
  const chart = at(`${name}-chart`);
  const peak = Math.max(0, ...series);
  const top = ceiling(peak);
  const step = WIDTH / (slots - 1);
  const start = WIDTH - step * (series.length - 1);
  const points = series.map((n, i) =>
    `${(start + i * step).toFixed(2)},${(HEIGHT - n / top * (HEIGHT - 4)).toFixed(2)}`);
  chart.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  chart.replaceChildren(draw("line", {class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT}));
  if (series.length > 1) {
    const line = `M${points.join("L")}`;
    chart.append(draw("path", {class: "area", d: `${line}L${WIDTH},${HEIGHT}L${start.toFixed(2)},${HEIGHT}Z`}),
                 draw("path", {class: "edge", d: line}));
  }
  const last = series.length ? series[series.length - 1] : 0;
  chart.setAttribute("aria-label", `Last five minutes: now ${rate(last)}, at most ${rate(peak)}`);
  figure(`${name}-rate`, last, rate(last));
  say(`${name}-bits`, bits(last));
  say(`${name}-peak`, peak ? `at most ${rate(peak)}` : "");
}

function bars(days) {
  const chart = at("days");
  const top = Math.max(1, ...days.map(d => Math.max(d.lan_bytes, d.line_bytes)));
  const step = WIDTH / days.length;
  const height = n => n ? Math.max(1, n / top * (HEIGHT - 2)) : 0;
  chart.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const nodes = [draw("line", {class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT})];
  days.forEach((d, i) => {
    const x = (i * step + step * .12).toFixed(2);
    let y = HEIGHT;
    for (const [name, n] of [["bar-line", d.line_bytes], ["bar-saved", d.saved_bytes]]) {
      if (!n)
        continue;
      y -= height(n);
      const bar = draw("rect", {class: name, x, y: y.toFixed(2), width: (step * .76).toFixed(2),
                                height: height(n).toFixed(2)});
      const title = draw("title", {});
      title.textContent = `${d.day}: ${size(d.line_bytes)} came by the line, ${size(d.saved_bytes)} were saved`;
      bar.append(title);
      nodes.push(bar);
    }
  });
  chart.replaceChildren(...nodes);
  const busy = days.filter(d => d.lan_bytes || d.line_bytes).length;
  chart.setAttribute("aria-label", `Bytes a day of the last ${days.length} days, ` +
    `${count(busy, "day", "days")} of them with traffic; most in a day: ${size(top === 1 ? 0 : top)}`);
  say("days-span", `${days[0].day} to ${days[days.length - 1].day}`);
}

// --- sections ---

function draw_state(status) {
  const state = at("state");
  const away = upstreams.filter(is_down).map(u => u.registry);
  const worries = [];
  let kind = "good", text = "Ready";
  if (away.length)
    worries.push(`not reached: ${away.join(", ")}`);
  if (status.stats.lost_blobs)
    worries.push(`${count(status.stats.lost_blobs, "blob is", "blobs are")} lost`);
  if (!status.ready) {
    kind = "bad";
    text = `Not ready: ${status.reason}`;
  } else if (worries.length) {
    kind = "warn";
    text = ["Ready", ...worries].join("; ");
  }
  state.dataset.state = kind;
  say("state-text", text);
}

function served(sum) {
  return sum.lan_requests ? `of ${size(sum.lan_bytes)} that clients got` : "nothing was asked for yet";
}

function draw_status(s) {
  document.body.classList.remove("old");
  ahead_s = s.now - Date.now() / 1000;
  draw_state(s);
  figure("month-saved", s.month.saved_bytes, size(s.month.saved_bytes));
  say("month-text", s.month.lan_requests
    ? `Clients got ${size(s.month.lan_bytes)}; ${size(s.month.line_bytes)} came by the line.`
    : "Nothing was asked for this month yet.");
  figure("month-ratio", s.month.hit_ratio, percent(s.month.hit_ratio));
  say("ratio-text", !s.month.lan_requests ? "nothing was asked for yet" : `${s.month.hits.toLocaleString("en")} of ` +
    `${count(s.month.lan_requests, "request", "requests")}`);
  figure("today-saved", s.today.saved_bytes, size(s.today.saved_bytes));
  say("today-text", served(s.today));
  figure("all-saved", s.all.saved_bytes, size(s.all.saved_bytes));
  say("all-text", served(s.all));
  bars(s.days);
  const slots = 300000 / s.rates.period_ms;
  curve("line", s.rates.line, slots);
  curve("lan", s.rates.lan, slots);
  show("welcome", s.all.lan_requests === 0 && s.held.tags === 0);
  draw_disk(s);
  show("login", s.viewer.may_login && !s.viewer.user);
  show("user", s.viewer.user !== null);
  say("user", s.viewer.user === null ? "" : `You are ${s.viewer.user}.`);
  say("about", `cachalot ${s.version}, up for ${span(s.now - s.started_at)}; ` +
    `${count(s.held.blobs, "blob", "blobs")}, ${count(s.held.manifests, "manifest", "manifests")}, ` +
    `${count(s.held.tags, "tag", "tags")}; ${count(s.stats.connections, "connection", "connections")}`);
}

function fact(name, text, kind) {
  return [make("dt", {}, name), make("dd", {class: kind}, text)];
}

function draw_disk(s) {
  const disk = s.disk, stats = s.stats;
  const cached = stats.cache_bytes, limit = stats.cache_limit_bytes;
  const facts = [];
  if (disk === null) {
    figure("disk-main", null, "not known");
    say("disk-unit", "the cache directory does not answer");
    return;
  }
  const used = disk.bytes - disk.free_bytes;
  const own = Math.min(cached || 0, used);
  if (cached === undefined) {
    figure("disk-main", disk.free_bytes, size(disk.free_bytes));
    say("disk-unit", `free of ${size(disk.bytes)}`);
  } else {
    figure("disk-main", cached, size(cached));
    say("disk-unit", limit ? `of the ${size(limit)} that the cache may have` : "held");
    facts.push(...fact("Free on the disk", `${size(disk.free_bytes)} of ${size(disk.bytes)}`,
                       disk.free_bytes < stats.cache_min_free_bytes ? "bad" : null));
  }
  at("disk-cache").setAttribute("width", disk.bytes ? (own / disk.bytes * 100).toFixed(3) : "0");
  at("disk-other").setAttribute("width", disk.bytes ? (used / disk.bytes * 100).toFixed(3) : "0");
  at("disk-bar").setAttribute("aria-label",
    `${size(used)} of ${size(disk.bytes)} used${cached === undefined ? "" : `, ${size(own)} by the cache`}`);
  for (const [row, name, word] of DISK_FACTS)
    if (stats[row] !== undefined)
      facts.push(...fact(name, word(stats[row], s.now)));
  const troubles = TROUBLES.filter(([row]) => stats[row] > 0);
  if (s.requests.stale)
    facts.push(...fact("Answers not confirmed by an upstream", s.requests.stale.toLocaleString("en"), "warn"));
  for (const [row, name, kind] of troubles)
    facts.push(...fact(name, stats[row].toLocaleString("en"), kind));
  if (!troubles.length && !s.requests.stale)
    facts.push(...fact("Troubles since the start", "none", "good"));
  at("disk-facts").replaceChildren(...facts);
}

// Counters that are shown when the daemon has them.
const DISK_FACTS = [
  ["cache_min_free_bytes", "Kept free", n => size(n)],
  ["evicted_bytes", "Evicted since the start", n => size(n)],
  ["scrub_ended_at", "All read and checked", (n, now_s) => n ? `${span(now_s - n)} ago` : "not yet"],
];

// And those that had better be 0: shown when they are not.
const TROUBLES = [
  ["lost_blobs", "Blobs lost", "bad"],
  ["scrub_bad", "Blobs that had gone bad", "warn"],
  ["scrub_healed", "Of these fetched anew", "good"],
  ["blobs_dropped", "Files found missing or unreadable", "bad"],
  ["verify_failures", "Contents that were wrong", "warn"],
  ["store_failures", "Failed writes", "bad"],
  ["streamed_unstored", "Passed on, no room to keep", "warn"],
];

function draw_fetches(answer) {
  const fetches = answer.fetches.slice().sort((a, b) => b.elapsed_ms - a.elapsed_ms);
  at("fetch-list").replaceChildren(...fetches.map(f => {
    const known = f.size_bytes !== null;
    const bar = make("progress", {max: known ? Math.max(1, f.size_bytes) : null,
                                  value: known ? f.done_bytes : null,
                                  "aria-label": `${f.name || "a blob"}, ${f.digest.slice(0, 19)}`});
    const parts = [known ? `${size(f.done_bytes)} of ${size(f.size_bytes)}` : "asking the upstream",
                   count(f.readers, "reader", "readers")];
    if (f.bytes_per_second)
      parts.push(rate(f.bytes_per_second));
    if (f.eta_seconds !== null)
      parts.push(`${span(f.eta_seconds)} left`);
    return make("li", {"data-digest": f.digest},
      make("div", {class: "fetch-line"}, reference(f.name || "a blob"),
           make("span", {class: "digest", title: f.digest}, f.digest.slice(0, 19))),
      bar, make("p", {class: "under"}, parts.join(" · ")));
  }));
  say("fetch-count", fetches.length ? count(fetches.length, "blob", "blobs") : "");
  show("fetch-empty", !fetches.length && !answer.hidden);
  show("fetch-hidden", answer.hidden > 0);
  say("fetch-hidden", answer.hidden ? `${count(answer.hidden, "fetch", "fetches")} of private images` : "");
}

// --- images ---

const wanted = {offset: 0};
let searching = null;

function held(image) {
  if (image.complete && image.index)
    return `complete, ${count(image.platforms, "platform", "platforms")}`;
  if (image.complete)
    return "complete";
  if (!image.of)
    return "not held";
  if (!image.index)
    return `${image.blobs} of ${count(image.of, "blob", "blobs")}`;
  if (!image.held.length)
    return `none of ${count(image.platforms, "platform", "platforms")}`;
  return image.held.map(p => p.blobs === p.of ? p.name : `${p.name} (${p.blobs} of ${p.of} blobs)`).join(", ");
}

function cell(label, attributes, ...children) {
  return make("td", {role: "cell", "data-label": label, ...attributes}, ...children);
}

// What its registry cannot confirm is served as it was.
function staleness(image, now_s) {
  const registry = image.reference.split("/", 1)[0];
  const is_away = !image.local && upstreams.some(u => u.registry === registry && is_down(u));
  return is_away && image.checked_at !== null
    ? fill(make("span", {class: "warn"}), ["; stale, confirmed ", ago(image.checked_at, now_s)]) : null;
}

function image_row(image, now_s) {
  return make("tr", {role: "row", "data-reference": image.reference},
    cell("Image", {}, reference(image.reference, image.digest),
         ...(image.pinned ? [" ", make("span", {class: "badge"}, "pinned")] : []),
         ...(image.local ? [" ", make("span", {class: "badge"}, "local")] : [])),
    cell("Held", {}, fill(make("span", {}), [
      held(image) + (image.moved ? "; has moved to what is not held" : ""), staleness(image, now_s)])),
    cell("Size", {class: "n"}, make("data", {value: image.bytes}, size(image.bytes))),
    cell("Last used", {class: "n"}, ago(image.used_at, now_s)));
}

function draw_images(answer) {
  const search = at("search").value.trim();
  const now_s = server_now();
  const last = answer.offset + answer.images.length;
  at("image-rows").replaceChildren(...answer.images.map(i => image_row(i, now_s)));
  say("image-count", count(answer.total, "tag", "tags"));
  show("image-table", answer.images.length > 0);
  show("image-empty", !answer.images.length);
  say("image-empty", search ? `No image that you may see has “${search}” in its name.`
    : "No image is held that you may see. Set up a client, see below, and pull one.");
  show("pager", answer.total > PAGE);
  say("page-text", answer.images.length ? `${answer.offset + 1} to ${last} of ${answer.total.toLocaleString("en")}` : "");
  at("prev").disabled = answer.offset === 0;
  at("next").disabled = last >= answer.total || answer.offset + PAGE > OFFSET_MAX;
}

async function load_images() {
  if (searching)
    searching.abort();
  const mine = searching = new AbortController();
  const query = new URLSearchParams({search: at("search").value.trim(), order: at("order").value,
                                     offset: wanted.offset, count: PAGE});
  // The daemon takes %20 for a space, and a plus for a plus.
  const answer = await ask(`/-/api/images?${String(query).replaceAll("+", "%20")}`, mine.signal);
  if (answer && mine === searching)
    draw_images(answer);
}

// --- upstreams, events ---

let upstreams = [];

const is_down = u => u.failure !== null && u.up === 0;

function pulls_left(u) {
  if (u.ratelimit_limit === null || u.ratelimit_remaining === null)
    return "–";
  const window = u.ratelimit_window_s === null ? "" : ` per ${span(u.ratelimit_window_s)}`;
  return `${u.ratelimit_remaining.toLocaleString("en")} of ${u.ratelimit_limit.toLocaleString("en")}${window}`;
}

function upstream_state(u, now_s) {
  if (u.offline)
    return ["not asked (offline)", "warn"];
  if (u.answered_at === null && u.failure === null)
    return ["not asked yet", null];
  if (u.up !== 1)
    return [u.changed_at === null ? "not reached" : `not reached for ${span(now_s - u.changed_at)}`, "bad"];
  if (u.limited_until !== null && u.limited_until > now_s)
    return [`left alone for ${span(u.limited_until - now_s)} (429)`, "warn"];
  return ["up", "good"];
}

function upstream_row(u, now_s) {
  const [text, kind] = upstream_state(u, now_s);
  const is_low = u.ratelimit_limit > 0 && u.ratelimit_remaining <= u.ratelimit_limit / 10;
  return make("tr", {role: "row", "data-registry": u.registry},
    cell("Registry", {}, make("span", {class: "name"}, u.registry)),
    cell("State", {}, make("span", {class: kind}, text)),
    cell("Pulls left", {}, make("span", {class: is_low ? "warn" : null}, pulls_left(u))),
    cell("Fetched", {class: "n"}, make("data", {value: u.line_bytes}, size(u.line_bytes))),
    cell("Last failure", {}, u.failure === null ? "none"
      : fill(make("span", {}), [ago(u.failure.at, now_s), `: ${u.failure.text}`])));
}

function draw_upstreams(answer) {
  const now_s = server_now();
  upstreams = answer.upstreams;
  const rows = upstreams.filter(u => u.configured || u.line_requests || u.lan_requests);
  at("upstream-rows").replaceChildren(...rows.map(u => upstream_row(u, now_s)));
  show("upstream-empty", !rows.length);
}

// Events whose text is withheld look alike: those in a row are shown once.
function merge_events(events) {
  const merged = [];
  for (const e of events) {
    const last = merged.at(-1);
    if (last && last.level === e.level && last.text === e.text)
      last.count += e.count;
    else
      merged.push({...e});
  }
  return merged;
}

function draw_events(answer) {
  const now_s = server_now();
  at("event-list").replaceChildren(...merge_events(answer.events).slice(0, 12).map(e => make("li", {},
    fill(make("span", {class: "under"}), [
      make("span", {class: `level ${e.level}`}, e.level === "error" ? "Error" : "Warning"), " · ",
      ago(e.last_at, now_s), e.count > 1 ? ` · ${e.count.toLocaleString("en")} times` : null]),
    e.text === null ? make("span", {class: "withheld"}, "What it was is in the log on the server.")
      : make("span", {class: "text"}, e.text))));
  show("event-empty", !answer.events.length);
}

// --- set-up ---

function choose(tabs, entries, index, with_focus) {
  tabs.forEach((tab, i) => {
    tab.setAttribute("aria-selected", i === index ? "true" : "false");
    tab.tabIndex = i === index ? 0 : -1;
  });
  if (with_focus)
    tabs[index].focus();
  at("panel").setAttribute("aria-labelledby", tabs[index].id);
  at("command").textContent = entries[index].command;
  at("script").setAttribute("href", `/-/setup/${encodeURIComponent(entries[index].page)}`);
}

const KEYS = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};

function draw_setup(answer) {
  const entries = answer.clients;
  if (!entries.length)
    return;
  // Each word whole: browsers break lines after the hyphen of CRI-O.
  const tabs = entries.map((e, i) => make(
    "button", {type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "panel"},
    ...e.title.split(/( )/).map((word, n) => n % 2 ? word : make("span", {}, word))));
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tabs, entries, i, false));
    tab.addEventListener("keydown", event => {
      const step = KEYS[event.key];
      const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1
        : step ? (i + step + tabs.length) % tabs.length : -1;
      if (to < 0)
        return;
      event.preventDefault();
      choose(tabs, entries, to, true);
    });
  });
  at("tabs").replaceChildren(...tabs);
  choose(tabs, entries, 0, false);
  show("panel", true);
  show("setup-fallback", false);
  if (answer.ca_sha256)
    say("authority", `· SHA-256 of the authority's certificate: ${answer.ca_sha256}`);
}

function set_up_copying() {
  // Only in a secure context: over plain HTTP the command is selected by hand.
  if (!navigator.clipboard)
    return;
  const button = at("copy");
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(at("command").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// --- asking ---

let answered_at = null;

function draw_silence() {
  document.body.classList.add("old");
  at("state").dataset.state = "bad";
  say("state-text", answered_at === null ? "No answer" : `No answer since ${answered_at.toLocaleTimeString()}`);
}

// The JSON of a path, or null.
async function ask(path, signal) {
  try {
    // From the origin: the address may have a name and a password before it, which fetch refuses.
    const answer = await fetch(location.origin + path, {signal, cache: "no-store", headers: {Accept: "application/json"}});
    if (!answer.ok)
      return null;
    return await answer.json();
  } catch {
    return null;
  }
}

async function poll(path, take) {
  const answer = await ask(path);
  if (answer)
    take(answer);
  return answer !== null;
}

// Runs now and then while the page is visible, never twice at once.
function every(ms, work) {
  let is_busy = false, due = 0;
  const run = async () => {
    if (document.hidden || is_busy || performance.now() < due)
      return;
    is_busy = true;
    due = performance.now() + ms - 50;
    try {
      await work();
    } finally {
      is_busy = false;
    }
  };
  setInterval(run, ms);
  document.addEventListener("visibilitychange", run);
  run();
}

async function poll_live() {
  const is_answered = await poll("/-/api/status", draw_status);
  if (!is_answered) {
    draw_silence();
    return;
  }
  answered_at = new Date();
  await poll("/-/api/fetches", draw_fetches);
}

function start() {
  let timer = 0;
  const search_anew = () => {
    wanted.offset = 0;
    load_images();
  };
  const turn = step => {
    wanted.offset = Math.max(0, wanted.offset + step * PAGE);
    load_images();
  };
  say("host", location.host);
  document.title = `cachalot · ${location.hostname}`;
  at("search-form").addEventListener("submit", event => {
    event.preventDefault();
    search_anew();
  });
  at("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search_anew, SEARCH_MS);
  });
  at("order").addEventListener("change", search_anew);
  at("prev").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  set_up_copying();
  every(SLOW_MS, async () => {
    await poll("/-/api/upstreams", draw_upstreams);
    await poll("/-/api/events", draw_events);
  });
  every(LIVE_MS, poll_live);
  every(IMAGES_MS, load_images);
  poll("/-/setup/index.json", draw_setup);
}

start();
