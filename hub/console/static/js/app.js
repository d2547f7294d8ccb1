// The console's shell: navigation, clock, language, theme, alarms, and drawing the page that the address names.

import { count, date, isNumber, NONE, timeOfDay } from "./format.js";
import { summary } from "./health.js";
import { language, LANGUAGES, setLanguage, t, word } from "./i18n.js";
import { icon } from "./icons.js";
import { chains } from "./pages/chains.js";
import { grid } from "./pages/grid.js";
import { learning } from "./pages/learning.js";
import { market } from "./pages/market.js";
import { overview } from "./pages/overview.js";
import { privacy } from "./pages/privacy.js";
import { connect, store } from "./store.js";
import { h, patch } from "./vdom.js";

const PAGES = { overview, grid, market, learning, chains, privacy };
const THEMES = ["auto", "light", "dark"];
const SLOT_SECONDS = 900;
const MAX_GUESS_S = 5; // the clock runs on by itself for so long after the hub last told it
const DEFAULT_ZONE = "Asia/Seoul";

const at = (id) => document.getElementById(id);
let drawn = false;

function page() {
  const name = location.hash.replace(/^#\/?/, "").split("?")[0]; // behind it stands what the page itself reads
  return Object.hasOwn(PAGES, name) ? name : "overview";
}

function zoneOf() {
  const zone = store.sections.overview?.time_zone;
  try {
    return new Intl.DateTimeFormat("en", { timeZone: zone || DEFAULT_ZONE }).resolvedOptions().timeZone;
  } catch (error) {
    return DEFAULT_ZONE;
  }
}

/** The simulated time now: what the hub said, moved on by its own speed for at most MAX_GUESS_S. */
function simNow() {
  const told = store.sections.overview;
  if (!told || !isNumber(told.sim_time)) return null;
  const since = Math.min(MAX_GUESS_S, (performance.now() - store.putAt.overview) / 1000);
  return told.sim_time + (store.link === "live" ? since * (told.speed || 0) : 0);
}

function draw() {
  drawn = false;
  const name = page();
  document.title = `${t(`page_${name}`)} · Open MG`;
  patch(at("skip"), t("skip"));
  patch(at("side"), side(name));
  patch(at("top"), top(name));
  patch(at("banner"), banner());
  const main = at("main");
  main.dataset.page = name;
  patch(main, [
    h("h1", { class: "unseen", key: "h1" }, t(`page_${name}`)),
    h("div", { key: name, class: `page page-${name}` }, PAGES[name](zoneOf())),
  ]);
  drawClock();
}

function soon() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(draw);
}

function side(current) {
  const level = {};
  for (const row of summary().troubled) level[row.page] = level[row.page] === "bad" ? "bad" : row.level;
  return [
    h(
      "a",
      { class: "brand", href: "#/overview", key: "brand", "aria-label": "Open MG" },
      logo(),
      h("span", {}, h("b", {}, "Open"), " MG"),
    ),
    h(
      "nav",
      { key: "nav", "aria-label": t("navigation") },
      h(
        "ul",
        {},
        Object.keys(PAGES).map((name) =>
          h(
            "li",
            { key: name },
            h(
              "a",
              { href: `#/${name}`, "aria-current": name === current ? "page" : null },
              icon(name),
              h("span", { class: "nav-word" }, t(`nav_${name}`)),
              level[name] &&
                h(
                  "span",
                  { class: `nav-mark is-${level[name]}`, title: t(`status_${level[name]}`) },
                  icon(level[name]),
                  h("span", { class: "unseen" }, t(`status_${level[name]}`)),
                ),
            ),
          ),
        ),
      ),
    ),
    h(
      "footer",
      { key: "foot" },
      h("p", {}, t("offline_note")),
      h(
        "p",
        {},
        h("a", { href: "/api/report" }, t("report_json")),
        " · ",
        h("a", { href: "/api/state" }, t("state_json")),
      ),
    ),
  ];
}

function logo() {
  return h(
    "svg",
    { viewBox: "0 0 32 32", width: 30, height: 30, "aria-hidden": "true", class: "logo" },
    h("rect", { width: 32, height: 32, rx: 8 }),
    h("path", { class: "hexagon", d: "M16 5.5 25 10.75v10.5L16 26.5 7 21.25v-10.5z" }),
    h("path", { class: "bolt", d: "M17.4 10 12.2 17h3.6l-1.2 5 5.2-7h-3.6z" }),
  );
}

function top(name) {
  const told = store.sections.overview;
  const zone = zoneOf();
  const facts = told
    ? [
        isNumber(told.homes) && t("homes_n", { n: count(told.homes) }),
        isNumber(told.hubs) && t("hubs_n", { n: count(told.hubs) }),
        isNumber(told.speed) && told.speed !== 1 && t("speed_n", { n: Math.round(told.speed * 10) / 10 }),
        told.phase && word("phase", told.phase),
      ].filter(Boolean)
    : [];
  return [
    h(
      "div",
      { class: "top-title", key: "title" },
      h("p", { class: "title" }, t(`page_${name}`)),
      h(
        "p",
        { class: "facts" },
        facts.map((fact, i) => h("span", { key: i }, fact)),
      ),
    ),
    h(
      "div",
      { class: "clock", key: "clock", title: told ? t(told.speed === 1 ? "time_in" : "sim_time_in", { zone }) : null },
      h("time", { id: "clock-time" }, NONE),
      h("span", { class: "clock-date" }, told ? date(simNow(), zone) : t("no_clock")),
      h("span", { class: "clock-slot" }, told && isNumber(told.slot) ? t("slot_n", { n: told.slot }) : ""),
    ),
    h("div", { class: "tools", key: "tools" }, linkState(), languageButton(), themeButton()),
    h("div", { class: "slot-progress", key: "progress", "aria-hidden": "true" }, h("i", { id: "slot-bar" })),
  ];
}

function drawClock() {
  const now = simNow();
  const time = at("clock-time");
  if (!time) return;
  const text = now === null ? NONE : timeOfDay(now, zoneOf(), true);
  if (time.textContent !== text) time.textContent = text;
  at("slot-bar")?.style.setProperty(
    "width",
    now === null ? "0" : `${(((now % SLOT_SECONDS) / SLOT_SECONDS) * 100).toFixed(1)}%`,
  );
}

function linkState() {
  return h(
    "span",
    { class: `link is-${store.link}`, id: "link" },
    h("i", { "aria-hidden": "true" }),
    h("span", {}, t(`link_${store.link}`)),
  );
}

function languageButton() {
  const other = language() === "en" ? "ko" : "en";
  return h(
    "button",
    {
      type: "button",
      id: "language",
      lang: other,
      onclick: () => {
        setLanguage(other);
        soon();
      },
    },
    icon("language"),
    LANGUAGES[other],
  );
}

function themeButton() {
  const current = document.documentElement.dataset.theme || "auto";
  const label = t("theme_is", { name: t(`theme_${current}`) });
  return h(
    "button",
    { type: "button", id: "theme", title: label, "aria-label": label, onclick: nextTheme },
    icon("theme"),
    h("span", { class: "theme-word" }, t(`theme_${current}`)),
  );
}

function nextTheme() {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme || "auto") + 1) % THEMES.length];
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    localStorage.setItem("og.theme", next);
  } catch (error) {
    // Storage is off in this browser: the choice lasts as long as the page.
  }
  soon();
}

function banner() {
  if (store.link !== "lost") return null;
  return h("p", { class: "banner is-bad" }, icon("warn"), t("banner_lost"));
}

/** Warnings and alarms are spoken: warnings when the reader pauses, alarms at once. */
function announce(events) {
  for (const [severity, id] of [
    ["warning", "say-polite"],
    ["alarm", "say-now"],
  ]) {
    const last = events.filter((event) => event.severity === severity).pop();
    if (last) at(id).textContent = `${t(`sev_${severity}`)}: ${last[language()]}`;
  }
}

connect((events) => {
  announce(events);
  soon();
});
addEventListener("hashchange", () => {
  const before = at("main").dataset.page;
  draw();
  if (at("main").dataset.page === before) return; // another model of the same page: reader and focus stay where they are
  scrollTo(0, 0);
  at("main").focus({ preventScroll: true });
});
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
setInterval(drawClock, 200);
draw();
