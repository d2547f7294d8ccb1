// Runs before the first paint: sets language and theme, so that the page never flashes in the wrong one.
// Choices are "og.lang" (en, ko) and "og.theme" (light, dark, auto) in localStorage; without them, the browser decides.
(function () {
  "use strict";
  var root = document.documentElement;
  var read = function (key) {
    try {
      return localStorage.getItem(key);
    } catch (error) {
      return null;
    }
  };
  var lang = read("og.lang");
  if (lang !== "en" && lang !== "ko") {
    lang = (navigator.language || "en").toLowerCase().indexOf("ko") === 0 ? "ko" : "en";
  }
  root.lang = lang;
  var theme = read("og.theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
})();
