// Ticks the clocks, and says when something has changed. Nothing here decides, and nothing reloads a form.
"use strict";
(() => {
  const news = document.getElementById("news");
  const say = (text, link) => {
    if (!news) return;
    news.textContent = text;
    if (link) {
      const again = document.createElement("a");
      again.href = location.pathname;
      again.textContent = " Show it";
      news.append(again);
    }
  };

  const length = (seconds) => {
    const minutes = Math.floor(Math.max(seconds, 0) / 60);
    if (minutes < 1) return "less than a minute";
    const days = Math.floor(minutes / 1440), hours = Math.floor(minutes / 60) % 24, rest = minutes % 60;
    if (days) return `${days} d ${hours} h`;
    return hours ? `${hours} h ${String(rest).padStart(2, "0")} min` : `${rest} min`;
  };
  // A phone's clock may be wrong: what the page was made at is what the server's was.
  const made = document.querySelector("footer time");
  const ahead = made ? Date.now() - Date.parse(made.dateTime) : 0;
  const warned = new Set();
  const tick = () => {
    for (const clock of document.querySelectorAll("[data-due]")) {
      const seconds = (Date.parse(clock.dataset.due) - (Date.now() - ahead)) / 1000;
      const left = clock.querySelector("[data-left]");
      const text = seconds > 0 ? `${length(seconds)} left` : `over since ${length(-seconds)}`;
      if (left && left.textContent !== text) left.textContent = text;
    }
    const first = document.querySelector("[data-due]");
    if (document.querySelector("[data-answer]") && first) {
      const seconds = (Date.parse(first.dataset.due) - (Date.now() - ahead)) / 1000;
      for (const mark of [60, 300]) {
        if (seconds > 0 && seconds <= mark && !warned.has(mark)) {
          warned.add(60);
          warned.add(mark);
          say(`${length(seconds)} left to answer.`);
          break;
        }
      }
    }
  };
  setInterval(tick, 5000);
  tick();

  const state = document.body.dataset.state;
  let version = document.body.dataset.version, pause = 5000, told = false;
  const refill = async () => {
    const region = document.querySelector("[data-live]");
    if (!region || region.contains(document.activeElement)) return false;
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return false;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
    if (!fresh) return false;
    region.replaceWith(fresh);
    tick();
    return true;
  };
  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(state, { headers: { accept: "application/json" } });
        if (answer.status === 401 || answer.status === 403 || answer.status === 404 || answer.status === 410) return;
        if (!answer.ok) throw new Error(answer.status);
        const now = await answer.json();
        pause = 5000;
        if (now.version && now.version !== version && !told) {
          version = now.version;
          if (await refill()) say("The list has changed.");
          else { told = true; say("This has changed since you opened it.", true); }
        }
        if (now.ended && told) return;
      } catch {
        pause = Math.min(pause * 2, 60000);
      }
    }
    setTimeout(look, pause);
  };
  if (state) setTimeout(look, pause);
})();
