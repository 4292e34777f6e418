// The clock beside the sign that Gradio shows while it loads goes on asking for a frame sixty times a second after
// it has left the page, which takes a tenth of a core for as long as the page is open. So a clock that was begun
// before the page was drawn gets no more frames a second after that. Svelte's own loop must have them.
(() => {
  const ask = window.requestAnimationFrame.bind(window);
  let since = null, drawn = 0;
  const ended = (begun, now) => drawn && begun < drawn && now > drawn + 1000;
  window.requestAnimationFrame = call => {
    const now = performance.now(), begun = since === null ? now : since;
    if (!drawn && window.rlhfLoaded) drawn = now;
    if (ended(begun, now) && /performance\.now\(\) *-/.test(call)) return 0;
    return ask(time => { since = begun; try { call(time); } finally { since = null; } });
  };
})();
