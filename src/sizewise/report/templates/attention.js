"use strict";
// Full attention beside a sliding window, on the reader's own sentence.
(() => {
  const {caches, tokens: given, sentence} = JSON.parse(document.getElementById("attention-data").textContent);
  const get = id => document.getElementById(id), MOST = 32, LONG = 8, PIECE = 6;
  const input = get("sentence"), width = get("window"), blocks = get("blocks");
  let tokens = [], chosen = 0;
  // Words and punctuation; long words in pieces, as a tokenizer splits what it has rarely seen.
  const split = text => (text.match(/\s*(?:[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}])/gu) || []).flatMap(word => {
    const letters = [...word], lead = letters.findIndex(one => one.trim()), parts = [];
    if (letters.length - lead <= LONG) return [word];
    for (let i = lead; i < letters.length; i += PIECE) parts.push(letters.slice(i === lead ? 0 : i, i + PIECE).join(""));
    return parts;
  });
  // 2: looks at it directly, 1: through earlier blocks, 0: not at all. Each block passes a token on by window - 1 places.
  const reach = (from, to, span, depth) => to > from ? -1 : from - to < span ? 2 : from - to <= depth * (span - 1) ? 1 : 0;
  const names = {2: "direct", 1: "indirect", 0: "none"};
  const short = text => [...text.trim()].length > 9 ? `${[...text.trim()].slice(0, 8).join("")}…` : text.trim();
  const make = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  function draw(place, span, depth) {
    const n = tokens.length, side = 12, left = 62, svg = make("svg", {viewBox: `0 0 ${left + n * side + 2} ${n * side + 2}`, role: "img"});
    let seen = 0;
    for (let from = 0; from < n; from++) {
      svg.append(make("text", {x: left - 4, y: from * side + 9.5, "text-anchor": "end"}, short(tokens[from])));
      for (let to = 0; to <= from; to++) {
        const kind = reach(from, to, span, depth);
        seen += kind === 2;
        svg.append(make("rect", {x: left + to * side, y: from * side, width: side - 1.5, height: side - 1.5, rx: 2, class: names[kind] + (from === chosen ? " row-on" : "")}));
      }
    }
    svg.setAttribute("aria-label", `Who attends to whom: ${seen} of ${n * (n + 1) / 2} pairs of tokens are looked at directly. Each row is a token, each column one that it may look at.`);
    svg.style.maxWidth = `${1.7 * (left + n * side)}px`;
    get(place).replaceChildren(svg);
    return seen;
  }
  function show() {
    const n = tokens.length, span = Math.min(Number(width.value), Math.max(1, n)), depth = Number(blocks.value), pairs = n * (n + 1) / 2;
    get("window-value").textContent = width.value;
    get("blocks-value").textContent = blocks.value;
    const full = draw("full-matrix", n, 1), some = draw("window-matrix", span, depth);
    get("full-caption").textContent = `${full} pairs: they grow with the square of the length.`;
    get("window-caption").textContent = `${some} pairs (${pairs ? Math.round(100 * some / pairs) : 0}%): they grow with the length.`;
    [...get("tokens").children].forEach((button, i) => {
      button.setAttribute("aria-pressed", i === chosen);
      button.className = i < chosen ? names[reach(chosen, i, span, depth)] : "";
    });
    if (!n) { get("reading").textContent = "Type a sentence."; return; }
    const direct = Math.min(chosen + 1, span), far = Math.min(chosen + 1, depth * (span - 1) + 1);
    get("reading").textContent = `“${tokens[chosen].trim()}” looks at ${chosen + 1} of ${chosen + 1} tokens with full attention, at ${direct} with the window` +
      (far > direct ? `, and learns of ${far - direct} more through ${depth} blocks.` : chosen + 1 > direct ? `; ${chosen + 1 - direct} are out of its sight.` : ".");
  }
  function read() {
    const exact = given.length && input.value === sentence, all = exact ? given : split(input.value);
    tokens = all.slice(0, MOST);
    chosen = Math.max(0, tokens.length - 1);
    width.max = Math.max(2, Math.min(16, tokens.length));
    get("token-note").textContent = (exact ? "Tokens of the model's own tokenizer." : "Tokens by a simple rule: words, punctuation, and pieces of long words. A model's own tokens differ.") +
      (all.length > MOST ? ` The first ${MOST} of ${all.length} are drawn.` : "");
    get("tokens").replaceChildren(...tokens.map((token, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = token.trim() || "␣";
      button.onclick = () => { chosen = i; show(); };
      return button;
    }));
    show();
  }
  input.oninput = read;
  width.oninput = blocks.oninput = show;
  for (const id of ["attention-form", "cache-form", "tokens", "matrices"]) get(id).hidden = false;
  for (const id of ["attention-form", "cache-form"]) get(id).onsubmit = event => event.preventDefault();
  read();

  // The cache: bytes per token and block, times the tokens that each block keeps.
  const shapes = [...caches, {name: "Mistral 7B v0.1, as published", layers: 32, window_layers: 32, window: 4096, bytes_per_token: 4096}];
  const select = get("shape"), context = get("context");
  select.replaceChildren(...shapes.map((shape, i) => new Option(shape.name, i)));
  const size = bytes => bytes >= 1e9 ? `${(bytes / 1e9).toPrecision(3)} GB` : bytes >= 1e6 ? `${(bytes / 1e6).toPrecision(3)} MB` : `${(bytes / 1e3).toPrecision(3)} kB`;
  function showCache() {
    const shape = shapes[select.value], count = 1024 * 2 ** context.value;
    const window = shape.window || 512, windowed = shape.window ? shape.window_layers : shape.layers;
    const full = shape.layers * count * shape.bytes_per_token;
    const some = (windowed * Math.min(count, window) + (shape.layers - windowed) * count) * shape.bytes_per_token;
    get("context-value").textContent = count.toLocaleString("en");
    get("cache").replaceChildren(...[["Full attention", full], [`Window ${window.toLocaleString("en")}`, some]].map(([name, bytes]) => {
      const line = document.createElement("div"), bar = document.createElement("i"), track = document.createElement("span");
      line.className = "line";
      track.className = "track";
      bar.style.width = `${100 * bytes / full}%`;
      track.append(bar);
      const label = document.createElement("span"), value = document.createElement("span");
      label.textContent = name;
      value.textContent = size(bytes);
      value.className = "size";
      line.append(label, track, value);
      return line;
    }));
    get("cache-note").textContent = `${shape.name}: ${shape.layers} blocks` + (shape.window ? `, ${shape.window_layers} with a window of ${shape.window.toLocaleString("en")} tokens` : ", all with full attention; the second line computes what a window of 512 tokens would save") +
      `; ${size(shape.bytes_per_token)} per token and block in bf16. ` + (full > some ? `The window saves ${Math.round(100 * (1 - some / full))}% of the cache of each user.` : "At this length the window saves nothing.");
  }
  select.onchange = context.oninput = showCache;
  showCache();
})();
