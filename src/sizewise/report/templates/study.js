"use strict";
const form = document.getElementById("needs"), answer = document.getElementById("answer"), asked = document.getElementById("asked");
const inputs = [...form.querySelectorAll("input[type=range]")];
const limits = {};
// Sliders are logarithmic where a need spans more than a factor of ten.
const scaled = input => {
  const low = +input.dataset.low, high = +input.dataset.high, part = input.value / 100;
  return low > 0 && high / low > 10 ? low * (high / low) ** part : low + (high - low) * part;
};
const placed = (input, value) => {
  const low = +input.dataset.low, high = +input.dataset.high;
  return 100 * (low > 0 && high / low > 10 ? Math.log(value / low) / Math.log(high / low) : (value - low) / Math.max(1e-12, high - low));
};
const round = (input, value) => input.name === "requests_per_month" ? Math.round(value) : +value.toPrecision(3);
const none = input => ["requests_per_month", "machine_usd_per_hour"].includes(input.name) ? "not given" : "no limit";
function tell(input) {
  const value = limits[input.name];
  input.parentElement.querySelector("output").textContent = value == null ? none(input) : `${value.toLocaleString()} ${input.dataset.unit}`.trim();
  input.setAttribute("aria-valuetext", value == null ? none(input) : `${value} ${input.dataset.unit}`.trim());
}
for (const input of inputs) {
  if (input.dataset.value) { limits[input.name] = +input.dataset.value; input.value = placed(input, limits[input.name]); }
  else input.value = input.name === "min_quality" ? 0 : 100;
  tell(input);
  input.oninput = () => { limits[input.name] = round(input, scaled(input)); tell(input); soon(); };
}
form.querySelectorAll("[data-clear]").forEach(button => button.onclick = event => {
  event.preventDefault();
  delete limits[button.dataset.clear];
  tell(inputs.find(input => input.name === button.dataset.clear));
  soon();
});
form.onsubmit = event => event.preventDefault();
form.quality.onchange = () => { delete limits.min_quality; soon(true); };
form.local_only.onchange = () => soon();
let waiting = 0, number = 0;
function soon(again) { clearTimeout(waiting); waiting = setTimeout(() => ask(again), 60); }
async function ask(again) {
  const mine = ++number, begun = performance.now();
  const needs = {...start, ...Object.fromEntries(inputs.map(input => [input.name, limits[input.name] ?? null])), quality: form.quality.value, local_only: form.local_only.checked};
  try {
    const reply = await fetch("choose", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(needs)});
    const told = await reply.json();
    if (mine !== number) return;
    if (!reply.ok) throw new Error(told.error.message);
    answer.innerHTML = told.html;
    document.getElementById("toml").textContent = told.needs;
    asked.textContent = `${told.recommendation.summary} (decided again in ${Math.round(performance.now() - begun)} ms)`;
    if (again) {
      const input = inputs.find(one => one.name === "min_quality"), slider = told.min_quality;
      if (input && slider) { Object.assign(input.dataset, {low: slider.lower, high: slider.upper}); input.value = 0; input.parentElement.querySelector("span").firstChild.textContent = slider.label + ": "; tell(input); }
    }
  } catch (error) { if (mine === number) asked.textContent = error.message; }
}
const items = document.getElementById("items");
let from = 0;
async function browse(more) {
  from = more ? from + 10 : 0;
  const query = new URLSearchParams({tag: document.getElementById("tag").value, order: document.getElementById("order").value, from});
  const html = await (await fetch(`items?${query}`)).text();
  if (more) items.insertAdjacentHTML("beforeend", html); else items.innerHTML = html;
}
document.getElementById("tag").onchange = document.getElementById("order").onchange = () => browse(false);
document.getElementById("more").onclick = () => browse(true);
