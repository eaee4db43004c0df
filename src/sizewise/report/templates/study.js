"use strict";
const form = document.getElementById("needs"), result = document.getElementById("result");
const inputs = [...form.querySelectorAll("input[type=range]")];
const limits = {};
// A slider is logarithmic if its range spans more than a factor of ten.
const sliderValue = input => {
  const lower = +input.dataset.lower, upper = +input.dataset.upper, part = input.value / 100;
  return lower > 0 && upper / lower > 10 ? lower * (upper / lower) ** part : lower + (upper - lower) * part;
};
const sliderPosition = (input, value) => {
  const lower = +input.dataset.lower, upper = +input.dataset.upper;
  return 100 * (lower > 0 && upper / lower > 10 ? Math.log(value / lower) / Math.log(upper / lower) : (value - lower) / Math.max(1e-12, upper - lower));
};
const round = (input, value) => input.name === "requests_per_month" ? Math.round(value) : +value.toPrecision(3);
const unset = input => ["requests_per_month", "machine_usd_per_hour"].includes(input.name) ? "not set" : "no limit";
function showValue(input) {
  const value = limits[input.name];
  input.parentElement.querySelector("output").textContent = value == null ? unset(input) : `${value.toLocaleString()} ${input.dataset.unit}`.trim();
  input.setAttribute("aria-valuetext", value == null ? unset(input) : `${value} ${input.dataset.unit}`.trim());
}
for (const input of inputs) {
  if (input.dataset.value) { limits[input.name] = +input.dataset.value; input.value = sliderPosition(input, limits[input.name]); }
  else input.value = input.name === "min_quality" ? 0 : 100;
  showValue(input);
  input.oninput = () => { limits[input.name] = round(input, sliderValue(input)); showValue(input); scheduleUpdate(); };
}
form.querySelectorAll("[data-clear]").forEach(button => button.onclick = event => {
  event.preventDefault();
  delete limits[button.dataset.clear];
  showValue(inputs.find(input => input.name === button.dataset.clear));
  scheduleUpdate();
});
form.onsubmit = event => event.preventDefault();
form.quality.onchange = () => { delete limits.min_quality; scheduleUpdate(true); };
form.local_only.onchange = () => scheduleUpdate();
let timer = 0, latest = 0;
function scheduleUpdate(rescale) { clearTimeout(timer); timer = setTimeout(() => update(rescale), 60); }
async function update(rescale) {
  const request = ++latest, started = performance.now();
  const needs = {...start, ...Object.fromEntries(inputs.map(input => [input.name, limits[input.name] ?? null])), quality: form.quality.value, local_only: form.local_only.checked};
  try {
    const response = await fetch("choose", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(needs)});
    const reply = await response.json();
    if (request !== latest) return;
    if (!response.ok) throw new Error(reply.error.message);
    const parts = document.createElement("template"), places = {"verdict": "verdict", "first-screen": "first-screen", "next-step": "next-step", "evidence": "evidence", "costs": "costs-part"};
    parts.innerHTML = reply.html;
    for (const [part, place] of Object.entries(places)) document.getElementById(place).replaceChildren(...parts.content.querySelector(`[data-part=${part}]`).childNodes);
    document.getElementById("toml").textContent = reply.needs;
    result.textContent = `${reply.recommendation.summary} (updated in ${Math.round(performance.now() - started)} ms)`;
    if (rescale) {
      const input = inputs.find(input => input.name === "min_quality"), slider = reply.min_quality;
      if (input && slider) { Object.assign(input.dataset, {lower: slider.lower, upper: slider.upper}); input.value = 0; input.parentElement.querySelector("span").firstChild.textContent = slider.label + ": "; showValue(input); }
    }
  } catch (error) { if (request === latest) result.textContent = error.message; }
}
const items = document.getElementById("items");
let offset = 0;
async function browse(more) {
  offset = more ? offset + 10 : 0;
  const query = new URLSearchParams({tag: document.getElementById("tag").value, order: document.getElementById("order").value, from: offset});
  const html = await (await fetch(`items?${query}`)).text();
  if (more) items.insertAdjacentHTML("beforeend", html); else items.innerHTML = html;
}
document.getElementById("tag").onchange = document.getElementById("order").onchange = () => browse(false);
document.getElementById("more").onclick = () => browse(true);
