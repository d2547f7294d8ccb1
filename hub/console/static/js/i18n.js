// The two languages. `t(key, values)` gives a text with its {placeholders} filled; a key that one language lacks is an
// error in the tests, and shows as the key itself here. `key_one` is used where {n} is 1.

import { TEXT as en } from "./text_en.js";
import { TEXT as enLearning } from "./text_en_learning.js";
import { TEXT as ko } from "./text_ko.js";
import { TEXT as koLearning } from "./text_ko_learning.js";

export const LANGUAGES = { en: "English", ko: "한국어" };
const TEXTS = { en: { ...en, ...enLearning }, ko: { ...ko, ...koLearning } };

export function language() {
  return document.documentElement.lang in TEXTS ? document.documentElement.lang : "en";
}

export function setLanguage(lang) {
  document.documentElement.lang = lang;
  try {
    localStorage.setItem("og.lang", lang);
  } catch (error) {
    // Storage is off in this browser: the choice lasts as long as the page.
  }
}

export function t(key, values = {}) {
  const texts = TEXTS[language()];
  const one = String(values.n) === "1" ? texts[`${key}_one`] : undefined;
  const text = one ?? texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text `prefix_value`, or the value itself when there is none: for words that the hub chooses. */
export function word(prefix, value) {
  const key = `${prefix}_${value}`;
  return key in TEXTS[language()] ? t(key) : String(value);
}

/** The text of a value that the hub gives in both languages (`x_en`, `x_ko`) or in one (`x`). */
export function said(object, name) {
  const own = object?.[`${name}_${language()}`] ?? object?.[name] ?? object?.[`${name}_en`];
  return own === undefined || own === null ? "" : String(own);
}
